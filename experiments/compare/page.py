"""The page of a comparison: what the runs show, how sure that is, and every run."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from experiments.compare.learned import learned
from experiments.records.metric import Metric
from experiments.records.plan import digest, shared
from experiments.records.runs import Run, provenance
from experiments.reporting.drawing import (
    label_rows,
    legend,
    panels,
    plain_axes,
    strokes,
)
from experiments.reporting.html import in_words
from experiments.reporting.page import Figure, Page, Section, Table
from experiments.reporting.statistics import (
    PAIRS,
    Comparison,
    Pair,
    compare_runs,
    counted,
    deviation,
    winner,
)
from experiments.studies.terms import axis_label, judged
from experiments.studies.validation import Measure

Arms = Mapping[str, Sequence[Run]]  # the runs of each arm, in the order of their seeds

_FIGURES = (  # fields of a run, of which those of validation are its last epoch's
    *("test_metric", "test_loss", "validation_metric", "validation_loss"),
    *("seconds", "seconds_with_compilation", "images_per_second"),
)


class Setup(NamedTuple):
    """What the page says besides the runs; it shows arms in the order of `titles`."""

    titles: Mapping[str, str]  # by arm
    equations: Mapping[str, str]  # by arm; empty where unknown
    pairs: Sequence[Pair]  # that are compared
    measure: Measure
    train_examples: int
    validation_examples: int
    test_examples: int
    command: str  # that repeats the comparison
    changes: Mapping[str, object] = {}  # entries of the plan about the data
    smoke: bool = False  # whether it trained too little for any conclusion

    @property
    def metric(self) -> Metric:
        """What decides."""
        return self.measure.metric

    @property
    def built_in(self) -> bool:
        """Whether the arms are those of this program, not of a user's file."""
        return self.pairs == PAIRS


def page(runs: Sequence[Run], setup: Setup) -> Page:
    """The page of a comparison: at least one run, all of one plan, in any order."""
    plan = {**shared(runs[0].config), **setup.changes}
    arms = _by_arm(runs, setup.titles)
    compared = compare_runs(runs, setup.metric, setup.pairs)
    if setup.smoke:
        compared = tuple(each._replace(winner=None) for each in compared)
    sections = [_optimizers(arms, setup), _curves(arms, setup), _every_run(arms, setup)]
    if compared:
        sections.insert(0, _differences(compared, setup))
    if setup.built_in and "keras_int8" not in arms:
        sections.insert(0, _step_sizes(arms, setup))
    return Page(
        study="compare",
        title=f"{_subject(arms, setup)} on {plan['dataset']}",
        summary=_summary(arms, setup),
        sections=sections,
        plan=plan,
        plan_hash=digest(plan),
        command=setup.command,
        provenance=provenance(runs),
        conclusion=""
        if setup.smoke
        else learned(arms, setup.titles, compared, setup.metric),
        data={
            "dataset": plan["dataset"],
            "plan": {"hash": digest(plan), **plan},
            "arms": {arm: _data(of_arm, arm, setup) for arm, of_arm in arms.items()},
            "comparisons": [comparison._asdict() for comparison in compared],
        },
        of_shares=setup.metric.is_share,
    )


def _by_arm(runs: Sequence[Run], titles: Mapping[str, str]) -> Arms:
    """The arms that have any runs."""
    ordered = sorted(runs, key=lambda run: run.config.seed)
    arms = {arm: [run for run in ordered if run.config.arm == arm] for arm in titles}
    return {arm: of_arm for arm, of_arm in arms.items() if of_arm}


def _data(runs: Sequence[Run], arm: str, setup: Setup) -> dict[str, object]:
    """An arm for programs; all values are in the order of the seeds."""

    def value(run: Run, field: str) -> float:
        return getattr(run.epochs[-1] if field.startswith("validation") else run, field)

    values = {
        field.replace("metric", setup.metric.name): [value(run, field) for run in runs]
        for field in _FIGURES
    }
    return {
        "title": setup.titles[arm],
        "seeds": [run.config.seed for run in runs],
        "config_hashes": [run.config_hash for run in runs],
        **{
            name: {"mean": fmean(of_name), "values": of_name}
            for name, of_name in values.items()
        },
    }


