"""The drawings of a sweep, each with the table behind it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas

from experiments.records.metric import Metric
from experiments.reporting.drawing import (
    Stroke,
    color_map,
    heat_map,
    legend,
    line_with_band,
    panels,
    plain_axes,
    strokes,
)
from experiments.reporting.page import Figure, Table
from experiments.reporting.statistics import mean_and_interval
from experiments.studies.methods import METHODS, title
from experiments.studies.paired import tested
from experiments.studies.sweep.results import (
    SweepResults,
    TrialResult,
    best,
    best_so_far,
    slices,
)
from experiments.studies.terms import judged, worst

ALPHA, RATE, OTHER = "learning rate α", "effective learning rate α/(1 − β)", "1 − β"
_QUANTILES = (0.1, 0.5, 0.9)  # over the orders of the trials

# The position of a trial on the axes that are cut into slices.
_AXES: Mapping[str, Callable[[TrialResult], float]] = {
    ALPHA: lambda result: result.runs[0].config.learning_rate,
    RATE: lambda result: result.trial.effective_rate,
    OTHER: lambda result: result.trial.one_minus_beta,
}


def formats(metric: Metric, headings: Iterable[str]) -> dict[str, str]:
    """The formats of columns of values."""
    return dict.fromkeys(headings, metric.format)


def final(swept: SweepResults) -> Figure:
    """The metric of every final run, with means and intervals."""
    metric = swept.measure.metric
    values = {
        method: tested(runs, swept.measure) for method, runs in swept.final.items()
    }
    drawn = strokes(values)

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        plain_axes(axes, ink)
        for row, (method, reached) in enumerate(values.items()):
            mean, low, high = mean_and_interval(reached).shown(metric.possible)
            color, dots = drawn[method].color, [row + 0.18] * len(reached)
            axes.scatter(reached, dots, s=16, color=color, alpha=0.5)
            if low is not None and high is not None:
                axes.plot([low, high], [row, row], color=color, linewidth=3)
            axes.plot(mean, row, "D", color=color)
        axes.set_yticks(range(len(values)), [title(method) for method in values])
        axes.set_ylim(len(values) - 0.5, -0.5)
        low, high = np.clip(axes.get_xlim(), *metric.possible)
        axes.set(xlabel=f"test {judged(metric)}", xlim=(low, high))
        if metric.is_share:
            axes.xaxis.set_major_formatter("{x:.1%}")

    header = ["seed", *(title(method) for method in values)]
    seeds = [run.config.seed for run in next(iter(swept.final.values()))]
    rows = list(zip(seeds, *values.values(), strict=True))
    return Figure(
        "final",
        f"Test {judged(metric)} of the final runs: every seed, their mean and its 95% "
        "interval.",
        draw,
        Table(
            f"Test {metric.words} by seed.", header, rows, formats(metric, header[1:])
        ),
        (6.4, 1.2 + 0.6 * len(values)),
    )


def by_rate(swept: SweepResults) -> Figure:
    """The trials over the learning rate, and over the effective one."""
    caption = (
        "The best trial in each half decade of the learning rate, and of the effective "
        "learning rate; faint dots are all trials. The table also lists trials that "
        f"lie {_worse(swept)} or diverged."
    )
    return _cuts(swept, "rate", (ALPHA, RATE), caption)


def by_beta(swept: SweepResults) -> Figure:
    """The trials over 1 − β: what β gains once the rate is tuned."""
    caption = (
        "The best trial in each half decade of 1 − β, at any rate; the best of SGD is "
        "a level line, and faint dots are all trials. The table also lists trials that "
        f"lie {_worse(swept)} or diverged."
    )
    return _cuts(swept, "beta", (OTHER,), caption)


def _worse(swept: SweepResults) -> str:
    return "lower" if swept.measure.metric.higher_is_better else "higher"


def _cuts(swept: SweepResults, name: str, cut: Sequence[str], caption: str) -> Figure:
    drawn, tops = strokes(swept.budget.methods), best(swept.results)
    lowest, highest = swept.resolved
    metric = swept.measure.metric
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
                        tops[method].value,
                        label=label,
                        color=look.color,
                        linestyle=look.dash,
                    )
            label = f"validation {judged(metric)}"
            axes.set(xscale="log", xlabel=axis, ylabel=label)
            if metric.higher_is_better:
                axes.set_ylim(bottom=lowest)
            else:
                axes.set_ylim(top=highest)
            if metric.is_share:
                axes.yaxis.set_major_formatter("{x:.0%}")
        legend(canvas, canvas.axes[0])

    header = ["axis", "half decade around", "method", "trials", f"best {metric.words}"]
    rows = [
        [axis, part.middle, title(method), part.trials, part.value]
        for axis, method in parts
        for part in slices(
            swept.trials_of(method), list(map(_AXES[axis], swept.trials_of(method)))
        )
    ]
    table = Table(caption, header, rows, formats(metric, header[4:]))
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
    values = [result.value for result in results]
    axes.plot(places, values, "o", color=stroke.color, alpha=0.25, markersize=3)
    parts = slices(results, places)
    middles, tops = [p.middle for p in parts], [p.value for p in parts]
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
    metric = swept.measure.metric
    curves = {
        method: best_so_far(
            [result.score.goodness for result in swept.trials_of(method)], _QUANTILES
        )
        for method in drawn
    }
    top = max(curve[-1].max() for curve in curves.values())
    bottom = min(curve[0][2:].min(initial=top) for curve in curves.values())
    if not metric.higher_is_better:  # from goodness to values, the lowest first
        curves = {method: -curve[::-1] for method, curve in curves.items()}

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        plain_axes(axes, ink)
        for method, (low, middle, high) in curves.items():
            counts, look = list(range(1, len(middle) + 1)), drawn[method]
            line_with_band(axes, counts, middle, low, high, look, title(method))
        least = 0.001 * (1 if metric.is_share else abs(top) or 1)
        ends = bottom, top + 0.05 * (top - bottom) + least
        axes.set_ylim(*sorted(map(metric.goodness, ends)))
        axes.set(xlabel="trials", ylabel=f"best validation {metric.words} so far")
        if metric.is_share:
            axes.yaxis.set_major_formatter("{x:.0%}")
        axes.legend(loc="lower right" if metric.higher_is_better else "upper right")

    header = ["method", "trials", "10% of orders", "median", "90%"]
    rows = [
        [title(method), k + 1, *curve[:, k]]
        for method, curve in curves.items()
        for k in range(curve.shape[1])
    ]
    lost = "0%" if worst(swept.measure) == "0" else worst(swept.measure)
    caption = (
        f"The best validation {judged(metric)} after a number of trials: the median "
        "and the middle 80% over all orders of the same trials. A trial that diverged "
        f"counts as {lost}."
    )
    table = Table(caption, header, rows, formats(metric, header[2:]))
    return Figure("budget", caption, draw, table)


def maps(swept: SweepResults, chance: float | None = None) -> list[Figure]:
    """The metric over the space, a map for each method and batch size.

    Trials whose accuracy is no better than `chance` have no color.
    """
    return [
        _map(swept, method, size, chance)
        for method in swept.budget.methods
        if METHODS[method].tunes_beta
        for size in swept.budget.batch_sizes
    ]


def _map(
    swept: SweepResults, method: str, batch_size: int, chance: float | None
) -> Figure:
    metric = swept.measure.metric
    results = swept.trials_of(method)
    results = [result for result in results if result.trial.batch_size == batch_size]
    values, rates, others = _levels(results)
    on_grid = values.size == len(results)
    floor = (chance or 0.0) if metric.is_share else -math.inf

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        axes.set(xlabel=RATE, ylabel=OTHER)
        if on_grid:
            lower = not metric.higher_is_better
            style = {"limits": swept.resolved, "floor": floor, "lower_is_better": lower}
            format = "{:.1%}" if metric.is_share else "{:.3g}"
            heat_map(axes, values, rates, others, ink, format, **style)
        else:
            _dots(axes, canvas, results, swept, ink, floor)

    header = [RATE, OTHER, f"validation {metric.words}"]
    rows = [
        [result.trial.effective_rate, result.trial.one_minus_beta, result.value]
        for result in sorted(results, key=lambda result: result.score, reverse=True)
    ]
    caption = (
        f"{title(method)}, batch size {batch_size}: validation {judged(metric)} of "
        "every trial. The best trial is framed; a cross is a trial that diverged."
    )
    if chance:
        caption += f" A trial without color is no better than chance, {chance:.2%}."
    if len(swept.rounds) > 1 and not on_grid:
        caption += " The dashed frame is the space as it was declared."
    return Figure(
        f"map-{method}-{batch_size}",
        caption,
        draw,
        Table(caption, header, rows, formats(metric, header[2:])),
        (6.4, 4.2),
    )


def _levels(
    results: Sequence[TrialResult],
) -> tuple[Float[np.ndarray, "others rates"], list[str], list[str]]:
    """The values as a matrix, with the labels of its columns and of its rows.

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
        values[rows.index(row), columns.index(column)] = result.value
    x, y = ([f"{10 ** (n / 50):.2g}" for n in levels] for levels in (columns, rows))
    return values, x, y


def _dots(
    axes: Axes,
    canvas: Canvas,
    results: list[TrialResult],
    swept: SweepResults,
    ink: str,
    floor: float,
) -> None:
    """The trials where they lie, colored by the metric."""
    metric = swept.measure.metric
    plain_axes(axes, ink)
    space = swept.rounds[-1].space
    axes.set(xscale="log", xlim=space.effective_rate)
    axes.set(yscale="log", ylim=space.one_minus_beta)
    scale = Normalize(*swept.resolved, clip=True)
    colors = color_map(not metric.higher_is_better)
    colors = colors.resampled(10)  # SVG draws more as a raster
    for result in results:
        place = result.trial.effective_rate, result.trial.one_minus_beta
        if result.diverged:
            axes.plot(*place, "x", color=ink, ms=7, clip_on=False)
        else:
            color = colors(scale(result.value))
            color = color if result.value > floor else "none"
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
    format = "{x:.0%}" if metric.is_share else "{x:.3g}"
    beyond = "min" if metric.higher_is_better else "max"
    bar = canvas.colorbar(shown, ax=axes, format=format, extend=beyond)
    bar.ax.tick_params(colors=ink, length=3, width=0.6)
    bar.outline.set_edgecolor(ink)  # pyright: ignore
