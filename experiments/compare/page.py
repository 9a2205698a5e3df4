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
from experiments.records.plan import digest, shared
from experiments.records.runs import Epoch, Run, provenance
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
    DIFFERENCES,
    Comparison,
    compare_runs,
    counted,
    winner,
)

Arms = Mapping[str, Sequence[Run]]  # the runs of each arm, in the order of their seeds

METRICS = (
    *("test_accuracy", "test_loss", "validation_accuracy", "validation_loss"),
    *("seconds", "seconds_with_compilation", "images_per_second"),
)
_PANELS = {
    "train_loss": "Training loss",
    "validation_loss": "Validation loss",
    "train_accuracy": "Training accuracy",
    "validation_accuracy": "Validation accuracy",
}


class Setup(NamedTuple):
    """What the page says besides the runs; it shows arms in the order of `titles`."""

    titles: Mapping[str, str]  # by arm
    equations: Mapping[str, str]  # by arm; empty where unknown
    train_images: int
    validation_images: int
    test_images: int
    command: str  # that repeats the comparison
    changes: Mapping[str, object] = {}  # entries of the plan about the data
    smoke: bool = False  # whether it trained too little for any conclusion


def page(runs: Sequence[Run], setup: Setup) -> Page:
    """The page of a comparison: at least one run, all of one plan, in any order."""
    plan = {**shared(runs[0].config), **setup.changes}
    arms = _by_arm(runs, setup.titles)
    compared = compare_runs(runs, setup.titles)
    if setup.smoke:
        compared = tuple(each._replace(winner=None) for each in compared)
    sections = [_optimizers(arms, setup), _curves(arms, setup.titles), _every_run(arms)]
    if compared:
        sections.insert(0, _differences(compared, setup))
    if not plan["code"] and "keras_int8" not in arms:
        sections.insert(0, _step_sizes(arms, setup.titles))
    return Page(
        study="compare",
        title=f"{_subject(arms)} on {plan['dataset']}",
        summary=_summary(arms, setup),
        sections=sections,
        plan=plan,
        plan_hash=digest(plan),
        command=setup.command,
        provenance=provenance(runs),
        conclusion="" if setup.smoke else learned(arms, setup.titles, compared),
        data={
            "dataset": plan["dataset"],
            "plan": {"hash": digest(plan), **plan},
            "arms": {arm: _data(arms[arm], setup.titles[arm]) for arm in arms},
            "comparisons": [comparison._asdict() for comparison in compared],
        },
    )


def _by_arm(runs: Sequence[Run], titles: Mapping[str, str]) -> Arms:
    """The arms that have any runs."""
    ordered = sorted(runs, key=lambda run: run.config.seed)
    arms = {arm: [run for run in ordered if run.config.arm == arm] for arm in titles}
    return {arm: of_arm for arm, of_arm in arms.items() if of_arm}


def _data(runs: Sequence[Run], title: str) -> dict[str, object]:
    """An arm for programs; all values are in the order of the seeds."""

    def value(run: Run, metric: str) -> float:
        if metric.startswith("validation"):
            return getattr(run.epochs[-1], metric)
        return getattr(run, metric)

    values = {metric: [value(run, metric) for run in runs] for metric in METRICS}
    return {
        "title": title,
        "seeds": [run.config.seed for run in runs],
        "config_hashes": [run.config_hash for run in runs],
        **{
            metric: {"mean": fmean(of_metric), "values": of_metric}
            for metric, of_metric in values.items()
        },
    }


def _subject(arms: Arms) -> str:
    (first, *_), *_ = arms.values()
    if first.config.code:
        return counted(len(arms), "optimizer")
    return "Momentum in fewer bytes" if "keras_int8" in arms else "SGD and momentum"


def _summary(arms: Arms, setup: Setup) -> str:
    """The best optimizer, and what was compared on what."""
    (first, *_), *_ = arms.values()
    config = first.config
    seeds = sorted({run.config.seed for runs in arms.values() for run in runs})
    means = {arm: _mean_accuracy(runs) for arm, runs in arms.items()}
    scored = [arm for arm, mean in means.items() if not math.isnan(mean)]
    answer = "No optimizer has a result."
    if scored:
        best = max(scored, key=means.__getitem__)
        answer = f"Best mean test accuracy: {means[best]:.2%}, {setup.titles[best]}, "
        answer += f"n = {len(arms[best])}."
    beta = "" if config.code else f" and β = {config.beta}"
    return (
        f"{answer} {counted(len(arms), 'optimizer')}, {counted(len(seeds), 'seed')} "
        f"({', '.join(map(str, seeds))}), one convolutional network: trained on "
        f"{counted(setup.train_images, 'image')}, validated on "
        f"{setup.validation_images:,} and tested on {setup.test_images:,}, over "
        f"{counted(config.epochs, 'epoch')} in batches of {config.batch_size}, with "
        f"learning rate α = {config.learning_rate}{beta}."
    )