def _subject(arms: Arms, setup: Setup) -> str:
    if not setup.built_in:
        return counted(len(arms), "optimizer")
    return "Momentum in fewer bytes" if "keras_int8" in arms else "SGD and momentum"


def _summary(arms: Arms, setup: Setup) -> str:
    """The best optimizer, and what was compared on what."""
    (first, *_), *_ = arms.values()
    config = first.config
    seeds = sorted({run.config.seed for runs in arms.values() for run in runs})
    measure, metric = setup.measure, setup.metric
    means = {arm: _mean(runs) for arm, runs in arms.items()}
    scored = [arm for arm, mean in means.items() if math.isfinite(mean)]
    answer = "No optimizer has a result."
    if scored:
        best = max(scored, key=lambda arm: metric.goodness(means[arm]))
        answer = f"Best mean test {judged(metric)}: {metric.shown(means[best])}, "
        answer += f"{setup.titles[best]}, n = {len(arms[best])}."
    built_in = measure.noun == "image" and config.network == "cnn"
    model = "one convolutional network" if built_in else "one model"
    beta = f" and β = {config.beta}" if setup.built_in else ""
    return (
        f"{answer} {counted(len(arms), 'optimizer')}, {counted(len(seeds), 'seed')} "
        f"({', '.join(map(str, seeds))}), {model}: trained on "
        f"{counted(setup.train_examples, measure.noun)}, validated on "
        f"{setup.validation_examples:,} and tested on {setup.test_examples:,}, over "
        f"{counted(config.epochs, 'epoch')} in batches of {config.batch_size}, with "
        f"learning rate α = {config.learning_rate}{beta}."
    )


def _mean(runs: Sequence[Run]) -> float:
    return fmean(run.test_metric for run in runs)


def _step_sizes(arms: Arms, setup: Setup) -> Section:
    """Which arms settle at which step, and their results beside each other."""
    titles, metric = setup.titles, setup.metric
    heading = "Two step sizes, with and without momentum"
    (first, *_), *_ = arms.values()
    factor = 1 / (1 - first.config.beta)
    small = f"{first.config.learning_rate:.4g}"
    large = f"{first.config.learning_rate * factor:.4g}"
    if factor == 1:
        text = "With β = 0 there is no momentum: all optimizers are plain SGD and take "
        return Section(heading, (f"{text}the same steps.",))
    named = {arm: f" ({titles[arm]})" for arm in arms}
    ema, keras = named.get("ema", ""), named.get("keras", "")
    text = (
        "The tutorial's equation and its code follow two different conventions: at "
        f"equal learning rate the code takes {factor:.4g} times larger settled steps. "
        "A settled step is the one to which steps converge while the gradient g stays "
        f"the same. The equation{ema} settles at steps of αg = {small} g, the "
        f"code{keras} at αg / (1 − β) = {large} g. Within a row, optimizers have equal "
        "settled steps and differ in momentum; within a column, they differ in the "
        "size of the step."
    )
    if not {"sgd", "ema", "sgd_large_step", "keras"} <= arms.keys():
        return Section(heading, (text,))

    def cell(arm: str) -> str:
        return f"{in_words(_mean(arms[arm]), metric.format)}, {titles[arm]}"

    table = Table(
        f"Mean test {judged(metric)}, n = {counted(len(arms['sgd']), 'seed')}.",
        ("Settled step", "Without momentum", "With momentum"),
        [
            (f"{small} g", cell("sgd"), cell("ema")),
            (f"{large} g", cell("sgd_large_step"), cell("keras")),
        ],
    )
    return Section(heading, (text,), tables=(table,))


