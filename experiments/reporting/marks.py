"""What is drawn on axes: lines with their intervals, and heat maps one can read."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from experiments.reporting.drawing import Stroke


def line_with_band(
    axes: Axes,
    x: ArrayLike,
    middle: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    stroke: Stroke,
    label: str,
) -> None:
    """A line and its interval; both end where the line is NaN."""
    axes.fill_between(x, low, high, color=stroke.colour, alpha=0.18, linewidth=0)
    axes.plot(
        x,
        middle,
        label=label,
        color=stroke.colour,
        linestyle=stroke.dash,
        linewidth=1.8,
        marker="o",
        markersize=3.5,
    )


def heat_map(
    axes: Axes,
    values: np.ndarray,
    x_labels: Sequence[str],
    y_labels: Sequence[str],
    ink: str,
    format: str = "{:.3g}",
    *,
    best: Callable[[np.ndarray], Any] = np.nanargmax,
    limits: tuple[float, float] | None = None,
) -> None:
    """Every value written in a tile of its colour, the best one framed.

    Tiles are opaque and words on them black or white, whichever is clearer: they look
    alike in light and dark. A NaN, that is a diverged run, is a cross without a tile.

    Args:
      axes: where to draw; `values[0, 0]` is at the lower left.
      values: shape [len(y_labels), len(x_labels)].
      x_labels: of the columns, left to right.
      y_labels: of the rows, from below.
      ink: colour of the words beside the tiles.
      format: of a value, as in `str.format`.
      best: which value is framed, as an index into `values.ravel()`.
      limits: the values with the ends of the colours; the finite ones' unless given.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    known = values[np.isfinite(values)]
    low, high = limits or (known.min(initial=np.inf), known.max(initial=-np.inf))
    colours = matplotlib.colormaps["cividis"]
    words = [format.format(value).replace("-", "−") for value in values.ravel()]
    size = _fitting_size(axes, len(x_labels), max(map(len, words)))
    for (row, column), value in np.ndenumerate(values):
        word, colour = "×", ink
        if np.isfinite(value):
            tile = colours((value - low) / (high - low) if high > low else 0.5)
            corner = (column - 0.48, row - 0.48)
            axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=tile, linewidth=0))
            word, colour = words[row * len(x_labels) + column], _clearest_on(tile)
        axes.text(column, row, word, color=colour, size=size, ha="center", va="center")
    if known.size:
        row, column = divmod(int(best(values)), len(x_labels))
        corner, frame = (column - 0.5, row - 0.5), {"edgecolor": ink, "linewidth": 2}
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="none", zorder=3, **frame))
    axes.set_xticks(range(len(x_labels)), [_encodable(label) for label in x_labels])
    axes.set_yticks(range(len(y_labels)), [_encodable(label) for label in y_labels])
    axes.set(xlim=(-0.55, len(x_labels) - 0.45), ylim=(-0.55, len(y_labels) - 0.45))
    axes.tick_params(colors=ink, length=0)
    axes.spines[:].set_visible(False)


def _encodable(label: str) -> str:
    """The label without surrogates, at which Matplotlib stops."""
    return label.encode(errors="backslashreplace").decode()


def _fitting_size(axes: Axes, columns: int, characters: int) -> float:
    """The size in points at which so many characters fit in a column."""
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    points = 72 * canvas.get_figwidth() * axes.get_position().width
    return min(9.0, points / columns / (0.68 * characters))


def _clearest_on(colour: Any) -> str:
    """Black or white: at least one has a contrast of 4.5 : 1 to any colour."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(colour)
    ]
    return "black" if np.dot([0.2126, 0.7152, 0.0722], linear) > 0.179 else "white"
