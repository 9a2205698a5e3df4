"""The drawings of a sweep, each with the table behind it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import (
    Stroke,
    heat_map,
    legend,
    line_with_band,
    panels,
    plain_axes,
    strokes,
)
from experiments.reporting.page import Figure, Table
from experiments.reporting.statistics import ACCURACIES, mean_and_interval
from experiments.studies.methods import METHODS, title
from experiments.studies.paired import accuracies
from experiments.studies.sweep.results import (
    SweepResults,
    TrialResult,
    best,
    best_so_far,
    slices,
)

ALPHA, RATE, OTHER = "learning rate α", "effective learning rate α/(1 − β)", "1 − β"
_QUANTILES = (0.1, 0.5, 0.9)  # over the orders of the trials

# The position of a trial on the axes that are cut into slices.
_AXES: Mapping[str, Callable[[TrialResult], float]] = {
    ALPHA: lambda result: result.runs[0].config.learning_rate,
    RATE: lambda result: result.trial.effective_rate,
    OTHER: lambda result: result.trial.one_minus_beta,
}


def as_percent(headings: Iterable[str]) -> dict[str, str]:
    """The formats of columns of accuracies."""
    return {heading: "{:.2%}" for heading in headings}


def final(swept: SweepResults) -> Figure:
    """Test accuracy of every final run, with means and intervals."""
    values = {
        method: accuracies(runs, swept.classes) for method, runs in swept.final.items()
    }
    drawn = strokes(values)

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        plain_axes(axes, ink)
        for row, (method, reached) in enumerate(values.items()):
            mean, low, high = mean_and_interval(reached).shown(ACCURACIES)
            color, dots = drawn[method].color, [row + 0.18] * len(reached)
            axes.scatter(reached, dots, s=16, color=color, alpha=0.5)
            if low is not None and high is not None:
                axes.plot([low, high], [row, row], color=color, linewidth=3)
            axes.plot(mean, row, "D", color=color)
        axes.set_yticks(range(len(values)), [title(method) for method in values])
        axes.set_ylim(len(values) - 0.5, -0.5)
        low, high = axes.get_xlim()
        axes.set(xlabel="test accuracy", xlim=(max(low, 0), min(high, 1)))
        axes.xaxis.set_major_formatter("{x:.1%}")

    header = ["seed", *(title(method) for method in values)]
    seeds = [run.config.seed for run in next(iter(swept.final.values()))]
    rows = list(zip(seeds, *values.values(), strict=True))
    return Figure(
        "final",
        "Test accuracy of the final runs: every seed, their mean and its 95% interval.",
        draw,
        Table("Test accuracy by seed.", header, rows, as_percent(header[1:])),
        (6.4, 1.2 + 0.6 * len(values)),
    )


def by_rate(swept: SweepResults) -> Figure:
    """The trials over the learning rate, and over the effective one."""
    caption = (
        "The best trial in each half decade of the learning rate, and of the effective "
        "learning rate; faint dots are all trials. The table also lists trials that "
        "lie lower or diverged."
    )
    return _cuts(swept, "rate", (ALPHA, RATE), caption)


def by_beta(swept: SweepResults) -> Figure:
    """The trials over 1 − β: what β gains once the rate is tuned."""
    caption = (
        "The best trial in each half decade of 1 − β, at any rate; the best of SGD is "
        "a level line, and faint dots are all trials. The table also lists trials that "
        "lie lower or diverged."
    )
    return _cuts(swept, "beta", (OTHER,), caption)


def _cuts(swept: SweepResults, name: str, cut: Sequence[str], caption: str) -> Figure:
    drawn, tops = strokes(swept.budget.methods), best(swept.results)
    lowest, _ = swept.resolved
    parts = [
        (axis, method)
        for axis in cut
        for method in drawn
        if axis != OTHER or METHODS[method].tunes_beta
    ]

    def draw(canvas: Canvas, ink: str) -> None:
        for axes, axis in zip(panels(canvas, len(cut), 3.4), cut, strict=True):
            plain_axes(axes, ink)
            for method, look in drawn.items():
                label = title(method)
                if (axis, method) in parts:
                    _cut(axes, swept.trials_of(method), _AXES[axis], look, label)
                else:
                    axes.axhline(
                        tops[method].accuracy,
                        label=label,
                        color=look.color,
                        linestyle=look.dash,
                    )
            axes.set(xscale="log", xlabel=axis, ylabel="validation accuracy")
            axes.set_ylim(bottom=lowest)
            axes.yaxis.set_major_formatter("{x:.0%}")
        legend(canvas, canvas.axes[0])

    header = ["axis", "half decade around", "method", "trials", "best accuracy"]
    rows = [
        [axis, part.middle, title(method), part.trials, part.accuracy]
        for axis, method in parts
        for part in slices(
            swept.trials_of(method), list(map(_AXES[axis], swept.trials_of(method)))
        )
    ]
    table = Table(caption, header, rows, as_percent(header[4:]))
    return Figure(name, caption, draw, table, (6.4, 3.4))


def _cut(
    axes: Axes,
    results: Sequence[TrialResult],
    place: Callable[[TrialResult], float],
    stroke: Stroke,
    label: str,
) -> None:
    """All trials of a method, and a line through the best of each half decade."""
    places = list(map(place, results))
    values = [result.accuracy for result in results]
    axes.plot(places, values, "o", color=stroke.color, alpha=0.25, markersize=3)
    parts = slices(results, places)
    middles, tops = [p.middle for p in parts], [p.accuracy for p in parts]
    axes.plot(
        middles,
        tops,
        label=label,
        color=stroke.color,
        linestyle=stroke.dash,
        marker="o",
    )


def budget_curves(swept: SweepResults) -> Figure:
    """The best so far against the number of trials, over all orders of the trials."""
    drawn = strokes(swept.budget.methods)
    curves = {
        method: best_so_far(
            [result.score.accuracy for result in swept.trials_of(method)], _QUANTILES
        )
        for method in drawn
    }

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        plain_axes(axes, ink)
        for method, (low, middle, high) in curves.items():
            counts, look = list(range(1, len(middle) + 1)), drawn[method]
            line_with_band(axes, counts, middle, low, high, look, title(method))
        top = max(curve[-1].max() for curve in curves.values())
        bottom = min(curve[0][2:].min(initial=top) for curve in curves.values())
        axes.set_ylim(bottom, top + 0.05 * (top - bottom) + 0.001)
        axes.set(xlabel="trials", ylabel="best validation accuracy so far")
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.legend(loc="lower right")

    header = ["method", "trials", "10% of orders", "median", "90%"]
    rows = [
        [title(method), k + 1, *curve[:, k]]
        for method, curve in curves.items()
        for k in range(curve.shape[1])
    ]
    caption = (
        "The best validation accuracy after a number of trials: the median and the "
        "middle 80% over all orders of the same trials. A trial that diverged counts "
        "as 0%."
    )
    table = Table(caption, header, rows, as_percent(header[2:]))
    return Figure("budget", caption, draw, table)


def maps(swept: SweepResults) -> list[Figure]:
    """Validation accuracy over the space, a map for each method and batch size."""
    return [
        _map(swept, method, size)
        for method in swept.budget.methods
        if METHODS[method].tunes_beta
        for size in swept.budget.batch_sizes
    ]


def _map(swept: SweepResults, method: str, batch_size: int) -> Figure:
    results = swept.trials_of(method)
    results = [result for result in results if result.trial.batch_size == batch_size]
    values, rates, others = _levels(results)
    on_grid = values.size == len(results)

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        axes.set(xlabel=RATE, ylabel=OTHER)
        if on_grid:
            heat_map(axes, values, rates, others, ink, "{:.1%}", limits=swept.resolved)
        else:
            _dots(axes, canvas, results, swept, ink)

    header = [RATE, OTHER, "validation accuracy"]
    rows = [
        [result.trial.effective_rate, result.trial.one_minus_beta, result.accuracy]
        for result in sorted(results, key=lambda result: result.score, reverse=True)
    ]
    caption = (
        f"{title(method)}, batch size {batch_size}: validation accuracy of every "
        "trial. The best trial is framed; a cross is a trial that diverged."
    )
    if len(swept.rounds) > 1 and not on_grid:
        caption += " The dashed frame is the space as it was declared."
    return Figure(
        f"map-{method}-{batch_size}",
        caption,
        draw,
        Table(caption, header, rows, as_percent(header[2:])),
        (6.4, 4.2),
    )


def _levels(
    results: Sequence[TrialResult],
) -> tuple[Float[np.ndarray, "others rates"], list[str], list[str]]:
    """The accuracies as a matrix, with the labels of its columns and of its rows.

    It has as many entries as there are trials only if these lie on a grid.
    """
    places = [
        (
            round(50 * math.log10(result.trial.one_minus_beta)),
            round(50 * math.log10(result.trial.effective_rate)),
        )
        for result in results
    ]
    rows, columns = (sorted(set(levels)) for levels in zip(*places, strict=True))
    values = np.full((len(rows), len(columns)), math.nan)
    for (row, column), result in zip(places, results, strict=True):
        values[rows.index(row), columns.index(column)] = result.accuracy
    x, y = ([f"{10 ** (n / 50):.2g}" for n in levels] for levels in (columns, rows))
    return values, x, y


def _dots(
    axes: Axes,
    canvas: Canvas,
    results: list[TrialResult],
    swept: SweepResults,
    ink: str,
) -> None:
    """The trials where they lie, colored by accuracy."""
    plain_axes(axes, ink)
    space = swept.rounds[-1].space
    axes.set(xscale="log", xlim=space.effective_rate)
    axes.set(yscale="log", ylim=space.one_minus_beta)
    scale = Normalize(*swept.resolved, clip=True)
    colors = matplotlib.colormaps["cividis"].resampled(10)  # SVG draws more as a raster
    for result in results:
        place = result.trial.effective_rate, result.trial.one_minus_beta
        if result.diverged:
            axes.plot(*place, "x", color=ink, ms=7, clip_on=False)
        else:
            color = colors(scale(result.accuracy))
            axes.plot(*place, "o", color=color, mec=ink, ms=11, clip_on=False)
    top = max(results, key=lambda result: result.score)
    if not top.diverged:
        place = top.trial.effective_rate, top.trial.one_minus_beta
        axes.plot(*place, "s", color="none", mec=ink, ms=19, clip_on=False)
    rate, other = swept.budget.space
    if len(swept.rounds) > 1:
        x = [rate.low, rate.high, rate.high, rate.low, rate.low]
        y = [other.low, other.low, other.high, other.high, other.low]
        axes.plot(x, y, color=ink, linestyle="dashed", linewidth=1)
    shown = ScalarMappable(scale, colors)
    bar = canvas.colorbar(shown, ax=axes, format="{x:.0%}", extend="min")
    bar.ax.tick_params(colors=ink, length=3, width=0.6)
    bar.outline.set_edgecolor(ink)  # pyright: ignore