def _mean_accuracy(runs: Sequence[Run]) -> float:
    return fmean(run.test_accuracy for run in runs)


def _step_sizes(arms: Arms, titles: Mapping[str, str]) -> Section:
    """Which arms settle at which step, and their accuracies beside each other."""
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
        return f"{in_words(_mean_accuracy(arms[arm]), '{:.2%}')}, {titles[arm]}"

    table = Table(
        f"Mean test accuracy, n = {counted(len(arms['sgd']), 'seed')}.",
        ("Settled step", "Without momentum", "With momentum"),
        [
            (f"{small} g", cell("sgd"), cell("ema")),
            (f"{large} g", cell("sgd_large_step"), cell("keras")),
        ],
    )
    return Section(heading, (text,), tables=(table,))


def _differences(compared: Sequence[Comparison], setup: Setup) -> Section:
    """Each comparison, seed by seed, with its interval and verdict."""
    titles = setup.titles
    table = Table(
        "Mean differences of test accuracy in percentage points, with 95% intervals.",
        ("What differs", "Points", "From", "To", "Verdict", "Difference", "n"),
        [
            (
                _capitalized(pair.isolates),
                *(
                    None if end is None else 100 * end
                    for end in pair.interval.shown(DIFFERENCES)
                ),
                winner(pair, titles, smoke=setup.smoke),
                _minus(pair, titles),
                len(pair.seeds),
            )
            for pair in compared
        ],
        dict.fromkeys(("Points", "From", "To"), "{:+.2f}"),
    )
    by_seed = Table(
        "Differences of test accuracy in percentage points, by seed.",
        ("Difference", "Seed", "Points"),
        [
            (_minus(pair, titles), seed, 100 * difference)
            for pair in compared
            for seed, difference in zip(pair.seeds, pair.differences, strict=True)
        ],
        {"Points": "{:+.2f}"},
    )
    figure = Figure(
        "differences",
        "Differences of test accuracy: a dot for each seed, a bar for the mean, and a "
        "band for its 95% interval. No band: fewer than three seeds.",
        partial(_draw_differences, compared, titles),
        by_seed,
        (6.4, 0.9 + 0.75 * len(compared)),
    )
    return Section(
        "What made the difference",
        (
            "A seed fixes the initial parameters and the order of the data, and is "
            "used with every optimizer, so optimizers are compared seed by seed. The "
            "interval is about seeds, not about the choice of test images, and each "
            "comparison stands alone.",
        ),
        figures=(figure,),
        tables=(table,),
    )


def _minus(pair: Comparison, titles: Mapping[str, str]) -> str:
    return f"{titles[pair.first]} − {titles[pair.second]}"


def _capitalized(words: str) -> str:
    return words[:1].upper() + words[1:]


def _draw_differences(
    compared: Sequence[Comparison], titles: Mapping[str, str], canvas: Canvas, ink: str
) -> None:
    axes = canvas.subplots()
    plain_axes(axes, ink)
    colors = strokes(titles)
    labels = [f"{_capitalized(c.isolates)}: {_minus(c, titles)}" for c in compared]
    label_rows(axes, labels, ink)
    for row, comparison in enumerate(compared):
        axes.vlines(0, row, row + 0.42, color=ink, linewidth=0.8, alpha=0.6)
        color = colors[comparison.first].color
        differences = 100 * np.array(comparison.differences)
        mean, low, high = comparison.interval.shown(DIFFERENCES)
        _dots(axes, differences, row + 0.12, color)
        if low is not None and high is not None:
            band = {"color": color, "alpha": 0.35, "solid_capstyle": "butt"}
            axes.plot([100 * low, 100 * high], [row + 0.3] * 2, linewidth=6, **band)
        axes.plot(100 * mean, row + 0.3, "|", color=color, markersize=11, mew=3)
    axes.set_xlim(*_limits(compared))
    axes.set_xlabel("Difference, percentage points")


