"""Maps of a sweep: what came out where, over effective learning rate and 1 − β."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import heat_map, plain_axes
from experiments.reporting.page import Figure, Table
from experiments.studies.methods import METHODS
from experiments.studies.sweep.figures import OTHER, RATE, as_percent, title
from experiments.studies.sweep.results import Found, Result


def maps(found: Found) -> list[Figure]:
    """Validation accuracy over the space, a map for each method and batch size."""
    return [
        _map(found, method, size)
        for method in found.budget.methods
        if METHODS[method].tunes_beta
        for size in found.budget.batch_sizes
    ]


def _map(found: Found, method: str, batch_size: int) -> Figure:
    own = [each for each in found.of(method) if each.trial.batch_size == batch_size]

    values, rates, others = _levels(own)
    on_grid = values.size == len(own)

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        axes.set(xlabel=RATE, ylabel=OTHER)
        if on_grid:
            heat_map(axes, values, rates, others, ink, "{:.1%}", limits=found.resolved)
        else:
            _dots(axes, canvas, own, found, ink)

    header = [RATE, OTHER, "validation accuracy"]
    rows = [
        [each.trial.effective_rate, each.trial.one_minus_beta, each.accuracy]
        for each in sorted(own, key=lambda each: each.score, reverse=True)
    ]
    caption = (
        f"{title(method)}, batch size {batch_size}: validation accuracy of every "
        "trial; the best one is framed, a cross diverged."
    )
    if len(found.rounds) > 1 and not on_grid:
        caption += " The dashed frame is the space as it was declared."
    return Figure(
        f"map-{method}-{batch_size}",
        caption,
        draw,
        Table(caption, header, rows, as_percent(header[2:])),
        (6.4, 4.2),
    )


def _levels(own: Sequence[Result]) -> tuple[np.ndarray, list[str], list[str]]:
    """The trials as a matrix of accuracies, if they lie on a grid, and its labels."""
    places = [
        (
            round(50 * math.log10(t.one_minus_beta)),
            round(50 * math.log10(t.effective_rate)),
        )
        for t in (each.trial for each in own)
    ]
    rows, columns = (sorted(set(each)) for each in zip(*places, strict=True))
    values = np.full((len(rows), len(columns)), math.nan)
    for (row, column), each in zip(places, own, strict=True):
        values[rows.index(row), columns.index(column)] = each.accuracy
    x, y = ([f"{10 ** (n / 50):.2g}" for n in each] for each in (columns, rows))
    return values, x, y


def _dots(
    axes: Axes,
    canvas: Canvas,
    own: Sequence[Result],
    found: Found,
    ink: str,
) -> None:
    """Trials where they lie, coloured by what came out."""
    plain_axes(axes, ink)
    space = found.rounds[-1].space
    axes.set(xscale="log", xlim=space.effective_rate)
    axes.set(yscale="log", ylim=space.one_minus_beta)
    scale = Normalize(*found.resolved, clip=True)
    colours = matplotlib.colormaps["cividis"].resampled(10)  # more would be a raster
    for each in own:
        place = each.trial.effective_rate, each.trial.one_minus_beta
        if each.diverged:
            axes.plot(*place, "x", color=ink, ms=7, clip_on=False)
        else:
            colour = colours(scale(each.accuracy))
            axes.plot(*place, "o", color=colour, mec=ink, ms=11, clip_on=False)
    top = max(own, key=lambda each: each.score)
    if not top.diverged:
        place = top.trial.effective_rate, top.trial.one_minus_beta
        axes.plot(*place, "s", color="none", mec=ink, ms=19, clip_on=False)
    rate, other = found.budget.space
    if len(found.rounds) > 1:
        x = [rate.low, rate.high, rate.high, rate.low, rate.low]
        y = [other.low, other.low, other.high, other.high, other.low]
        axes.plot(x, y, color=ink, linestyle="dashed", linewidth=1)
    shown = ScalarMappable(scale, colours)
    bar = canvas.colorbar(shown, ax=axes, format="{x:.0%}", extend="min")
    bar.ax.tick_params(colors=ink, length=3, width=0.6)
    bar.outline.set_edgecolor(ink)  # pyright: ignore
