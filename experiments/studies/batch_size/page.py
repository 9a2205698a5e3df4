"""The page of `batch-size`: from where on momentum matters, and at which rates.

Every number on it comes from the record of a run; nothing is trained or chosen here.
"""

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from experiments.records import plan
from experiments.records import runs as records
from experiments.records.plan import Plan
from experiments.records.runs import Run
from experiments.reporting.drawing import legend, line_with_band, plain_axes, strokes
from experiments.reporting.page import Cell, Figure, Page, Section, Table
from experiments.reporting.statistics import (
    ACCURACIES,
    ANY,
    DIFFERENCES,
    Interval,
    Range,
    in_points,
    mean_and_interval,
    sign,
    wall_time,
)
from experiments.studies.batch_size.plan import (
    BatchSizeCell,
    BatchSizeResults,
    first_gain,
)
from experiments.studies.paired import accuracies, difference
from experiments.studies.settings import Setting, learning_rate
from experiments.studies.terms import EFFECTIVE_RATE, paired_seeds
from experiments.studies.validation import count_diverged, mean_score

Means = Mapping[BatchSizeCell, Interval]

_STROKES = strokes(("sgd", "momentum", "held"))  # the same in all drawings
_SETTING = ("Batch size", "Optimizer", "Beta", "Effective rate", "Learning rate")
_ACCURACY = ("Accuracy", "Lower", "Upper")


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
    )


def gains(
    results: BatchSizeResults, series: str, over: str = "sgd"
) -> dict[int, Interval]:
    """The gain of an optimizer over another in test accuracy, by batch size."""
    return {
        cell.batch_size: difference(
            runs, results.compared[cell._replace(series=over)], results.classes
        )
        for cell, runs in results.compared.items()
        if cell.series == series
    }


def _summary(results: BatchSizeResults, planned: Plan) -> str:
    equal = gains(results, "momentum")
    first, last = min(equal), max(equal)
    lost = [f"{size:,}" for size, gain in equal.items() if sign(gain) < 0]
    under_tuned = (
        f"At {', '.join(lost)} tuned momentum lost to SGD, which it contains as beta "
        "0: there it is under-tuned, and this is no evidence for SGD. "
        if lost
        else ""
    )
    return (
        f"On {planned['dataset']}, {planned['epochs']} epochs, each optimizer at the "
        f"best of its learning rates, momentum with beta {planned['beta']:g} "
        f"{_from(equal)} Its difference from SGD in test accuracy is "
        f"{in_points(equal[first])} at batch size {first:,} and "
        f"{in_points(equal[last])} at {last:,}, over {paired_seeds(planned['seeds'])}. "
        f"{under_tuned}Momentum whose half-life is the same number of images at every "
        f"batch size {_from(gains(results, 'held'))}"
    )


def _from(gained: Mapping[int, Interval]) -> str:
    start, (*_, last) = first_gain(gained), sorted(gained)
    if start is None:
        return f"shows no gain over SGD at the largest batch size, {last:,}."
    if start == min(gained):
        return "is better than SGD at every batch size."
    if start == last:
        return f"is better than SGD only at the largest batch size, {last:,}."
    return f"is better than SGD at batch size {start:,} and all larger ones."