def _dots(axes: Axes, values: NDArray[np.floating], row: float, color: str) -> None:
    style = {"color": color, "alpha": 0.75, "linewidths": 0, "clip_on": False}
    axes.scatter(values, np.full(len(values), row), s=36, **style)


def _limits(compared: Sequence[Comparison]) -> tuple[float, float]:
    """Limits that hold 0 and all dots, and of wide bands what leaves dots apart."""
    dots = np.array([0.0, *(d for c in compared for d in c.differences)])
    low, high = np.nanmin(dots), np.nanmax(dots)
    span = high - low or 0.01
    shown = [c.interval.shown(DIFFERENCES)[1:] for c in compared]
    ends = [end for ends in shown for end in ends if end is not None]
    lowest = np.nanmin([low, *ends])
    highest = np.nanmax([high, *ends])
    margin = 0.05 * span
    return (
        100 * (max(lowest, low - span) - margin),
        100 * (min(highest, high + span) + margin),
    )


def _optimizers(arms: Arms, setup: Setup) -> Section:
    """Accuracies by seed, and what else was measured of each optimizer."""
    titles = setup.titles
    paragraphs = ["The test images were read once in each run, at its end."]
    lost = []
    for arm, runs in arms.items():
        if count := sum(math.isnan(run.test_loss) for run in runs):
            lost.append(f"{titles[arm]} diverged in {count} of {len(runs)}")
    if lost:
        paragraphs.append(
            f"{'; '.join(lost)} runs. Such a run has no test loss; its test accuracy "
            "is that of the parameters with which it ended, and counts in the means."
        )
    rows = []
    for arm, runs in arms.items():
        accuracies = [run.test_accuracy for run in runs]
        rows.append(
            (
                titles[arm],
                _mean_accuracy(runs),
                float(np.std(accuracies, ddof=1)) if len(runs) > 1 else None,
                len(runs),
                fmean(run.test_loss for run in runs),
                fmean(run.images_per_second for run in runs),
                setup.equations[arm] or None,
            )
        )
    header = ["Optimizer", "Test accuracy", "±", "n", "Test loss", "Images/s"]
    if any(setup.equations[arm] for arm in arms):
        header.append("Equation")
    table = Table(
        "Test accuracy: the mean over n seeds ± the standard deviation; for the rest, "
        "means. In equations θ are the parameters, g the gradient and v the buffer.",
        header,
        [row[: len(header)] for row in rows],
        {
            "Test accuracy": "{:.2%}",
            "±": "{:.2%}",
            "Test loss": "{:.3f}",
            "Images/s": "{:,.0f}",
        },
    )
    by_seed = Table(
        "Test accuracy by seed.",
        ("Optimizer", "Seed", "Test accuracy"),
        [
            (titles[arm], run.config.seed, run.test_accuracy)
            for arm, runs in arms.items()
            for run in runs
        ],
        {"Test accuracy": "{:.2%}"},
    )
    figure = Figure(
        "accuracies",
        "Test accuracy: a dot for each seed, a bar for the mean.",
        partial(_draw_accuracies, arms, titles),
        by_seed,
        (6.4, 0.9 + 0.6 * len(arms)),
    )
    return Section("The optimizers", paragraphs, figures=(figure,), tables=(table,))


def _draw_accuracies(
    arms: Arms, titles: Mapping[str, str], canvas: Canvas, ink: str
) -> None:
    axes = canvas.subplots()
    plain_axes(axes, ink)
    label_rows(axes, [titles[arm] for arm in arms], ink)
    colors = strokes(titles)
    for row, (arm, runs) in enumerate(arms.items()):
        accuracies = 100 * np.array([run.test_accuracy for run in runs])
        _dots(axes, accuracies, row + 0.2, colors[arm].color)
        bar = {"color": colors[arm].color, "markersize": 13, "mew": 2.5}
        axes.plot(accuracies.mean(), row + 0.2, "|", **bar)
    axes.margins(x=0.05)
    axes.set_xlabel("Test accuracy, %")


