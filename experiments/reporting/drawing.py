"""How everything is drawn: one style, in the page's ink or on white, for any name."""

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any, NamedTuple, SupportsInt

import matplotlib
import numpy as np
from jaxtyping import Float
from markupsafe import escape
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator, NullFormatter
from matplotlib.typing import ColorType
from numpy.typing import ArrayLike

from experiments.records.metric import ACCURACY, Range
from experiments.reporting.page import Draw, Figure
from experiments.reporting.statistics import Interval


class Stroke(NamedTuple):
    """How an optimizer's line is drawn, in words that CSS and Matplotlib share."""

    color: str
    dash: str


# Hues of Okabe and Ito, dark enough for a contrast of 4.5 : 1 on white. On a page they
# are variables of `page.css`, which are lighter on a dark one.
BLUE, GREEN, PINK, ORANGE = "#0072b2", "#007a5a", "#a8487f", "#b34f00"
VARIABLES = {BLUE: "--blue", GREEN: "--green", PINK: "--pink", ORANGE: "--orange"}
# Dashes distinguish neighbors in print and for color-blind readers.
STROKES = (
    Stroke(BLUE, "dashed"),
    Stroke(GREEN, "solid"),
    Stroke(PINK, "dashed"),
    Stroke(ORANGE, "solid"),
    Stroke(BLUE, "dotted"),
    Stroke(GREEN, "dotted"),
    Stroke(PINK, "dotted"),
    Stroke(ORANGE, "dotted"),
)
STYLE: dict[Any, Any] = {
    "axes.formatter.useoffset": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 3,
    "svg.fonttype": "none",  # text stays text: selectable, in the page's own font
    "text.parse_math": False,  # a name with dollar signs is a name
}
NARROW = 3.7  # inches: the width of drawings for phones, where wider ones are illegible

_INK = "#1b1e23"
# An ink that no drawing uses: it is found in the SVG and replaced by the page's own.
_PAGE_INK = "#010203"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_CHARACTERS_PER_INCH = 11
_MARKERS = "osD^"


def strokes(arms: Iterable[str]) -> dict[str, Stroke]:
    """The stroke of each arm, the same in every drawing of these arms in this order."""
    return dict(zip(arms, cycle(STROKES), strict=False))


def svg(figure: Figure) -> str:
    """The `<svg>` of a figure for a page; see `element`."""
    return _element_of(figure, figure.size, figure.name)


def narrow_svg(figure: Figure) -> str:
    """The figure drawn anew for phones, so that its words keep their size."""
    _, height = figure.size
    return _element_of(figure, (NARROW, 0.8 * height), f"{figure.name} narrow")


def png(figure: Figure) -> bytes:
    """The figure as a picture on white."""
    return picture(figure.draw, figure.size)


def element(
    draw: Draw, size: tuple[float, float], name: str, title: str, description: str = ""
) -> str:
    """An `<svg>` that suits light and dark: its ink is the page's (`currentColor`).

    Equal drawings of one name make equal text; drawings of two names share no id. The
    size is in inches. Title and description are for readers who can't see the drawing.
    """
    file = io.StringIO()
    with _canvas(draw, size, _PAGE_INK, name) as canvas:
        _spell_out(canvas, lambda character: not "\ud800" <= character <= "\udfff")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        canvas.savefig(file, format="svg", transparent=True, metadata=nothing)
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg ") :].replace(_PAGE_INK, "currentColor")
    for color, variable in VARIABLES.items():
        drawn = drawn.replace(color, f"var({variable})")
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)  # Matplotlib repeats these ids
    head, body = drawn.split(">", 1)
    described = f"<title>{escape(title)}</title>"
    if description:
        described += f"<desc>{escape(description)}</desc>"
    return f'{head} role="img">{described}{body}'


def picture(draw: Draw, size: tuple[float, float]) -> bytes:
    """A PNG on white; characters that the font lacks are spelled out: `\\u6570`."""
    file = io.BytesIO()
    with _canvas(draw, size, _INK, "") as canvas:
        font = font_manager.findfont(font_manager.FontProperties())
        known = font_manager.get_font(font).get_charmap()
        _spell_out(canvas, lambda character: ord(character) in known)
        canvas.savefig(file, format="png", dpi=160, metadata={"Software": None})
    return file.getvalue()


def scientific(value: float) -> str:
    """A number to four digits: 1.5 × 10⁻⁶; a power of ten alone: 10⁶."""
    digits, exponent = f"{value:.3e}".split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    factor = f"{float(digits):g}".replace("-", "−")
    return power if factor == "1" else f"{factor} × {power}"


