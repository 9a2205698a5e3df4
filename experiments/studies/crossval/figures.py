"""Drawings of a cross-validation: accuracy against beta, and the test by seed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from experiments.reporting.drawing import legend, line_with_band, plain_axes, strokes
from experiments.reporting.page import Figure, Table
from experiments.reporting.statistics import ACCURACIES
from experiments.studies.crossval import tables
from experiments.studies.crossval.tables import Found
from experiments.studies.settings import Setting, learning_rate

_ENOUGH = 3  # settings of one learning rate, to draw a line through
_MOST = 4  # curves that can be told apart
_DEPTH = 0.3  # below the best accuracy the axis ends: what is lower is not the choice

Curves = Mapping[str, Sequence[Setting]]  # by what a curve's settings share


def equal_effective(found: Found) -> Figure:
    """Accuracy against beta, one curve an effective learning rate."""
    settings = tables.every_trial(found)
    curves = {
        f"effective rate {rate:g}": sorted(s for s in settings if s.rate == rate)
        for rate in sorted({setting.rate for setting in settings})
    }
    return _accuracy(
        "equal-effective-rate",
        "Validation accuracy against beta, each curve at one effective learning rate: "
        "mean and 95% interval over the folds. The points at beta 0 are SGD. The axis "
        "ends 30 points below the best; of more than four curves, the best are drawn.",
        found,
        curves,
    )


def equal_learning_rate(found: Found) -> Figure | None:
    """The same at equal learning rates; None where no three settings share one."""
    shared: dict[float, list[Setting]] = {}
    for setting in sorted(tables.every_trial(found)):
        shared.setdefault(learning_rate(setting), []).append(setting)
    curves = {
        f"learning rate {rate:g}": own
        for rate, own in sorted(shared.items())
        if len(own) >= _ENOUGH
    }
    if not curves:
        return None
    return _accuracy(
        "equal-learning-rate",
        "The same runs, each curve at one learning rate: along it steps grow with "
        "beta, by 1/(1 − beta), and so it shows the step size besides the memory.",
        found,
        curves,
    )


def by_seed(tested: Mapping[str, Sequence[float]], table: Table) -> Figure:
    """The test accuracies of both arms, each seed's joined by a line."""
    titles = {"sgd": "SGD", "momentum": "Momentum"}

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        for pair in zip(*(tested[arm] for arm in titles), strict=True):
            axes.plot((0, 1), pair, color=ink, alpha=0.4, linewidth=0.9)
        for place, (arm, stroke) in enumerate(strokes(titles).items()):
            values = tested[arm]
            axes.plot([place] * len(values), values, "o", color=stroke.color)
        plain_axes(axes, ink)
        axes.set_xticks((0, 1), list(titles.values()))
        axes.set(xlim=(-0.4, 1.4), ylabel="Test accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1))

    return Figure(
        "test-by-seed",
        "Test accuracy of the chosen settings. A line joins the runs of one seed, "
        "which start alike and see the images in one order.",
        draw,
        table,
        (6.4, 3.2),
    )


def _accuracy(name: str, caption: str, found: Found, curves: Curves) -> Figure:
    means = tables.means(found)

    def top(label: str) -> float:
        return max(means[setting].mean for setting in curves[label])

    kept = sorted(curves, key=top, reverse=True)[:_MOST]
    curves = {label: own for label, own in curves.items() if label in kept}
    drawn = [setting for own in curves.values() for setting in own]

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        for label, stroke in strokes(curves).items():
            places = [_place(setting.beta) for setting in curves[label]]
            shown = [means[setting].shown(ACCURACIES) for setting in curves[label]]
            middle, low, high = np.array(shown, float).T
            line_with_band(axes, places, middle, low, high, stroke, label)
        plain_axes(axes, ink)
        room = 0.5 / canvas.get_figwidth()  # of a label, as a share of the axis
        _mark_betas(axes, sorted({setting.beta for setting in drawn}), room)
        low, high = axes.get_ylim()
        low = max(low, max(map(top, curves)) - _DEPTH)
        axes.set(ylabel="Validation accuracy", ylim=(low, min(high, 1.01)))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(canvas, axes)

    return Figure(name, caption, draw, tables.accuracies(found, drawn))


def _place(beta: float) -> float:
    """Where a beta lies on an axis that is logarithmic in 1 − β: 0 at 0, 2 at 0.99."""
    return -math.log10(1 - beta)


def _mark_betas(axes: Axes, betas: Sequence[float], room: float) -> None:
    """Ticks at the betas, less those that would overlap the one before."""
    kept = [betas[0]]
    for beta in betas[1:]:
        if _place(beta) - _place(kept[-1]) > room * _place(betas[-1]):
            kept.append(beta)
    axes.set_xticks([_place(beta) for beta in kept], [f"{beta:g}" for beta in kept])
    axes.set_xlabel("Beta, on a logarithmic axis of 1 − beta")
