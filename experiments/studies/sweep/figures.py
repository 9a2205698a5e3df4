"""The curves of a sweep, each with the table behind it; `maps` has the maps."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import (
    Stroke,
    legend,
    line_with_band,
    panels,
    plain_axes,
    strokes,
)
from experiments.reporting.page import Figure, Table
from experiments.studies.methods import METHODS
from experiments.studies.sweep.results import (
    Found,
    Result,
    best,
    best_so_far,
    slices,
)

ALPHA, RATE, OTHER = "learning rate α", "effective learning rate α/(1 − β)", "1 − β"
_BAND = (0.1, 0.5, 0.9)  # of the orders

# Where a trial lies on the axes along which the space is cut into slices.
_AXES: Mapping[str, Callable[[Result], float]] = {
    ALPHA: lambda each: each.runs[0].config.learning_rate,
    RATE: lambda each: each.trial.effective_rate,
    OTHER: lambda each: each.trial.one_minus_beta,
}


def as_percent(headings: Iterable[str]) -> dict[str, str]:
    """Formats of columns of accuracies."""
    return {heading: "{:.2%}" for heading in headings}


def title(method: str) -> str:
    """What a method is called."""
    return METHODS[method].arm.title


def by_rate(found: Found) -> Figure:
    """The same trials at equal learning rates, and at equal effective ones."""
    caption = (
        "The best trial in each half decade of the learning rate, and of the effective "
        "learning rate; faint dots are all trials. What lies lower or diverged is in "
        "the table."
    )
    return _cuts(found, "rate", (ALPHA, RATE), caption)


def by_beta(found: Found) -> Figure:
    """What remains to be gained from β where the rate is tuned."""
    caption = (
        "The best trial in each half decade of 1 − β, whatever its rate, and the best "
        "of SGD as a level line; faint dots are all trials. What lies lower or "
        "diverged is in the table."
    )
    return _cuts(found, "beta", (OTHER,), caption)


def _cuts(found: Found, name: str, cut: Sequence[str], caption: str) -> Figure:
    drawn, tops = strokes(found.budget.methods), best(found.results)
    lowest, _ = found.resolved
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
                if (axis, method) in parts:
                    _cut(axes, found.of(method), _AXES[axis], look, title(method))
                else:
                    level, label = tops[method].accuracy, title(method)
                    axes.axhline(
                        level, color=look.color, linestyle=look.dash, label=label
                    )
            axes.set(xscale="log", xlabel=axis, ylabel="validation accuracy")
            axes.set_ylim(bottom=lowest)
            axes.yaxis.set_major_formatter("{x:.0%}")
        legend(canvas, canvas.axes[0])

    header = ["axis", "half decade around", "method", "trials", "best accuracy"]
    rows = [
        [axis, each.middle, title(method), each.trials, each.accuracy]
        for axis, method in parts
        for each in slices(found.of(method), list(map(_AXES[axis], found.of(method))))
    ]
    table = Table(caption, header, rows, as_percent(header[4:]))
    return Figure(name, caption, draw, table, (6.4, 3.4))


def _cut(
    axes: Axes,
    own: Sequence[Result],
    place: Callable[[Result], float],
    stroke: Stroke,
    label: str,
) -> None:
    """All trials of a method, and a line through the best of each half decade."""
    places = list(map(place, own))
    values = [each.accuracy for each in own]
    axes.plot(places, values, "o", color=stroke.color, alpha=0.25, markersize=3)
    cut = slices(own, places)
    axes.plot(
        [each.middle for each in cut],
        [each.accuracy for each in cut],
        color=stroke.color,
        linestyle=stroke.dash,
        marker="o",
        label=label,
    )


def budget_curves(found: Found) -> Figure:
    """The best so far against the number of trials, over all orders of them."""
    drawn = strokes(found.budget.methods)
    curves = {
        method: best_so_far(
            [each.score.accuracy for each in found.of(method)],
            _BAND,
        )
        for method in drawn
    }

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        plain_axes(axes, ink)
        for method, (low, middle, high) in curves.items():
            counts = list(range(1, len(middle) + 1))
            line_with_band(
                axes, counts, middle, low, high, drawn[method], title(method)
            )
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
        "The best validation accuracy after so many trials: the median and the middle "
        "80% over all orders in which the same trials could have come. A trial that "
        "diverged counts as 0%."
    )
    table = Table(caption, header, rows, as_percent(header[2:]))
    return Figure("budget", caption, draw, table)