def plain_axes(axes: Axes, ink: str) -> None:
    """Draws axes, ticks and a faint grid in ink; words are in ink anyway."""
    axes.tick_params(colors=ink, length=3, width=0.6)
    axes.grid(color=ink, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set(color=ink, linewidth=0.6)


def panels(canvas: Canvas, count: int, height: float = 2.9) -> list[Axes]:
    """Axes side by side on a wide canvas, below one another on a narrow one.

    The canvas gets the height of its rows, `height` inches each.
    """
    width = canvas.get_figwidth()
    columns = max(1, min(count, int(width / 2.9)))
    rows = -(-count // columns)
    canvas.set_size_inches(width, height * rows)
    grid = canvas.subplots(rows, columns, squeeze=False)
    for unused in grid.flat[count:]:
        unused.remove()
    return list(grid.flat[:count])


def legend(canvas: Canvas, axes: Axes, title: str | None = None) -> None:
    """Puts the legend of these axes above the canvas, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    sample = 7  # characters: the width of a line's sample
    labels = [_wrapped(label, _characters(canvas) - sample) for label in labels]
    lines = (line for label in labels for line in label.split("\n"))
    longest = max(map(len, lines), default=0) + sample
    columns = _characters(canvas) // longest
    canvas.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=max(1, columns),
        title=title,
        title_fontproperties={"weight": "bold"},
        alignment="left",
    )


def label_rows(axes: Axes, labels: Sequence[str], ink: str) -> None:
    """Turns the vertical axis into rows, each below a label as wide as the axes.

    Row k spans k ± 0.5: the label is in its upper half, the values go to k + 0.2. The
    first row is the uppermost; long labels are wrapped.
    """
    canvas = axes.get_figure(root=True)
    assert isinstance(canvas, Canvas)
    across = axes.get_yaxis_transform()  # x as a share of the axes, y as data
    for row, label in enumerate(labels):
        lines = _wrapped(label, _characters(canvas), max_lines=2)
        style: dict[str, Any] = {"color": ink, "va": "bottom", "linespacing": 1.1}
        axes.text(0, row, lines, transform=across, **style)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def draw_intervals(
    axes: Axes,
    rows: Sequence[str],
    series: Mapping[str, Sequence[Interval | None]],
    *,
    scale: float = ACCURACY.scale,
    possible: Range = ACCURACY.possible_differences,
    row_colors: Sequence[str] | None = None,
) -> None:
    """Marks means, times `scale`, each with a line from its low to its high.

    Each series has an interval a row, or None for no mark; the first row is the
    uppermost. Intervals are cut at what is possible before they are scaled. Series
    differ in color, or else all have the colors of the rows.
    """
    height = 0.7 / len(series)
    for place, (label, intervals) in enumerate(series.items()):
        offset = (place - (len(series) - 1) / 2) * height
        color = STROKES[place % len(STROKES)].color
        for row, interval in enumerate(intervals):
            if interval is None:
                continue
            shown = interval.shown(possible)
            mean, low, high = (np.nan if x is None else scale * x for x in shown)
            axes.errorbar(
                mean,
                row + offset,
                xerr=np.nan_to_num([[mean - low], [high - mean]]),
                fmt=_MARKERS[place % len(_MARKERS)],
                color=row_colors[row] if row_colors else color,
                label=label,
                markersize=5,
                capsize=2.5,
            )
            label = "_"  # the legend names each series once
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def line_of_chance(axes: Axes, chance: float, ink: str) -> None:
    """A line at the accuracy of chance; a note at the lower end if it is far below.

    The axis ends at most twice the range of the data below them, else what differs in
    the data can't be seen.
    """
    low, high = axes.get_ylim()
    if chance > low - 2 * (high - low):
        axes.axhline(chance, color=ink, linewidth=1, linestyle=":", label="Chance")
        axes.set_ylim(min(low, chance - 0.05 * (high - low)), max(high, chance))
    else:
        note = f"Chance, {chance:.1f}%, is far below."
        axes.text(0.01, 0.02, note, color=ink, transform=axes.transAxes, va="bottom")
        axes.set_ylim(low - 0.1 * (high - low), high)


def line_with_band(
    axes: Axes,
    x: ArrayLike,
    middle: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    stroke: Stroke,
    label: str,
) -> None:
    """Draws a line and a band from low to high; both end where the line is NaN.

    `x`, `middle`, `low` and `high` have one number a point.
    """
    axes.fill_between(x, low, high, color=stroke.color, alpha=0.18, linewidth=0)
    axes.plot(
        x,
        middle,
        label=label,
        color=stroke.color,
        linestyle=stroke.dash,
        linewidth=1.8,
        marker="o",
        markersize=3.5,
    )


def heat_map(
    axes: Axes,
    values: Float[np.ndarray, "rows columns"],
    x_labels: Sequence[str],
    y_labels: Sequence[str],
    ink: str,
    format: str = "{:.3g}",
    *,
    best: Callable[[Float[np.ndarray, " tiles"]], SupportsInt] | None = None,
    limits: tuple[float, float] | None = None,
    floor: float = -np.inf,
    lower_is_better: bool = False,
) -> None:
    """Writes every value on a tile of its color, and frames the best one.

    Tiles are opaque and the words on them black or white, whichever is clearer, so they
    look alike in light and dark. A value that is not finite, from a diverged run, is a
    cross without a tile.

    `values` has shape [len(y_labels), len(x_labels)] and `values[0, 0]` at the lower
    left. `best` returns an index into `values.ravel()`; by default, of the largest
    value, or of the least if `lower_is_better`. `limits` are the values at the ends of
    the color scale, whose bright end is the better one: by default, the least and the
    largest finite value. Values up to `floor` are written without a tile.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    known = values[np.isfinite(values)]
    low, high = limits or (known.min(initial=np.inf), known.max(initial=-np.inf))
    colors = color_map(lower_is_better)
    best = best or (np.nanargmin if lower_is_better else np.nanargmax)
    words = [format.format(value).replace("-", "−") for value in values.ravel()]
    size = _fitting_size(axes, len(x_labels), max(map(len, words)))
    for (row, column), value in np.ndenumerate(values):
        word, color = "×", ink
        if np.isfinite(value):
            word = words[row * len(x_labels) + column]
        if np.isfinite(value) and value > floor:
            tile = colors((value - low) / (high - low) if high > low else 0.5)
            corner = (column - 0.48, row - 0.48)
            axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=tile, linewidth=0))
            color = _clearest_on(tile)
        axes.text(column, row, word, color=color, size=size, ha="center", va="center")
    if known.size:
        row, column = divmod(int(best(values)), len(x_labels))
        corner, frame = (column - 0.5, row - 0.5), {"edgecolor": ink, "linewidth": 2}
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="none", zorder=3, **frame))
    axes.set_xticks(range(len(x_labels)), [_encodable(label) for label in x_labels])
    axes.set_yticks(range(len(y_labels)), [_encodable(label) for label in y_labels])
    axes.set(xlim=(-0.55, len(x_labels) - 0.45), ylim=(-0.55, len(y_labels) - 0.45))
    axes.tick_params(colors=ink, length=0)
    axes.spines[:].set_visible(False)


