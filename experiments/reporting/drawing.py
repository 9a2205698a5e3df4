"""How everything is drawn: one style, in the page's ink or on white, for any name."""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any, NamedTuple

import matplotlib
from markupsafe import escape
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator, NullFormatter

from experiments.reporting import page

Draw = Callable[[Canvas, str], None]  # on an empty canvas, in ink of that colour


class Stroke(NamedTuple):
    """How the line of an arm is drawn: CSS's words, which Matplotlib shares."""

    colour: str
    dash: str


# Okabe and Ito's colours that keep a contrast of 3 : 1 on white and on near-black
# alike; dashes tell neighbours apart in print and for any eye.
STROKES = (
    Stroke("#0072b2", "dashed"),
    Stroke("#009e73", "solid"),
    Stroke("#cc79a7", "dashed"),
    Stroke("#d55e00", "solid"),
    Stroke("#0072b2", "dotted"),
    Stroke("#009e73", "dotted"),
    Stroke("#cc79a7", "dotted"),
    Stroke("#d55e00", "dotted"),
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
NARROW = 3.7  # inches: a drawing for phones, where a wider one would be unreadable

_INK = "#1b1e23"
# An ink that no drawing uses, to be found in an SVG and given to the page's own.
_PAGE_INK = "#010203"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PER_INCH = 11  # characters: more would not fit


def strokes(arms: Iterable[str]) -> dict[str, Stroke]:
    """The stroke of each arm, the same in every drawing of these arms in this order."""
    return dict(zip(arms, cycle(STROKES), strict=False))


def svg(figure: page.Figure) -> str:
    """The `<svg>` of a figure for a page; see `element`."""
    return element(figure.draw, figure.size, figure.name, figure.caption)


def narrow_svg(figure: page.Figure) -> str:
    """The same, drawn anew for phones, so that its words keep their size."""
    _, height = figure.size
    size = (NARROW, 0.8 * height)
    return element(figure.draw, size, f"{figure.name} narrow", figure.caption)


def png(figure: page.Figure) -> bytes:
    """The same as a picture on white."""
    return picture(figure.draw, figure.size)


def element(
    draw: Draw, size: tuple[float, float], name: str, title: str, description: str = ""
) -> str:
    """An `<svg>` that suits light and dark: its ink is the page's (`currentColor`).

    Equal drawings of one name are equal text; of two names, they share no id.

    Args:
      draw: fills the canvas.
      size: width and height in inches.
      name: of the drawing, unique on the page.
      title: what it is, for those who don't see it.
      description: what it shows, for them; may be empty.
    """
    file = io.StringIO()
    with _canvas(draw, size, _PAGE_INK, name) as canvas:
        _write_out(canvas, lambda character: not "\ud800" <= character <= "\udfff")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        canvas.savefig(file, format="svg", transparent=True, metadata=nothing)
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg ") :].replace(_PAGE_INK, "currentColor")
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)  # every drawing has the same
    head, body = drawn.split(">", 1)
    described = f"<title>{escape(title)}</title>"
    if description:
        described += f"<desc>{escape(description)}</desc>"
    return f'{head} role="img">{described}{body}'


def picture(draw: Draw, size: tuple[float, float]) -> bytes:
    """A PNG on white; what the drawing's font lacks is spelled out, as in `\\u6570`."""
    file = io.BytesIO()
    with _canvas(draw, size, _INK, "") as canvas:
        font = font_manager.findfont(font_manager.FontProperties())
        known = font_manager.get_font(font).get_charmap()
        _write_out(canvas, lambda character: ord(character) in known)
        canvas.savefig(file, format="png", dpi=160, metadata={"Software": None})
    return file.getvalue()


def scientific(value: float) -> str:
    """A number to four digits: 1.5 × 10⁻⁶; a power of ten by itself: 10⁶."""
    digits, exponent = f"{value:.3e}".split("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    factor = f"{float(digits):g}".replace("-", "−")
    return power if factor == "1" else f"{factor} × {power}"


def plain_axes(axes: Axes, ink: str) -> None:
    """Axes, ticks and a faint grid in ink; words are in it by themselves."""
    axes.tick_params(colors=ink, length=3, width=0.6)
    axes.grid(color=ink, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set(color=ink, linewidth=0.6)


def panels(canvas: Canvas, count: int, height: float = 2.9) -> list[Axes]:
    """Axes side by side where the canvas is wide, below one another where it is not.

    Args:
      canvas: an empty one; its height becomes that of the rows.
      count: how many axes.
      height: of a row, in inches.
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
    """The legend of these axes above all of the canvas, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=0) + 7  # a sample of the line is as wide
    columns = int(_PER_INCH * canvas.get_figwidth() / longest)
    canvas.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=max(1, columns),
        title=title,
        title_fontproperties={"weight": "bold"},
        alignment="left",
    )


@contextmanager
def _canvas(
    draw: Draw, size: tuple[float, float], ink: str, salt: str
) -> Iterator[Canvas]:
    """A drawn canvas, to be saved within; it complains of no name, however odd."""
    own: dict[Any, Any] = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "svg.hashsalt": ascii(salt),
    }
    with matplotlib.rc_context({**STYLE, **own}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        canvas = Canvas(figsize=size, layout="constrained")
        draw(canvas, ink)
        for axes in canvas.axes:
            _write_ticks(axes.xaxis)
            _write_ticks(axes.yaxis)
        yield canvas


def _write_ticks(axis: Axis) -> None:
    """Powers of ten without the TeX in which Matplotlib writes them."""
    if not isinstance(axis.get_major_formatter(), LogFormatter):
        return
    axis.set_major_formatter(FuncFormatter(_tick))
    axis.set_minor_formatter(NullFormatter())
    low, high = axis.get_view_interval()
    if isinstance(axis.get_major_locator(), LogLocator) and high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def _tick(value: float, _: Any = None) -> str:
    """A number at a tick: −0.01, 10,000, 10⁶."""
    if value and not 1e-4 <= abs(value) < 1e5:
        return scientific(value)
    return f"{value:,.6g}".replace("-", "−")


def _write_out(canvas: Canvas, known: Callable[[str], bool]) -> None:
    """Spells out what can't be drawn, and shortens what would leave no room."""
    longest = int(_PER_INCH * canvas.get_figwidth())
    for text in canvas.findobj(Text):
        assert isinstance(text, Text)
        written = text.get_text()
        if len(written) > longest:
            written = f"{written[: longest - 1]}…"
        text.set_text(
            "".join(c if c == "\n" or known(c) else _escape(c) for c in written)
        )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
