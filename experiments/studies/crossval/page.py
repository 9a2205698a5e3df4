"""The page of a cross-validation: the choice, its test, and an unbiased estimate."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from experiments.records import plan, runs
from experiments.records.config import JSON
from experiments.records.metric import Metric
from experiments.records.plan import Plan
from experiments.records.runs import Run
from experiments.reporting.drawing import legend, line_with_band, plain_axes, strokes
from experiments.reporting.page import Cell, Figure, Page, Section, Table
from experiments.reporting.statistics import (
    Interval,
    counted,
    difference_in_words,
    mean_and_interval,
    value_in_words,
    verdict,
    wall_time,
)
from experiments.studies.crossval.choice import (
    CrossvalResults,
    best_of_betas,
    least_within_one_error,
)
from experiments.studies.paired import difference, tested
from experiments.studies.settings import Setting, learning_rate
from experiments.studies.terms import heading, judged, values_of, worst
from experiments.studies.validation import Measure, count_diverged

_LEAST_POINTS = 3  # of a curve at one learning rate
_MOST_CURVES = 4  # more can't be told apart
# The axis ends so far below the best accuracy, or at this share of the way from the
# best value of another metric to the one that a run that diverged counts as.
_DEPTH = 0.3

Curves = Mapping[str, Sequence[Setting]]  # by the value that a curve's settings share


def page(
    results: CrossvalResults, planned: plan.Plan, ran: Sequence[Run], command: str
) -> Page:
    """The page of a cross-validation; `command` repeats it."""
    sections = [_choice(results, planned), _test(results, planned)]
    if any(results.estimates.values()):
        sections.append(_estimate(results))
    return Page(
        study="crossval",
        title=f"Which beta, by cross-validation on {planned['dataset']}",
        summary=_summary(results, planned),
        sections=[*sections, _method(results, planned, ran)],
        plan=planned,
        plan_hash=plan.digest(planned),
        command=command,
        provenance=runs.provenance(ran),
        of_shares=results.measure.metric.is_share,
    )


def in_words(setting: Setting) -> str:
    """A setting as the page names it."""
    rate = f"{learning_rate(setting):.4g}"
    if not setting.beta:
        return f"learning rate {rate}"
    return (
        f"beta {setting.beta:g} at learning rate {rate} (effective rate "
        f"{rate}/(1 − {setting.beta:g}) = {setting.rate:g})"
    )


def _summary(results: CrossvalResults, planned: Plan) -> str:
    momentum, sgd = results.chosen["momentum"], results.chosen["sgd"]
    measure, metric = results.measure, results.measure.metric
    gain = _gain(results)
    means = {
        arm: metric.shown(mean_and_interval(tested(ran, measure)).mean)
        for arm, ran in results.tests.items()
    }
    least = least_within_one_error(results.trials["momentum"], measure)
    return (
        f"{planned['folds']}-fold cross-validation on {planned['dataset']} chose "
        f"{in_words(momentum)}, which {_on_a_fold(results.value(momentum), measure)}; "
        f"the smallest beta within one standard error of it is {least.beta:g}. On the "
        f"test {measure.noun}s this choice reaches {means['momentum']}, and SGD, tuned "
        f"on the same folds to {in_words(sgd)}, {means['sgd']}: a difference of "
        f"{difference_in_words(gain, metric)}, "
        f"n = {counted(len(results.tests['sgd']), 'paired seed')}, each of which "
        "trains both from "
        f"the same start; {verdict(gain, metric, smoke=results.smoke)}."
    )


def _on_a_fold(value: Interval, measure: Measure) -> str:
    metric, shown = measure.metric, value_in_words(value, measure.metric)
    if metric.is_share:
        return f"classifies {shown} of the {measure.noun}s of a fold correctly"
    return (
        f"has the {metric.words} {shown} on the {measure.noun}s of a fold, where "
        f"{metric.better} is better"
    )


def _gain(results: CrossvalResults) -> Interval:
    """Momentum minus SGD on the test split, with the chosen settings."""
    tests = results.tests
    return difference(tests["momentum"], tests["sgd"], results.measure)


def _choice(results: CrossvalResults, planned: Plan) -> Section:
    by_learning_rate = _equal_learning_rate(results)
    paragraphs = [
        "Beta has two effects. It sets how long gradients are remembered; and at a "
        "given learning rate it also sets the size of the steps, which under a "
        "constant gradient settle at learning rate/(1 − beta) times the gradient. "
        "That factor is the effective learning rate. Curves at equal effective rate "
        "show the first effect alone; curves at equal learning rate mix both.",
        f"The intervals are Student's t over {planned['folds']} folds. Any two folds "
        f"share most of their training {results.measure.noun}s and aren't "
        "independent: an interval shows the spread, not how certain the mean is.",
        *_at_an_end(results, planned),
    ]
    if by_learning_rate is None:
        paragraphs.append(
            "No three of these settings share a learning rate, so there is no curve at "
            "equal learning rate; effective rates and 1 − beta in steps of 1, 2, 5 "
            "give such curves."
        )
    figures = [_equal_effective_rate(results), by_learning_rate]
    return Section(
        "Which beta do the folds choose?",
        paragraphs,
        [figure for figure in figures if figure is not None],
        [betas_table(results), _folds_table(results)],
    )


def _at_an_end(results: CrossvalResults, planned: Plan) -> list[str]:
    """A warning for each chosen value beyond which nothing was tried."""
    momentum, sgd = results.chosen["momentum"], results.chosen["sgd"]
    betas, rates = planned["betas"], planned["effective_rates"]
    values = (
        ("The chosen beta", momentum.beta, betas, "--betas"),
        ("Momentum's effective rate", momentum.rate, rates, "--effective-rates"),
        ("SGD's effective rate", sgd.rate, rates, "--effective-rates"),
    )
    return [
        f"{what}, {value:g}, is the {'smallest' if value == min(tried) else 'largest'} "
        f"that was tried: a better one may lie beyond. {option} widens the search."
        for what, value, tried, option in values
        if value in (min(tried), max(tried))
    ]


def _test(results: CrossvalResults, planned: Mapping[str, JSON]) -> Section:
    ran = [run for of_arm in results.tests.values() for run in of_arm]
    noun, metric = results.measure.noun, results.measure.metric
    lost = count_diverged(ran, results.measure)
    gain = _gain(results)
    part = "the first 80% of the training images"
    if noun != "image":
        part = f"the training {noun}s"
    return Section(
        f"Is it better than SGD on the test {noun}s?",
        [
            f"Momentum − SGD: {difference_in_words(gain, metric)}, on "
            f"{counted(len(results.tests['sgd']), 'seed')} that no tuning has used; "
            f"{verdict(gain, metric, smoke=results.smoke)}. The seeds are paired: with "
            "the same seed, both optimizers start from the same parameters and see the "
            f"{noun}s in the same order, and the difference is taken seed by seed. "
            f"Both trained on {part}; each run read the test "
            f"{noun}s once. Momentum was chosen from "
            f"{counted(len(results.trials['momentum']), 'setting')}, SGD from "
            f"{len(results.trials['sgd'])}. {lost} of these runs diverged.",
            f"This is about batch size {planned['batch_size']} and a constant learning "
            "rate. The study tune also chooses the batch size and the schedule of each "
            "optimizer, which can do for SGD what momentum does here, or the reverse. "
            f"If its verdict on these {noun}s is another, that is why, or its "
            f"{counted(planned['epochs'], 'epoch')} or seeds are not these.",
        ],
        [_by_seed(results)],
    )


def _estimate(results: CrossvalResults) -> Section:
    """The metric of the whole procedure, on folds that its choice never saw."""
    noun, metric = results.measure.noun, results.measure.metric
    sgd, momentum = (
        mean_and_interval([estimate.value for estimate in results.estimates[arm]])
        for arm in ("sgd", "momentum")
    )
    pairs = zip(results.estimates["sgd"], results.estimates["momentum"], strict=True)
    rows = [
        (fold, setting.rate, value, *m.chosen, m.value, m.value - value)
        for (fold, setting, value), m in pairs
    ]
    gain = mean_and_interval([row[-1] for row in rows])
    best = results.value(results.chosen["momentum"]).mean
    reaches = f"reaches {value_in_words(momentum, metric)}"
    if metric.is_share:
        reaches = f"classifies {value_in_words(momentum, metric)} correctly"
    return Section(
        f"How good is such a choice on {noun}s that it never saw?",
        [
            f"The {metric.words} of the best of many settings is biased "
            f"{'upward' if metric.higher_is_better else 'downward'}, because the "
            "best is also the luckiest. Here each fold is scored with the settings "
            f"that folds within its training {noun}s chose. Momentum, with beta and "
            f"rate chosen this way, {reaches}, SGD {value_in_words(sgd, metric)}; "
            f"momentum − SGD is {difference_in_words(gain, metric)}. The best mean "
            f"above, {metric.shown(best)}, is "
            f"{metric.shown_difference(best - momentum.mean)} from the unbiased one. "
            f"The test {noun}s have no part in this. The "
            "folds overlap, so these intervals are somewhat too narrow."
        ],
        tables=[
            Table(
                "Each outer fold with the settings that its inner folds chose: "
                f"effective rates, and {values_of(metric)} on the outer fold's own "
                f"{noun}s.",
                ("Fold", "SGD's rate", "SGD", "Beta", "Rate", "Momentum", "Difference"),
                rows,
                _compared(metric),
            )
        ],
    )


def _method(results: CrossvalResults, planned: Plan, ran: Sequence[Run]) -> Section:
    noun, metric = results.measure.noun, results.measure.metric
    test = sum(run.config.test for run in ran)
    lost = count_diverged(ran, results.measure)
    ties = (
        f" Of settings with equal {metric.words} the one with the smaller loss is "
        "chosen."
    )
    return Section(
        "How it was done",
        [
            f"{counted(len(ran), 'run')} of {counted(planned['epochs'], 'epoch')} at "
            "batch size "
            f"{planned['batch_size']} took {wall_time(ran)}, not counting compilation; "
            f"{lost} diverged. {test} of them, those of the chosen settings, read the "
            f"test {noun}s, each once, after its last epoch. Every run starts from new "
            "parameters and zero momentum; runs of one fold, or of one seed, start "
            f"from the same parameters and see the {noun}s in the same order."
            f"{'' if metric.key == 'loss' else ties}"
        ],
    )


def _equal_effective_rate(results: CrossvalResults) -> Figure:
    """The metric against beta, one curve for each effective learning rate."""
    settings, measure = results.all_trials, results.measure
    curves = {
        f"effective rate {rate:g}": sorted(s for s in settings if s.rate == rate)
        for rate in sorted({setting.rate for setting in settings})
    }
    ends = "30 points below the best"
    if not measure.metric.is_share:
        ends = f"three tenths of the way from the best to {worst(measure)}"
    return _curves_figure(
        "equal-effective-rate",
        f"Validation {judged(measure.metric)} against beta, each curve at one "
        "effective learning rate: mean and 95% interval over the folds. The points at "
        f"beta 0 are SGD. The axis ends {ends}; of more than four curves, the best are "
        "drawn.",
        results,
        curves,
    )


def _equal_learning_rate(results: CrossvalResults) -> Figure | None:
    """The same at equal learning rates; None if no three settings share one."""
    by_rate: dict[float, list[Setting]] = {}
    for setting in sorted(results.all_trials):
        by_rate.setdefault(learning_rate(setting), []).append(setting)
    curves = {
        f"learning rate {rate:g}": settings
        for rate, settings in sorted(by_rate.items())
        if len(settings) >= _LEAST_POINTS
    }
    if not curves:
        return None
    return _curves_figure(
        "equal-learning-rate",
        "The same runs, each curve at one learning rate: along it, steps grow with "
        "beta, as 1/(1 − beta), so it mixes the effect of larger steps with that of "
        "longer memory.",
        results,
        curves,
    )


def _curves_figure(
    name: str, caption: str, results: CrossvalResults, curves: Curves
) -> Figure:
    metric = results.measure.metric
    values = {s: results.value(s) for curve in curves.values() for s in curve}

    def top(label: str) -> float:
        return max(metric.goodness(values[setting].mean) for setting in curves[label])

    best = sorted(curves, key=top, reverse=True)[:_MOST_CURVES]
    drawn = {label: curve for label, curve in curves.items() if label in best}
    settings = [setting for curve in drawn.values() for setting in curve]

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        for label, stroke in strokes(drawn).items():
            places = [_place(setting.beta) for setting in drawn[label]]
            shown = [values[setting].shown(metric.possible) for setting in drawn[label]]
            middle, low, high = np.array(shown, float).T
            line_with_band(axes, places, middle, low, high, stroke, label)
        plain_axes(axes, ink)
        room = 0.5 / canvas.get_figwidth()  # for a label, as a share of the axis
        _mark_betas(axes, sorted({setting.beta for setting in settings}), room)
        limits = _limits(axes.get_ylim(), max(map(top, drawn)), results.measure)
        axes.set(ylabel=f"Validation {metric.words}", ylim=limits)
        _mark_percent(axes, metric)
        legend(canvas, axes)

    table = Table(
        f"Mean validation {metric.words} over the folds, with its 95% interval.",
        _header(metric),
        [_row(results, setting) for setting in settings],
        _formats(metric),
    )
    return Figure(name, caption, draw, table)


def _limits(
    limits: tuple[float, float], goodness: float, measure: Measure
) -> tuple[float, float]:
    """The limits of the axis, cut beyond `_DEPTH` from the best `Metric.goodness`."""
    metric, (low, high) = measure.metric, limits
    if metric.is_share:
        return max(low, goodness - _DEPTH), min(high, 1.01)
    best = metric.goodness(goodness)  # its own inverse
    end = best + _DEPTH * (measure.worst - best)
    if metric.higher_is_better:
        return (end if low < end < best else low), high
    return low, (end if best < end < high else high)


def _mark_percent(axes: Axes, metric: Metric) -> None:
    if metric.is_share:
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def _place(beta: float) -> float:
    """Where a beta lies on an axis that is logarithmic in 1 − β: 0 at 0, 2 at 0.99."""
    return -math.log10(1 - beta)


def _mark_betas(axes: Axes, betas: Sequence[float], room: float) -> None:
    """Draws ticks at the betas, except where one would overlap the tick before."""
    marked = [betas[0]]
    for beta in betas[1:]:
        if _place(beta) - _place(marked[-1]) > room * _place(betas[-1]):
            marked.append(beta)
    axes.set_xticks([_place(beta) for beta in marked], [f"{beta:g}" for beta in marked])
    axes.set_xlabel("Beta, on a logarithmic axis of 1 − beta")


def _by_seed(results: CrossvalResults) -> Figure:
    """The test results of both optimizers, each seed's joined by a line."""
    titles = {"sgd": "SGD", "momentum": "Momentum"}
    metric = results.measure.metric
    tests = {arm: tested(results.tests[arm], results.measure) for arm in titles}
    pairs = list(zip(*tests.values(), strict=True))

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        for pair in pairs:
            axes.plot((0, 1), pair, color=ink, alpha=0.4, linewidth=0.9)
        for place, (arm, stroke) in enumerate(strokes(titles).items()):
            axes.plot([place] * len(pairs), tests[arm], "o", color=stroke.color)
        plain_axes(axes, ink)
        axes.set_xticks((0, 1), list(titles.values()))
        axes.set(xlim=(-0.4, 1.4), ylabel=f"Test {metric.words}")
        _mark_percent(axes, metric)

    table = Table(
        f"Test {metric.words} by seed.",
        ("Seed", "SGD", "Momentum", "Difference"),
        [
            (run.config.seed, sgd, momentum, momentum - sgd)
            for run, (sgd, momentum) in zip(results.tests["sgd"], pairs, strict=True)
        ],
        _compared(metric),
    )
    return Figure(
        "test-by-seed",
        f"Test {judged(metric)} of the chosen settings. A line joins the two runs with "
        "the same seed.",
        draw,
        table,
        (6.4, 3.2),
    )


