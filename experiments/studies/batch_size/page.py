"""The page of `batch-size`: from where on momentum matters, and at which rates.

Every number on it comes from the record of a run; nothing is trained or chosen here.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from experiments.records import plan
from experiments.records import runs as records
from experiments.records.metric import ANY, Metric, Range
from experiments.records.plan import Plan
from experiments.records.runs import Run
from experiments.reporting.drawing import legend, line_with_band, plain_axes, strokes
from experiments.reporting.page import Cell, Figure, Page, Section, Table
from experiments.reporting.statistics import (
    Interval,
    counted,
    difference_in_words,
    direction,
    mean_and_interval,
    too_close,
    wall_time,
)
from experiments.studies.batch_size.plan import (
    BatchSizeCell,
    BatchSizeResults,
    first_gain,
)
from experiments.studies.paired import difference, tested
from experiments.studies.settings import Setting, learning_rate
from experiments.studies.terms import (
    EFFECTIVE_RATE,
    heading,
    judged,
    paired_seeds,
    validation_examples,
    worst,
)
from experiments.studies.validation import count_diverged, validated

Means = Mapping[BatchSizeCell, Interval]

_STROKES = strokes(("sgd", "momentum", "held"))  # the same in all drawings
_CELL = ("Batch size", "Optimizer")
_SETTING = ("Beta", "Effective rate", "Learning rate")


def page(
    results: BatchSizeResults, planned: plan.Plan, ran: Sequence[Run], command: str
) -> Page:
    """The page of the study, from all runs that it `ran`; `command` repeats it."""
    return Page(
        study="batch-size",
        title=f"From which batch size on momentum matters, on {planned['dataset']}",
        summary=_summary(results, planned),
        sections=[
            *(_comparison(results), _rates(results, planned), _speed(results)),
            _method(results, planned, ran),
        ],
        plan=planned,
        plan_hash=plan.digest(planned),
        command=command,
        provenance=records.provenance(ran),
        of_shares=results.measure.metric.is_share,
    )


def gains(
    results: BatchSizeResults, series: str, over: str = "sgd"
) -> dict[int, Interval]:
    """The difference of an optimizer from another on the test split, by batch size."""
    return {
        cell.batch_size: difference(
            runs, results.compared[cell._replace(series=over)], results.measure
        )
        for cell, runs in results.compared.items()
        if cell.series == series
    }


def _summary(results: BatchSizeResults, planned: Plan) -> str:
    equal = gains(results, "momentum")
    noun, metric = results.measure.noun, results.measure.metric
    first, last = min(equal), max(equal)
    differences = (
        f"Its difference from SGD in test {judged(metric)} is "
        f"{difference_in_words(equal[first], metric)} at batch size {first:,} and "
        f"{difference_in_words(equal[last], metric)} at {last:,}, over "
        f"{paired_seeds(planned['seeds'], noun)}."
    )
    of = (
        f"On {planned['dataset']}, {counted(planned['epochs'], 'epoch')}, each "
        "optimizer at the best of its learning rates, momentum with beta "
        f"{planned['beta']:g}"
    )
    if results.smoke:
        return f"{of} was compared with SGD. {differences}"
    lost = [f"{size:,}" for size, gain in equal.items() if direction(gain, metric) < 0]
    under_tuned = (
        f"At {', '.join(lost)} tuned momentum lost to SGD, which it contains as beta "
        "0: there it is under-tuned, and this is no evidence for SGD. "
        if lost
        else ""
    )
    return (
        f"{of} {_from(equal, metric)} {differences} {under_tuned}"
        f"Momentum whose half-life is the same number of {noun}s at every "
        f"batch size {_from(gains(results, 'held'), metric)}"
    )


def _from(gained: Mapping[int, Interval], metric: Metric) -> str:
    start, (*_, last) = first_gain(gained, metric), sorted(gained)
    if start is None and too_close(gained[last]):
        return f"is too close to SGD to call at the largest batch size, {last:,}."
    if start is None and gained[last].n < 3:
        return f"was compared with SGD on too few seeds, {gained[last].n}, to tell."
    if start is None:
        return f"shows no gain over SGD at the largest batch size, {last:,}."
    if start == min(gained):
        return "is better than SGD at every batch size."
    if start == last:
        return f"is better than SGD only at the largest batch size, {last:,}."
    return f"is better than SGD at batch size {start:,} and all larger ones."


def _comparison(results: BatchSizeResults) -> Section:
    noun, metric = results.measure.noun, results.measure.metric
    means = {
        cell: mean_and_interval(tested(runs, results.measure))
        for cell, runs in results.compared.items()
    }
    gained = {
        BatchSizeCell(size, series): gain
        for series in ("momentum", "held")
        for size, gain in gains(results, series).items()
    }
    held = "; ".join(
        f"{difference_in_words(gain, metric)} at {size:,}"
        for size, gain in gains(results, "held", over="momentum").items()
    )
    paragraphs = [
        "At constant epochs a larger batch takes fewer steps, and its gradients are "
        "less noisy. By the rule fixed in advance, momentum matters from the smallest "
        "batch size on for which its interval of the difference from SGD, and that of "
        f"every larger batch size, lies {_better_side(metric)} 0.",
        "The half-life of momentum is the time in which the weight of a gradient falls "
        f"by half. Beta fixes it in steps, so at equal beta it spans more {noun}s the "
        f"larger the batch. If the half-life in {noun}s is held constant instead, beta "
        "falls as batches grow; momentum of equal half-life minus momentum of equal "
        f"beta is {held}.",
        EFFECTIVE_RATE,
    ]
    if results.left_out:
        sizes = ", ".join(f"{size:,}" for size in results.left_out)
        paragraphs.append(f"Left out, as there are fewer training {noun}s: {sizes}.")
    return Section(
        "From which batch size on does momentum matter?",
        paragraphs,
        [
            _values_figure(
                means, _titles(results), metric, _values_table(results, means)
            ),
            _gains_figure(gained, metric, _differences(gained, metric)),
        ],
    )


def _better_side(metric: Metric) -> str:
    """Where the interval of a difference lies if the first optimizer is better."""
    return "above" if metric.higher_is_better else "below"


def _rates(results: BatchSizeResults, planned: Plan) -> Section:
    at_an_end = []
    for (size, key), setting in results.choice.items():
        tried = [other.rate for other in results.tuned[BatchSizeCell(size, key)]]
        if setting.rate in (min(tried), max(tried)):
            at_an_end.append(f"{results.series[key].title} at batch size {size:,}")
    inside = (
        f"The best rate is at an end for {'; '.join(at_an_end)}: a better one may lie "
        "beyond."
        if at_an_end
        else "Every best rate lies between others."
    )
    extensions = (
        "If the best rate of one optimizer was the first or the last, all tried "
        f"another beyond it, at most "
        f"{counted(planned['extensions'], 'time')}. "
        if planned["extensions"]
        else ""
    )
    rates = {cell: setting.rate for cell, setting in results.choice.items()}
    return Section(
        "Which learning rate does each batch size need?",
        [
            "All optimizers of a batch size tried the same effective rates, "
            f"{len(planned['effective_rates'])} at first. {extensions}{inside}"
        ],
        [
            _rates_figure(
                rates, _titles(results), results.measure.metric, _chosen(results)
            )
        ],
        [_trials(results)],
    )


def _speed(results: BatchSizeResults) -> Section:
    padding = (
        " The last batch of an epoch is padded to full size; this costs more if a "
        f"batch is a large part of all {results.measure.noun}s."
    )
    return Section(
        "What does a batch size cost?",
        [
            "One program trains all optimizers of a batch size, SGD as momentum of "
            f"beta 0, so they are equally fast.{padding if results.padded else ''}"
        ],
        [_speed_figure(results)],
    )


def _method(results: BatchSizeResults, planned: Plan, ran: Sequence[Run]) -> Section:
    noun, metric = results.measure.noun, results.measure.metric
    finals = sum(run.config.test for run in ran)
    lost = count_diverged(ran, results.measure)
    ties = ", and by the loss if accuracies were equal"
    if not metric.is_share:
        ties = f", and by the loss if the {metric.words} was equal"
    return Section(
        "How it was done",
        [
            f"{counted(len(ran), 'run')} of {counted(planned['epochs'], 'epoch')} "
            f"took {wall_time(ran)}, "
            f"without compilation; {lost} diverged. Rates were chosen by the "
            f"{metric.words} on {validation_examples(results.measure)}"
            f"{'' if metric.key == 'loss' else ties}; tuning seeds: "
            f"{planned['tuning_seeds']}. "
            f"{counted(finals, 'run')}, on {counted(planned['seeds'], 'seed')} that no "
            f"tuning run used, read the test {noun}s, "
            "each once, after its last epoch. Equal half-life and equal beta are the "
            f"same optimizer at batch size {planned['anchor']}, where it is trained "
            "once."
        ],
    )


def _values_table(results: BatchSizeResults, means: Means) -> Table:
    measure, metric = results.measure, results.measure.metric
    columns = heading(metric), "Lower", "Upper"
    first = next(iter(results.compared.values()))
    seeds = [f"Seed {run.config.seed}" for run in first]
    rows = [
        (
            *_cell_cells(results, cell),
            *means[cell].shown(metric.possible),
            *_setting_cells(results.choice[cell]),
            count_diverged(runs, measure),
            *(run.test_metric for run in runs),
        )
        for cell, runs in results.compared.items()
    ]
    return Table(
        f"Test {metric.words} of each optimizer at the best of its rates; a run that "
        f"diverged counts as {worst(measure)} in the mean.",
        (*_CELL, *columns, *_SETTING, "Diverged", *seeds),
        rows,
        dict.fromkeys((*columns, *seeds), metric.format),
    )


def _differences(gained: Means, metric: Metric) -> Table:
    names = {"momentum": "Equal beta", "held": "Equal half-life"}
    columns = ("Difference", "Lower", "Upper")
    return Table(
        f"Paired differences from SGD in test {judged(metric)}, with 95% intervals.",
        ("Batch size", "Momentum", *columns),
        [
            (
                cell.batch_size,
                names[cell.series],
                *gain.shown(metric.possible_differences),
            )
            for cell, gain in gained.items()
        ],
        dict.fromkeys(columns, metric.difference_format),
    )


def _chosen(results: BatchSizeResults) -> Table:
    """The best setting of each optimizer, and the largest rate that is stable."""
    rows = []
    for cell, setting in results.choice.items():
        stable = [
            tried.rate
            for tried, runs in results.tuned[cell].items()
            if not count_diverged(runs, results.measure)
        ]
        largest = max(stable, default=None)
        rows.append((*_cell_cells(results, cell), *_setting_cells(setting), largest))
    return Table(
        "The chosen settings. Largest stable: the largest effective rate tried at "
        "which no run diverged.",
        (*_CELL, *_SETTING, "Largest stable"),
        rows,
    )


def _trials(results: BatchSizeResults) -> Table:
    measure, metric = results.measure, results.measure.metric
    rows = [
        (
            *_cell_cells(results, cell),
            fmean(validated(run, measure) for run in runs),
            *_setting_cells(setting),
            count_diverged(runs, measure),
            len(runs),
        )
        for cell, tried in results.tuned.items()
        for setting, runs in tried.items()
    ]
    return Table(
        f"Every setting tried, with its mean validation {metric.words}. A run diverged "
        f"if neither loss of its last epoch is better than {measure.guessing}; it "
        f"counts as {worst(measure)}.",
        (*_CELL, heading(metric), *_SETTING, "Diverged", "Runs"),
        rows,
        {heading(metric): metric.format},
    )


def _cell_cells(results: BatchSizeResults, cell: BatchSizeCell) -> tuple[Cell, ...]:
    """The cells of a row under `_CELL`."""
    return cell.batch_size, results.series[cell.series].title


def _setting_cells(setting: Setting) -> tuple[Cell, ...]:
    """The cells of a row under `_SETTING`."""
    return *setting, learning_rate(setting)


def _titles(results: BatchSizeResults) -> dict[str, str]:
    return {key: optimizer.title for key, optimizer in results.series.items()}


def _values_figure(
    means: Means, titles: Mapping[str, str], metric: Metric, table: Table
) -> Figure:

    def draw(canvas: Canvas, ink: str) -> None:
        axes = _lines(canvas, ink, means, titles, metric.possible)
        axes.set(ylabel=f"Test {metric.words}")
        if metric.is_share:
            low, high = axes.get_ylim()
            axes.set(ylim=(max(low, -0.02), min(high, 1.02)))
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(canvas, axes)

    return Figure(
        "accuracy" if metric.is_share else "metric",
        f"Test {judged(metric)} against batch size at constant epochs: mean and 95% "
        "interval over the seeds, each optimizer at the best of its learning rates.",
        draw,
        table,
    )


def _gains_figure(gained: Means, metric: Metric, table: Table) -> Figure:
    titles = {"momentum": "Equal beta, less SGD", "held": "Equal half-life, less SGD"}
    what = "The gain of momentum over"
    if not metric.higher_is_better:
        what = "The difference of momentum from"

    def draw(canvas: Canvas, ink: str) -> None:
        axes = _lines(canvas, ink, gained, titles, metric.possible_differences)
        axes.axhline(0, color=ink, linewidth=0.8)
        axes.set(ylabel=f"Difference of test {metric.words}")
        if metric.is_share:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(canvas, axes)

    return Figure(
        "gain",
        f"{what} SGD in test {metric.words}: mean and 95% interval of the paired "
        "differences. Momentum is better where the whole band is "
        f"{_better_side(metric)} 0.",
        draw,
        table,
    )


def _rates_figure(
    rates: Mapping[BatchSizeCell, float],
    titles: Mapping[str, str],
    metric: Metric,
    table: Table,
) -> Figure:
    """The best effective rate against batch size, with two rules of thumb."""
    points = {cell: Interval(rate, None, None, 1) for cell, rate in rates.items()}

    def draw(canvas: Canvas, ink: str) -> None:
        axes = _lines(canvas, ink, points, titles)
        sizes = np.array(sorted({cell.batch_size for cell in rates}))
        first = rates[BatchSizeCell(int(sizes[0]), "sgd")]
        for name, power, dash in (("linear", 1.0, ":"), ("square-root", 0.5, "-.")):
            rule = first * (sizes / sizes[0]) ** power
            axes.plot(sizes, rule, dash, color=ink, alpha=0.6, label=f"{name} rule")
        axes.set(yscale="log", ylabel="Best effective learning rate")
        low, high = min(rates.values()), max(rates.values())
        axes.set_ylim(0.8 * low, 1.25 * high)  # a marker at an end is drawn whole
        chosen = sorted(set(rates.values()))
        axes.set_yticks(chosen, [f"{rate:g}" for rate in chosen])
        axes.set_yticks([], minor=True)
        legend(canvas, axes)

    return Figure(
        "best-rate",
        f"The effective learning rate of the best validation {metric.words}. The rules "
        "of thumb scale SGD's rate at the smallest batch size with the batch size, or "
        "with its square root.",
        draw,
        table,
    )


def _speed_figure(results: BatchSizeResults) -> Figure:
    """Examples per second of one run of the comparison, by batch size."""
    noun = results.measure.noun
    nouns = f"{noun.capitalize()}s"
    by_size: dict[int, list[Run]] = {}
    for cell, runs in results.compared.items():
        by_size.setdefault(cell.batch_size, []).extend(runs)
    medians = {
        size: median(run.images_per_second for run in runs)
        for size, runs in by_size.items()
    }
    table = Table(
        f"Median {noun}s per second of a run, and median seconds of a run.",
        ("Batch size", f"{nouns}/s", "Seconds", "Runs"),
        [
            (size, medians[size], median(run.seconds for run in runs), len(runs))
            for size, runs in by_size.items()
        ],
        {f"{nouns}/s": "{:,.0f}", "Seconds": "{:.2f}"},
    )

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        axes.plot(list(medians), list(medians.values()), "o-", color=ink, linewidth=1.8)
        _batch_size_axis(axes, sorted(medians), ink)
        axes.set(ylabel=f"{nouns} per second", ylim=(0, 1.1 * max(medians.values())))
        axes.yaxis.set_major_formatter("{x:,.0f}")

    return Figure(
        "speed",
        f"{nouns} per second of one run, median over the runs of the comparison; "
        "several train together, one on each device.",
        draw,
        table,
        (6.4, 3.2),
    )


def _lines(
    canvas: Canvas,
    ink: str,
    means: Means,
    titles: Mapping[str, str],
    possible: Range = ANY,
) -> Axes:
    """A line with its band per optimizer."""
    axes = canvas.subplots()
    sizes = sorted({cell.batch_size for cell in means})
    for key, title in titles.items():
        shown = [means[BatchSizeCell(size, key)].shown(possible) for size in sizes]
        middle, low, high = np.array(shown, float).T
        line_with_band(axes, sizes, middle, low, high, _STROKES[key], title)
    _batch_size_axis(axes, sizes, ink)
    return axes


def _batch_size_axis(axes: Axes, sizes: Sequence[int], ink: str) -> None:
    """A logarithmic axis with a tick at every batch size."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="Batch size")
    plain_axes(axes, ink)
