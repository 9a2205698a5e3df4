"""Drawings suit light and dark, phone and desktop, and survive any name."""

import io
import math
import warnings
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Canvas
from support.demonstration import NAMES, PAGE

from experiments.reporting import drawing
from experiments.reporting.statistics import Interval

SVG = "{http://www.w3.org/2000/svg}"
HEAT, CURVES = (section.figures[0] for section in PAGE.sections[:2])


def luminance(color):
    c = np.array(to_rgb(color))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def texts(drawn):
    """What is written in an SVG, in what style."""
    return {
        (text.text or "").strip(): text.get("style") or ""
        for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")
    }


def pixels(content):
    return matplotlib.image.imread(io.BytesIO(content), format="png")


def lines(scale="linear", low=1.0, high=2.0, title="Title"):
    """Draws a line up to these limits."""

    def draw(canvas, ink):
        axes = canvas.subplots()
        axes.plot([low, high], [low, high])
        axes.set(xscale=scale, title=title, xlabel="Along")
        drawing.plain_axes(axes, ink)

    return draw


@pytest.mark.parametrize("stroke", drawing.STROKES)
def test_stroke_has_contrast_on_white_and_on_near_black(stroke):
    bright, dark = 1.05, luminance("#14161a") + 0.05
    drawn = luminance(stroke.color) + 0.05
    assert bright / drawn > 3
    assert drawn / dark > 3


def test_strokes_tell_eight_arms_apart():
    given = drawing.strokes([f"arm {number}" for number in range(8)])
    assert len(set(given.values())) == 8


def test_element_writes_and_rules_in_the_ink_of_the_page():
    drawn = drawing.element(lines(), (4, 3), "a", "b")
    styles = texts(drawn)
    assert {"Title", "Along"} <= styles.keys()
    assert all("fill: currentColor" in style for style in styles.values())
    assert "#010203" not in drawn
    assert "#000000" not in drawn


def test_element_is_equal_for_equal_drawings_and_shares_no_id_with_others():
    def ids(drawn):
        elements = ElementTree.fromstring(drawn).iter()
        return {element.get("id") for element in elements} - {None}

    first, second = drawing.svg(CURVES), drawing.narrow_svg(CURVES)
    assert drawing.svg(CURVES) == first
    assert ids(first) and ids(second)
    assert not ids(first) & ids(second)
    assert not ids(first) & ids(drawing.svg(CURVES._replace(name="other")))


def test_element_names_itself_for_readers_who_cannot_see_it():
    drawn = drawing.element(lines(), (4, 3), "a", "<b> & $x$", "what it shows")
    root = ElementTree.fromstring(drawn)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "<b> & $x$"
    assert root.findtext(f"{SVG}desc") == "what it shows"


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_drawn(name):
    drawn = drawing.element(lines(title=name), (4, 3), name, "any name")
    content = drawing.picture(lines(title=name), (4, 3))
    assert pixels(content).shape == (480, 640, 4)
    if len(name) < 40:
        expected = name.replace("\udce9", r"\udce9")
        assert any(expected in written for written in texts(drawn))
    assert "<script" not in drawn


def test_a_long_name_leaves_room_for_the_drawing():
    (written,) = [text for text in texts(drawing.svg(HEAT)) if text.startswith("Eff")]
    assert written == "Effective learning rate"
    drawn = texts(drawing.element(lines(title="n" * 200), (4, 3), "a", "b"))
    assert "n" * 44 in drawn
    assert all(len(line) <= 44 for line in drawn)


def test_logarithmic_axes_are_written_without_tex():
    drawn = drawing.element(lines("log", 1e-6, 1e6), (6, 3), "a", "b")
    assert {"10⁻⁶", "10⁶"} <= texts(drawn).keys()
    assert "mathdefault" not in drawn
    narrow = drawing.element(lines("log", 16, 60), (6, 3), "a", "b")
    assert {"20", "50"} <= texts(narrow).keys()


def test_narrow_drawing_is_drawn_anew_not_shrunk():
    wide, narrow = (
        ElementTree.fromstring(draw(HEAT)) for draw in (drawing.svg, drawing.narrow_svg)
    )
    assert wide.get("width") == "460.8pt"
    assert narrow.get("width") == "266.4pt"

    styles = [
        texts(draw(HEAT))["Effective learning rate"]
        for draw in (drawing.svg, drawing.narrow_svg)
    ]
    assert styles[0] == styles[1]


@pytest.mark.parametrize(
    ("width", "count", "shape"),
    [(6.4, 2, (1, 2)), (3.7, 2, (2, 1)), (6.4, 3, (2, 2)), (3.7, 1, (1, 1))],
)
def test_panels_stand_beside_or_below_one_another(width, count, shape):
    canvas = Canvas(figsize=(width, 9))
    made = drawing.panels(canvas, count, height=2.5)
    assert len(made) == len(canvas.axes) == count
    specs = [axes.get_subplotspec() for axes in made]
    assert {spec.get_gridspec().get_geometry() for spec in specs if spec} == {shape}
    assert canvas.get_figheight() == 2.5 * shape[0]