def betas_table(results: CrossvalResults) -> Table:
    """Each beta at its best rate, and which betas the two rules choose."""
    measure = results.measure
    least = least_within_one_error(results.trials["momentum"], measure)
    beta, *values = _header(measure.metric)
    remarks = {
        results.chosen["sgd"]: ["SGD"],
        least: ["smallest beta within one standard error"],
    }
    remarks.setdefault(results.chosen["momentum"], []).insert(0, "chosen")
    return Table(
        "Every beta at the best of its effective rates.",
        (beta, values[0], "Remark", *values[1:]),
        [
            _with_remark(_row(results, setting), remarks.get(setting, []))
            for setting in best_of_betas(results.all_trials, measure)
        ],
        _formats(measure.metric),
    )


def _with_remark(row: Sequence[Cell], remarks: Sequence[str]) -> tuple[Cell, ...]:
    """The row with its remarks after the value, which they explain."""
    beta, value, *rest = row
    return beta, value, ", ".join(remarks) or None, *rest


def _folds_table(results: CrossvalResults) -> Table:
    measure, metric = results.measure, results.measure.metric
    rows = [
        (
            *_row(results, setting),
            *(run.epochs[-1].validation_metric for run in ran),
            count_diverged(ran, measure),
        )
        for setting, ran in results.all_trials.items()
    ]
    header = _header(metric)
    names = [f"Fold {place}" for place in range(1, len(rows[0]) - len(header))]
    return Table(
        f"Every setting on every fold. A run that is no better than {measure.guessing} "
        f"on its training {measure.noun}s has diverged and counts as {worst(measure)} "
        "in the mean.",
        (*header, *names, "Diverged"),
        rows,
        {**_formats(metric), **dict.fromkeys(names, metric.format)},
    )


def _row(results: CrossvalResults, setting: Setting) -> tuple[float | None, ...]:
    """Cells under `_header`."""
    value = results.value(setting).shown(results.measure.metric.possible)
    return setting.beta, *value, setting.rate, learning_rate(setting)


def _header(metric: Metric) -> tuple[str, ...]:
    ends = "Lower", "Upper"
    return "Beta", heading(metric), *ends, "Effective rate", "Learning rate"


def _formats(metric: Metric) -> dict[str, str]:
    """The formats of the columns of `_header` that have values of the metric."""
    return dict.fromkeys(_header(metric)[1:4], metric.format)


def _compared(metric: Metric) -> dict[str, str]:
    """The formats of two optimizers and their difference."""
    formats = dict.fromkeys(("SGD", "Momentum"), metric.format)
    return {**formats, "Difference": metric.difference_format}