def color_map(lower_is_better: bool) -> Colormap:
    """The colors of values, the brighter the better."""
    return matplotlib.colormaps["cividis_r" if lower_is_better else "cividis"]


def _element_of(figure: Figure, size: tuple[float, float], name: str) -> str:
    return element(figure.draw, size, name, figure.caption, figure.description)


@contextmanager
def _canvas(
    draw: Draw, size: tuple[float, float], ink: str, salt: str
) -> Iterator[Canvas]:
    """A drawn canvas, to be saved within; any name is drawn without a warning."""
    settings: dict[Any, Any] = {
        **STYLE,
        "text.color": ink,
        "axes.labelcolor": ink,
        "svg.hashsalt": ascii(salt),
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        canvas = Canvas(figsize=size, layout="constrained")
        draw(canvas, ink)
        for axes in canvas.axes:
            _format_ticks(axes.xaxis)
            _format_ticks(axes.yaxis)
        yield canvas


def _format_ticks(axis: Axis) -> None:
    """Writes powers of ten without the TeX that Matplotlib uses."""
    if not isinstance(axis.get_major_formatter(), LogFormatter):
        return
    axis.set_major_formatter(FuncFormatter(_tick))
    axis.set_minor_formatter(NullFormatter())
    low, high = axis.get_view_interval()
    if isinstance(axis.get_major_locator(), LogLocator) and high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def _tick(value: float, _: object = None) -> str:
    """A number at a tick: −0.01, 10,000, 10⁶."""
    if value and not 1e-4 <= abs(value) < 1e5:
        return scientific(value)
    return f"{value:,.6g}".replace("-", "−")


def _spell_out(canvas: Canvas, known: Callable[[str], bool]) -> None:
    """Escapes characters that can't be drawn, and wraps lines that leave no room."""
    longest = _characters(canvas)
    for text in canvas.findobj(Text):
        assert isinstance(text, Text)
        lines = text.get_text().split("\n")
        if max(map(len, lines)) > longest:
            lines = [_wrapped(line, longest, max_lines=2) for line in lines]
        words = "\n".join("\n".join(lines).split("\n")[:3])
        text.set_text(
            "".join(c if known(c) or c in "\n" else _escape(c) for c in words)
        )


def _wrapped(text: str, width: int, max_lines: int = 3) -> str:
    """The text in lines of at most this width; what doesn't fit becomes an ellipsis."""
    lines = textwrap.wrap(text, width, max_lines=max_lines, placeholder=" …")
    return "\n".join(lines)


def _characters(canvas: Canvas) -> int:
    """The number of characters in a line across the canvas."""
    return int(_CHARACTERS_PER_INCH * canvas.get_figwidth())


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _encodable(label: str) -> str:
    """The label without surrogates, at which Matplotlib stops."""
    return label.encode(errors="backslashreplace").decode()


def _fitting_size(axes: Axes, columns: int, characters: int) -> float:
    """The font size in points at which so many characters fit in a column."""
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    points = 72 * canvas.get_figwidth() * axes.get_position().width
    return min(9.0, points / columns / (0.68 * characters))


def _clearest_on(color: ColorType) -> str:
    """Black or white: at least one has a contrast of 4.5 : 1 to any color."""
    c = np.array(to_rgb(color))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return "black" if np.dot([0.2126, 0.7152, 0.0722], linear) > 0.179 else "white"