def _differences(compared: Sequence[Comparison], setup: Setup) -> Section:
    """Each comparison, seed by seed, with its interval and verdict."""
    titles, metric = setup.titles, setup.metric
    of, mean, format = f"of test {judged(metric)}", "Mean", metric.difference_format
    if metric.is_share:
        of, mean, format = f"{of} in percentage points", "Points", "{:+.2f}"
    table = Table(
        f"Mean differences {of}, with 95% intervals.",
        ("What differs", mean, "From", "To", "Verdict", "Difference", "n"),
        [
            (
                _capitalized(pair.isolates),
                *(
                    None if end is None else metric.scale * end
                    for end in pair.interval.shown(metric.possible_differences)
                ),
                winner(pair, titles, smoke=setup.smoke),
                _minus(pair, titles),
                len(pair.seeds),
            )
            for pair in compared
        ],
        dict.fromkeys((mean, "From", "To"), format),
    )
    value = mean if metric.is_share else "Value"
    by_seed = Table(
        f"Differences {of}, by seed.",
        ("Difference", "Seed", value),
        [
            (_minus(pair, titles), seed, metric.scale * difference)
            for pair in compared
            for seed, difference in zip(pair.seeds, pair.differences, strict=True)
        ],
        {value: format},
    )
    favors = "" if metric.higher_is_better else " Below 0, the first is better."
    figure = Figure(
        "differences",
        f"Differences of test {judged(metric)}: a dot for each seed, a bar for the "
        "mean, and a band for its 95% interval. No band: fewer than three seeds."
        f"{favors}",
        partial(_draw_differences, compared, setup),
        by_seed,
        (6.4, 0.9 + 0.75 * len(compared)),
    )
    return Section(
        "What made the difference",
        (
            "A seed fixes the initial parameters and the order of the data, and is "
            "used with every optimizer, so optimizers are compared seed by seed. The "
            "interval is about seeds, not about the choice of test "
            f"{setup.measure.noun}s, and each comparison stands alone.",
        ),
        figures=(figure,),
        tables=(table,),
    )


def _minus(pair: Comparison, titles: Mapping[str, str]) -> str:
    return f"{titles[pair.first]} − {titles[pair.second]}"


def _capitalized(words: str) -> str:
    return words[:1].upper() + words[1:]


def _draw_differences(
    compared: Sequence[Comparison], setup: Setup, canvas: Canvas, ink: str
) -> None:
    titles, metric = setup.titles, setup.metric
    scale = metric.scale
    axes = canvas.subplots()
    plain_axes(axes, ink)
    colors = strokes(titles)
    labels = [f"{_capitalized(c.isolates)}: {_minus(c, titles)}" for c in compared]
    label_rows(axes, labels, ink)
    for row, comparison in enumerate(compared):
        axes.vlines(0, row, row + 0.42, color=ink, linewidth=0.8, alpha=0.6)
        color = colors[comparison.first].color
        differences = scale * np.array(comparison.differences)
        mean, low, high = comparison.interval.shown(metric.possible_differences)
        _dots(axes, differences, row + 0.12, color)
        if low is not None and high is not None:
            band = {"color": color, "alpha": 0.35, "solid_capstyle": "butt"}
            axes.plot([scale * low, scale * high], [row + 0.3] * 2, linewidth=6, **band)
        axes.plot(scale * mean, row + 0.3, "|", color=color, markersize=11, mew=3)
    axes.set_xlim(*_limits(compared, metric))
    label = "Difference, percentage points"
    if not metric.is_share:
        label = f"Difference of test {judged(metric)}"
    axes.set_xlabel(label)


def _dots(axes: Axes, values: NDArray[np.floating], row: float, color: str) -> None:
    style = {"color": color, "alpha": 0.75, "linewidths": 0, "clip_on": False}
    axes.scatter(values, np.full(len(values), row), s=36, **style)


def _limits(compared: Sequence[Comparison], metric: Metric) -> tuple[float, float]:
    """Limits that hold 0 and all dots, and of wide bands what leaves dots apart."""
    dots = np.array([0.0, *(d for c in compared for d in c.differences)])
    dots = dots[np.isfinite(dots)]
    low, high = dots.min(), dots.max()
    span = high - low or 0.01
    shown = [c.interval.shown(metric.possible_differences)[1:] for c in compared]
    ends = [end for ends in shown for end in ends if end is not None]
    lowest = np.nanmin([low, *ends])
    highest = np.nanmax([high, *ends])
    margin = 0.05 * span
    return (
        metric.scale * (max(lowest, low - span) - margin),
        metric.scale * (min(highest, high + span) + margin),
    )


