"""Drawings of the study of batch sizes, each over a logarithmic axis of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from experiments.reporting.drawing import legend, line_with_band, plain_axes, strokes
from experiments.reporting.page import Figure, Table
from experiments.reporting.statistics import (
    ACCURACIES,
    ANY,
    DIFFERENCES,
    Interval,
    Range,
)
from experiments.studies.batch_size.rules import Cell

Means = Mapping[Cell, Interval]
_STROKES = strokes(("sgd", "momentum", "held"))  # an arm looks alike in all drawings


def accuracy(means: Means, titles: Mapping[str, str], table: Table) -> Figure:
    """Test accuracy against batch size, one line an arm."""

    def draw(canvas: Canvas, ink: str) -> None:
        axes = _lines(canvas, ink, means, titles, ACCURACIES)
        low, high = axes.get_ylim()
        axes.set(ylabel="Test accuracy", ylim=(max(low, -0.02), min(high, 1.02)))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(canvas, axes)

    return Figure(
        "accuracy",
        "Test accuracy against batch size at constant epochs, mean and 95% interval "
        "over the seeds, each arm at the best of its learning rates.",
        draw,
        table,
    )


def gains(means: Means, table: Table) -> Figure:
    """What both momenta gain over SGD; `means` are of differences."""
    titles = {"momentum": "Equal beta, less SGD", "held": "Equal half-life, less SGD"}

    def draw(canvas: Canvas, ink: str) -> None:
        axes = _lines(canvas, ink, means, titles, DIFFERENCES)
        axes.axhline(0, color=ink, linewidth=0.8)
        axes.set(ylabel="Difference of test accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(canvas, axes)

    return Figure(
        "gain",
        "What momentum gains over SGD in test accuracy, mean and 95% interval of the "
        "paired differences. It matters where all of the band is above 0.",
        draw,
        table,
    )


def best_rates(
    rates: Mapping[Cell, float], titles: Mapping[str, str], table: Table
) -> Figure:
    """The best effective rate against batch size, with two rules of thumb."""

    def draw(canvas: Canvas, ink: str) -> None:
        axes = _lines(canvas, ink, _points(rates), titles)
        sizes = np.array(sorted({cell.batch_size for cell in rates}))
        first = rates[Cell(int(sizes[0]), "sgd")]
        for name, power, dash in (("linear", 1.0, ":"), ("square-root", 0.5, "-.")):
            rule = first * (sizes / sizes[0]) ** power
            axes.plot(sizes, rule, dash, color=ink, alpha=0.6, label=f"{name} rule")
        axes.set(yscale="log", ylabel="Best effective learning rate")
        legend(canvas, axes)

    return Figure(
        "best-rate",
        "The effective learning rate that did best in validation. The rules of thumb "
        "scale SGD's at the smallest batch size with the batch size, or its root.",
        draw,
        table,
    )


def speed(medians: Mapping[int, float], table: Table) -> Figure:
    """Images a second of one run, by batch size."""

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        axes.plot(list(medians), list(medians.values()), "o-", color=ink, linewidth=1.8)
        _batch_sizes(axes, sorted(medians), ink)
        axes.set(ylabel="Images a second", ylim=(0, None))

    return Figure(
        "speed",
        "Images a second of one run, median over the runs of the comparison; these "
        "train together, one a device.",
        draw,
        table,
        (6.4, 3.2),
    )


def _points(values: Mapping[Cell, float]) -> Means:
    return {cell: Interval(value, None, None, 1) for cell, value in values.items()}


def _lines(
    canvas: Canvas,
    ink: str,
    means: Means,
    titles: Mapping[str, str],
    possible: Range = ANY,
) -> Axes:
    """Draws a line with its band for each arm."""
    axes = canvas.subplots()
    sizes = sorted({cell.batch_size for cell in means})
    for key, title in titles.items():
        shown = [means[Cell(size, key)].shown(possible) for size in sizes]
        middle, low, high = np.array(shown, float).T
        line_with_band(axes, sizes, middle, low, high, _STROKES[key], title)
    _batch_sizes(axes, sizes, ink)
    return axes


def _batch_sizes(axes: Axes, sizes: Sequence[int], ink: str) -> None:
    """A logarithmic axis with a tick at every batch size."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="Batch size")
    plain_axes(axes, ink)