@pytest.mark.parametrize(("width", "columns"), [(6.4, 2), (3.7, 1)])
def test_legend_has_the_columns_that_fit(width, columns):
    canvas = Canvas(figsize=(width, 4), layout="constrained")
    axes = canvas.subplots()
    for name in ("a name of twenty-two..", "b"):
        axes.plot([1, 2], label=name)
    drawing.legend(canvas, axes)
    (drawn,) = canvas.legends
    assert vars(drawn)["_ncols"] == columns


def test_scientific_writes_powers_of_ten():
    assert drawing.scientific(1.5e-6) == "1.5 × 10⁻⁶"
    assert drawing.scientific(1e6) == "10⁶"
    assert drawing.scientific(-20.0) == "−2 × 10¹"


def heat(values, **settings):
    def draw(canvas, ink):
        columns = [f"x{n}" for n in range(values.shape[1])]
        rows = [f"y{n}\udce9" for n in range(values.shape[0])]
        drawing.heat_map(
            canvas.subplots(), values, columns, rows, ink, "{:+.1f}", **settings
        )

    return drawing.element(draw, (4, 3), "heat", "b")


VALUES = np.array([[-0.5, 3.5, math.nan], [9.5, 6.5, math.inf]])


def test_heat_map_writes_every_value_and_a_cross_where_there_is_none():
    drawn = heat(VALUES)
    labels = {"x0", "x1", "x2", r"y0\udce9", r"y1\udce9"}
    assert texts(drawn).keys() == {"−0.5", "+3.5", "+9.5", "+6.5", "×"} | labels
    assert drawn.count(">×<") == 2


def test_heat_map_writes_in_black_or_white_whichever_is_clearer():
    styles = texts(heat(VALUES))
    assert "fill: #ffffff" in styles["−0.5"]
    assert "fill: #000000" in styles["+9.5"] or "fill" not in styles["+9.5"]
    assert "fill: currentColor" in styles["×"]


@pytest.mark.parametrize(
    ("best", "expected"), [(np.nanargmax, (0, 1)), (np.nanargmin, (0, 0))]
)
def test_heat_map_frames_the_best(best, expected):
    canvas = Canvas()
    axes = canvas.subplots()
    drawing.heat_map(axes, VALUES, ["a", "b", "c"], ["d", "e"], "black", best=best)
    frames = [each for each in axes.patches if each.get_linewidth() == 2]
    (corner,) = [each.get_xy() for each in frames]  # pyright: ignore
    assert corner == (expected[0] - 0.5, expected[1] - 0.5)


def test_heat_map_of_nothing_but_failures_frames_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = heat(np.full((2, 3), math.nan))
    assert drawn.count(">×<") == 6


def test_heat_map_of_equal_values_has_a_color():
    assert "−2.5" in texts(heat(np.full((2, 2), -2.5)))


def test_heat_maps_of_shared_limits_share_their_colors():
    def color_of_first(**limits):
        canvas = Canvas()
        axes = canvas.subplots()
        drawing.heat_map(axes, VALUES, ["a", "b", "c"], ["d", "e"], "black", **limits)
        return axes.patches[1].get_facecolor()

    assert color_of_first(limits=(3.5, 99)) == matplotlib.colormaps["cividis"](0.0)
    assert color_of_first() != color_of_first(limits=(3.5, 99))


def test_heat_map_of_errors_is_brightest_and_framed_where_they_are_least():
    axes = Canvas().subplots()
    values = np.array([[0.5, 2.5, 1.5]])
    drawing.heat_map(
        axes, values, ["a", "b", "c"], ["d"], "black", lower_is_better=True
    )
    *tiles, frame = axes.patches
    bright = [luminance(tile.get_facecolor()[:3]) for tile in tiles]  # pyright: ignore
    assert np.argsort(bright).tolist() == [1, 2, 0]
    assert frame.get_xy() == (-0.5, -0.5)  # pyright: ignore


def test_line_with_band_is_a_line_and_its_interval_in_one_color():
    axes = Canvas().subplots()
    drawing.line_with_band(
        axes, [1, 2], [3, 4], [2, 3], [5, 6], drawing.STROKES[2], "name"
    )
    (line,), (band,) = axes.lines, axes.collections
    assert (line.get_color(), line.get_label()) == (drawing.PINK, "name")
    assert to_rgb(band.get_facecolor()[0]) == to_rgb(drawing.PINK)  # pyright: ignore
    assert line.get_linestyle() == "--"


def test_intervals_are_cut_at_what_is_possible_and_not_drawn_for_two_values():
    axes = Canvas().subplots()
    ends = (-1.5, 1.9, 3), (-1.5, 1.9, 2), (0.1, 0.3, 3)
    intervals = [Interval(0.2, *x) for x in ends]
    drawing.draw_intervals(axes, ["cut", "two", "whole"], {"": intervals})
    bars = [vars(lines)["_paths"][0].vertices[:, 0] for lines in axes.collections]
    assert bars[0] == pytest.approx([-100, 100])
    assert bars[1] == pytest.approx([20, 20])
    assert bars[2] == pytest.approx([10, 30])


def test_rows_have_their_labels_above_them_wrapped_to_the_canvas():
    def draw(canvas, ink):
        axes = canvas.subplots()
        drawing.label_rows(axes, ["first", "word " * 30], ink)

    words = texts(drawing.element(draw, (4, 3), "a", "b"))
    assert "first" in words
    assert any(line.endswith("…") for line in words)
    assert all(len(line) <= 44 for line in words)