def _comparison(results: BatchSizeResults) -> Section:
    means = {
        cell: mean_and_interval(accuracies(runs, results.classes))
        for cell, runs in results.compared.items()
    }
    gained = {
        BatchSizeCell(size, series): gain
        for series in ("momentum", "held")
        for size, gain in gains(results, series).items()
    }
    held = "; ".join(
        f"{in_points(gain)} at {size:,}"
        for size, gain in gains(results, "held", over="momentum").items()
    )
    paragraphs = [
        "At constant epochs a larger batch takes fewer steps, and its gradients are "
        "less noisy. By the rule fixed in advance, momentum matters from the smallest "
        "batch size on for which its interval of the difference from SGD, and that of "
        "every larger batch size, lies above 0.",
        "The half-life of momentum is the time in which the weight of a gradient falls "
        "by half. Beta fixes it in steps, so at equal beta it spans more images the "
        "larger the batch. If the half-life in images is held constant instead, beta "
        "falls as batches grow; momentum of equal half-life minus momentum of equal "
        f"beta is {held}.",
        EFFECTIVE_RATE,
    ]
    if results.left_out:
        sizes = ", ".join(f"{size:,}" for size in results.left_out)
        paragraphs.append(f"Left out, as there are fewer training images: {sizes}.")
    return Section(
        "From which batch size on does momentum matter?",
        paragraphs,
        [
            _accuracy_figure(means, _titles(results), _accuracies(results, means)),
            _gains_figure(gained, _differences(gained)),
        ],
    )


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
        f"another beyond it, at most {planned['extensions']} times. "
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
        [_rates_figure(rates, _titles(results), _chosen(results))],
        [_trials(results)],
    )


def _speed(results: BatchSizeResults) -> Section:
    return Section(
        "What does a batch size cost?",
        [
            "One program trains all optimizers of a batch size, SGD as momentum of "
            "beta 0, so they are equally fast. The last batch of an epoch is padded to "
            "full size; this costs more if a batch is a large part of all images."
        ],
        [_speed_figure(results)],
    )


def _method(results: BatchSizeResults, planned: Plan, ran: Sequence[Run]) -> Section:
    tested = sum(run.config.test for run in ran)
    lost = count_diverged(ran, results.classes)
    return Section(
        "How it was done",
        [
            f"{len(ran)} runs of {planned['epochs']} epochs took {wall_time(ran)}, "
            f"without compilation; {lost} diverged. Rates were chosen by the accuracy "
            "on the last 20% of the training images, and by the loss if accuracies "
            f"were equal; tuning seeds: {planned['tuning_seeds']}. {tested} runs, on "
            f"{planned['seeds']} seeds that no tuning run used, read the test images, "
            "each once, after its last epoch. Equal half-life and equal beta are the "
            f"same optimizer at batch size {planned['anchor']}, where it is trained "
            "once."
        ],
    )


def _accuracies(results: BatchSizeResults, means: Means) -> Table:
    first = next(iter(results.compared.values()))
    seeds = [f"Seed {run.config.seed}" for run in first]
    rows = [
        (
            *_setting_cells(results, cell, results.choice[cell]),
            *means[cell].shown(ACCURACIES),
            count_diverged(runs, results.classes),
            *(run.test_accuracy for run in runs),
        )
        for cell, runs in results.compared.items()
    ]
    return Table(
        "Test accuracy of each optimizer at the best of its rates; a run that diverged "
        "counts as 0 in the mean.",
        (*_SETTING, *_ACCURACY, "Diverged", *seeds),
        rows,
        dict.fromkeys((*_ACCURACY, *seeds), "{:.2%}"),
    )


def _differences(gained: Means) -> Table:
    names = {"momentum": "Equal beta", "held": "Equal half-life"}
    columns = ("Difference", "Lower", "Upper")
    return Table(
        "Paired differences from SGD in test accuracy, with 95% intervals.",
        ("Batch size", "Momentum", *columns),
        [
            (cell.batch_size, names[cell.series], *gain.shown(DIFFERENCES))
            for cell, gain in gained.items()
        ],
        dict.fromkeys(columns, "{:+.2%}"),
    )


def _chosen(results: BatchSizeResults) -> Table:
    """The best setting of each optimizer, and the largest rate that is stable."""
    rows = []
    for cell, setting in results.choice.items():
        stable = [
            tried.rate
            for tried, runs in results.tuned[cell].items()
            if not count_diverged(runs, results.classes)
        ]
        largest = max(stable, default=None)
        rows.append((*_setting_cells(results, cell, setting), largest))
    return Table(
        "The chosen settings. Largest stable: the largest effective rate tried at "
        "which no run diverged.",
        (*_SETTING, "Largest stable"),
        rows,
    )