def _curves(arms: Arms, titles: Mapping[str, str]) -> Section:
    """Loss and accuracy by epoch, in training and in validation."""
    rows = [
        (
            titles[arm],
            epoch,
            *(float(_values(runs, metric)[:, epoch - 1].mean()) for metric in _PANELS),
        )
        for arm, runs in arms.items()
        for epoch in range(1, len(runs[0].epochs) + 1)
    ]
    table = Table(
        "Means over the seeds, by epoch.",
        ("Optimizer", "Epoch", *_PANELS.values()),
        rows,
        {
            heading: "{:.2%}" if metric.endswith("accuracy") else "{:.3f}"
            for metric, heading in _PANELS.items()
        },
    )
    (first, *_), *_ = arms.values()
    figure = Figure(
        "curves",
        f"Loss and accuracy on {first.config.dataset}, by epoch. Thick lines are means "
        "over the seeds, thin lines the seeds; a line ends where a run diverged. "
        "Training values are means over an epoch, each batch measured before its step; "
        "validation values are measured at the end of an epoch.",
        partial(_draw_curves, arms, titles),
        table,
        (6.4, 6.0),
        _described(arms, titles),
    )
    return Section("Learning curves", figures=(figure,))


def _draw_curves(
    arms: Arms, titles: Mapping[str, str], canvas: Canvas, ink: str
) -> None:
    every = panels(canvas, len(_PANELS))
    for axes, metric in zip(every, _PANELS, strict=True):
        _draw_panel(axes, arms, titles, metric, ink)
    legend(canvas, every[0])


def _draw_panel(
    axes: Axes, arms: Arms, titles: Mapping[str, str], metric: str, ink: str
) -> None:
    """One metric of all arms: a thin line a seed, and their mean."""
    drawn = strokes(titles)
    for arm, runs in arms.items():
        stroke, values = drawn[arm], _values(runs, metric)
        epochs = np.arange(1, values.shape[1] + 1)
        dots = "o" if len(epochs) < 3 else None  # so short a line would hardly show
        style = {"color": stroke.color, "marker": dots}
        axes.plot(epochs, values.T, linewidth=0.7, alpha=0.55, markersize=3, **style)
        style |= {"label": titles[arm], "linestyle": stroke.dash}
        above = 4 if stroke.dash == "dashed" else 3  # gaps show what is below
        axes.plot(epochs, values.mean(axis=0), linewidth=1.8, zorder=above, **style)
    axes.set(title=_PANELS[metric], xlabel="Epoch")
    plain_axes(axes, ink)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    (first, *_), *_ = arms.values()
    axes.set_xlim(0.7, len(first.epochs) + 0.3)
    _set_scale(axes, arms, metric.split("_")[1])


def _set_scale(axes: Axes, arms: Arms, kind: str) -> None:
    """Gives training and validation the same vertical axis."""
    metrics = f"train_{kind}", f"validation_{kind}"
    parts = [_values(runs, m).ravel() for runs in arms.values() for m in metrics]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = values.min(), values.max()
    if kind == "accuracy":
        axes.yaxis.set_major_formatter(lambda x, _: f"{100 * x:.4g}%")
    elif low > 0 and high > 100 * low:  # one arm would flatten all others
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        return
    margin = 0.05 * (high - low) or 0.01
    axes.set_ylim(low - margin, high + margin)


def _values(runs: Sequence[Run], metric: str) -> NDArray[np.floating]:
    """A metric of some runs: shape [runs, epochs]."""
    column = Epoch._fields.index(metric)
    return np.array([[epoch[column] for epoch in run.epochs] for run in runs])


def _described(arms: Arms, titles: Mapping[str, str]) -> str:
    """The ends of the curves, for readers who can't see them."""
    panels = []
    for metric, title in _PANELS.items():
        ends = []
        for arm, runs in arms.items():
            last = _values(runs, metric)[:, -1].mean()
            end = "diverged" if np.isnan(last) else f"{last:.3f}"
            ends.append(f"{titles[arm]} {end}")
        panels.append(f"{title}: {', '.join(ends)}")
    return f"Means of the last epoch. {'; '.join(panels)}."


def _every_run(arms: Arms) -> Section:
    table = Table(
        "Every run, as recorded in runs.jsonl under its optimizer's key and its config "
        "hash. Seconds are those of training, validation and test, without and with "
        "compilation.",
        (
            *("Key", "Seed", "Test accuracy", "Test loss"),
            *("Seconds", "With compilation", "Config hash"),
        ),
        [
            (
                *(arm, run.config.seed, run.test_accuracy, run.test_loss),
                *(run.seconds, run.seconds_with_compilation, run.config_hash),
            )
            for arm, runs in arms.items()
            for run in runs
        ],
        {
            "Test accuracy": "{:.2%}",
            "Test loss": "{:.3f}",
            "Seconds": "{:.1f}",
            "With compilation": "{:.1f}",
        },
    )
    return Section("Every run", tables=(table,))