def _optimizers(arms: Arms, setup: Setup) -> Section:
    """The metric by seed, and what else was measured of each optimizer."""
    titles, metric, noun = setup.titles, setup.metric, setup.measure.noun
    paragraphs = [f"The test {noun}s were read once in each run, at its end."]
    lost = []
    for arm, runs in arms.items():
        if count := sum(math.isnan(run.test_loss) for run in runs):
            lost.append(f"{titles[arm]} diverged in {count} of {len(runs)}")
    if lost:
        paragraphs.append(
            f"{'; '.join(lost)} runs. Such a run has no test loss; its test "
            f"{metric.words} is that of the parameters with which it ended, and counts "
            "in the means."
        )
    test, speed = f"Test {metric.words}", f"{_capitalized(noun)}s/s"
    rows = []
    for arm, runs in arms.items():
        row = {
            "Optimizer": titles[arm],
            test: None,
            "±": deviation([run.test_metric for run in runs]),
            "n": len(runs),
            "Test loss": fmean(run.test_loss for run in runs),  # which may be `test`
            speed: fmean(run.images_per_second for run in runs),
            "Equation": setup.equations[arm] or None,
        }
        rows.append(row | {test: _mean(runs)})
    header = list(rows[0])
    if not any(setup.equations[arm] for arm in arms):
        header.remove("Equation")
    table = Table(
        f"Test {judged(metric)}: the mean over n seeds ± the standard deviation; for "
        "the rest, means. In equations θ are the parameters, g the gradient and v the "
        "buffer.",
        header,
        [[row[heading] for heading in header] for row in rows],
        {
            "Test loss": _loss_format(metric),
            **dict.fromkeys((test, "±"), metric.format),
            speed: "{:,.0f}",
        },
    )
    by_seed = Table(
        f"Test {metric.words} by seed.",
        ("Optimizer", "Seed", test),
        [
            (titles[arm], run.config.seed, run.test_metric)
            for arm, runs in arms.items()
            for run in runs
        ],
        {test: metric.format},
    )
    figure = Figure(
        "accuracies" if metric.is_share else "values",
        f"Test {judged(metric)}: a dot for each seed, a bar for the mean.",
        partial(_draw_values, arms, setup),
        by_seed,
        (6.4, 0.9 + 0.6 * len(arms)),
    )
    return Section("The optimizers", paragraphs, figures=(figure,), tables=(table,))


def _loss_format(metric: Metric) -> str:
    return "{:.3f}" if metric.is_share else metric.format


def _draw_values(arms: Arms, setup: Setup, canvas: Canvas, ink: str) -> None:
    axes = canvas.subplots()
    plain_axes(axes, ink)
    label_rows(axes, [setup.titles[arm] for arm in arms], ink)
    colors = strokes(setup.titles)
    for row, (arm, runs) in enumerate(arms.items()):
        values = setup.metric.scale * np.array([run.test_metric for run in runs])
        _dots(axes, values, row + 0.2, colors[arm].color)
        bar = {"color": colors[arm].color, "markersize": 13, "mew": 2.5}
        axes.plot(values.mean(), row + 0.2, "|", **bar)
    axes.margins(x=0.05)
    axes.set_xlabel(axis_label("Test", setup.metric))


def _curves(arms: Arms, setup: Setup) -> Section:
    """The loss and the metric by epoch, in training and in validation."""
    titles, metric = setup.titles, setup.metric
    shown = _shown(metric)
    rows = [
        (
            titles[arm],
            epoch,
            *(float(_values(runs, field)[:, epoch - 1].mean()) for field in shown),
        )
        for arm, runs in arms.items()
        for epoch in range(1, len(runs[0].epochs) + 1)
    ]
    table = Table(
        "Means over the seeds, by epoch.",
        ("Optimizer", "Epoch", *shown.values()),
        rows,
        {
            heading: metric.format if field.endswith("metric") else _loss_format(metric)
            for field, heading in shown.items()
        },
    )
    (first, *_), *_ = arms.values()
    loss = "Loss" if metric.name == "loss" else f"Loss and {metric.words}"
    figure = Figure(
        "curves",
        f"{loss} on {first.config.dataset}, by epoch. Thick lines are means "
        "over the seeds, thin lines the seeds; a line ends where a run diverged. "
        "Training values are means over an epoch, each batch measured before its step; "
        "validation values are measured at the end of an epoch.",
        partial(_draw_curves, arms, setup),
        table,
        (6.4, 6.0),
        _described(arms, setup),
    )
    return Section("Learning curves", figures=(figure,))