def _trials(results: BatchSizeResults) -> Table:
    rows = [
        (
            *_setting_cells(results, cell, setting),
            mean_score(runs, results.classes).accuracy,
            count_diverged(runs, results.classes),
            len(runs),
        )
        for cell, tried in results.tuned.items()
        for setting, runs in tried.items()
    ]
    return Table(
        "Every setting tried, with its mean validation accuracy. A run diverged if "
        "neither loss of its last epoch is better than guessing; it counts as 0.",
        (*_SETTING, "Accuracy", "Diverged", "Runs"),
        rows,
        {"Accuracy": "{:.2%}"},
    )


def _setting_cells(
    results: BatchSizeResults, cell: BatchSizeCell, setting: Setting
) -> tuple[Cell, ...]:
    """The cells of a row under `_SETTING`."""
    title = results.series[cell.series].title
    return (cell.batch_size, title, *setting, learning_rate(setting))


def _titles(results: BatchSizeResults) -> dict[str, str]:
    return {key: optimizer.title for key, optimizer in results.series.items()}


def _accuracy_figure(means: Means, titles: Mapping[str, str], table: Table) -> Figure:

    def draw(canvas: Canvas, ink: str) -> None:
        axes = _lines(canvas, ink, means, titles, ACCURACIES)
        low, high = axes.get_ylim()
        axes.set(ylabel="Test accuracy", ylim=(max(low, -0.02), min(high, 1.02)))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(canvas, axes)

    return Figure(
        "accuracy",
        "Test accuracy against batch size at constant epochs: mean and 95% interval "
        "over the seeds, each optimizer at the best of its learning rates.",
        draw,
        table,
    )


def _gains_figure(gained: Means, table: Table) -> Figure:
    titles = {"momentum": "Equal beta, less SGD", "held": "Equal half-life, less SGD"}

    def draw(canvas: Canvas, ink: str) -> None:
        axes = _lines(canvas, ink, gained, titles, DIFFERENCES)
        axes.axhline(0, color=ink, linewidth=0.8)
        axes.set(ylabel="Difference of test accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(canvas, axes)

    return Figure(
        "gain",
        "The gain of momentum over SGD in test accuracy: mean and 95% interval of the "
        "paired differences. Momentum is better where the whole band is above 0.",
        draw,
        table,
    )


def _rates_figure(
    rates: Mapping[BatchSizeCell, float], titles: Mapping[str, str], table: Table
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
        legend(canvas, axes)

    return Figure(
        "best-rate",
        "The effective learning rate of the best validation accuracy. The rules of "
        "thumb scale SGD's rate at the smallest batch size with the batch size, or "
        "with its square root.",
        draw,
        table,
    )


def _speed_figure(results: BatchSizeResults) -> Figure:
    """Images per second of one run of the comparison, by batch size."""
    by_size: dict[int, list[Run]] = {}
    for cell, runs in results.compared.items():
        by_size.setdefault(cell.batch_size, []).extend(runs)
    medians = {
        size: median(run.images_per_second for run in runs)
        for size, runs in by_size.items()
    }
    table = Table(
        "Median images per second of a run, and median seconds of a run.",
        ("Batch size", "Images/s", "Seconds", "Runs"),
        [
            (size, medians[size], median(run.seconds for run in runs), len(runs))
            for size, runs in by_size.items()
        ],
        {"Images/s": "{:,.0f}", "Seconds": "{:.2f}"},
    )

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        axes.plot(list(medians), list(medians.values()), "o-", color=ink, linewidth=1.8)
        _batch_size_axis(axes, sorted(medians), ink)
        axes.set(ylabel="Images per second", ylim=(0, None))

    return Figure(
        "speed",
        "Images per second of one run, median over the runs of the comparison; several "
        "train together, one on each device.",
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