def _shown(metric: Metric) -> dict[str, str]:
    """The fields of an epoch that are shown, with their titles."""
    kinds = {"loss": "loss", "metric": metric.words}
    if metric.name == "loss":
        del kinds["metric"]
    splits = {"train": "Training", "validation": "Validation"}
    return {
        f"{split}_{kind}": f"{title} {words}"
        for kind, words in kinds.items()
        for split, title in splits.items()
    }


def _draw_curves(arms: Arms, setup: Setup, canvas: Canvas, ink: str) -> None:
    shown = _shown(setup.metric)
    every = panels(canvas, len(shown))
    for axes, (field, title) in zip(every, shown.items(), strict=True):
        axes.set_title(title)
        _draw_panel(axes, arms, setup, field, ink)
    legend(canvas, every[0])


def _draw_panel(axes: Axes, arms: Arms, setup: Setup, field: str, ink: str) -> None:
    """One field of all arms: a thin line a seed, and their mean."""
    drawn = strokes(setup.titles)
    for arm, runs in arms.items():
        stroke, values = drawn[arm], _values(runs, field)
        epochs = np.arange(1, values.shape[1] + 1)
        dots = "o" if len(epochs) < 3 else None  # so short a line would hardly show
        style = {"color": stroke.color, "marker": dots}
        axes.plot(epochs, values.T, linewidth=0.7, alpha=0.55, markersize=3, **style)
        style |= {"label": setup.titles[arm], "linestyle": stroke.dash}
        above = 4 if stroke.dash == "dashed" else 3  # gaps show what is below
        axes.plot(epochs, values.mean(axis=0), linewidth=1.8, zorder=above, **style)
    axes.set_xlabel("Epoch")
    plain_axes(axes, ink)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    (first, *_), *_ = arms.values()
    axes.set_xlim(0.7, len(first.epochs) + 0.3)
    _set_scale(axes, arms, field.split("_")[1], setup.metric)


def _set_scale(axes: Axes, arms: Arms, kind: str, metric: Metric) -> None:
    """Gives training and validation the same vertical axis."""
    fields = f"train_{kind}", f"validation_{kind}"
    parts = [_values(runs, f).ravel() for runs in arms.values() for f in fields]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = values.min(), values.max()
    if kind == "metric" and metric.is_share:
        axes.yaxis.set_major_formatter(lambda x, _: f"{100 * x:.4g}%")
    elif low > 0 and high > 100 * low:  # one arm would flatten all others
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        return
    margin = 0.05 * (high - low) or 0.01
    axes.set_ylim(low - margin, high + margin)


def _values(runs: Sequence[Run], field: str) -> NDArray[np.floating]:
    """A field of the epochs of some runs: shape [runs, epochs]."""
    return np.array([[getattr(epoch, field) for epoch in run.epochs] for run in runs])


def _described(arms: Arms, setup: Setup) -> str:
    """The ends of the curves, for readers who can't see them."""
    format = _loss_format(setup.metric)
    panels = []
    for field, title in _shown(setup.metric).items():
        last = {arm: _values(runs, field)[:, -1].mean() for arm, runs in arms.items()}
        ends = (f"{setup.titles[arm]} {in_words(last[arm], format)}" for arm in arms)
        panels.append(f"{title}: {', '.join(ends)}")
    return f"Means of the last epoch. {'; '.join(panels)}."


def _every_run(arms: Arms, setup: Setup) -> Section:
    test, metric = f"Test {setup.metric.words}", setup.metric
    rows = [
        {
            "Key": arm,
            "Seed": run.config.seed,
            test: None,
            "Test loss": run.test_loss,  # which may be `test`
            "Seconds": run.seconds,
            "With compilation": run.seconds_with_compilation,
            "Config hash": run.config_hash,
        }
        | {test: run.test_metric}
        for arm, runs in arms.items()
        for run in runs
    ]
    table = Table(
        "Every run, as recorded in runs.jsonl under its optimizer's key and its config "
        "hash. Seconds are those of training, validation and test, without and with "
        "compilation.",
        list(rows[0]),
        [list(row.values()) for row in rows],
        {
            "Test loss": _loss_format(metric),
            test: metric.format,
            "Seconds": "{:.1f}",
            "With compilation": "{:.1f}",
        },
    )
    return Section("Every run", tables=(table,))
