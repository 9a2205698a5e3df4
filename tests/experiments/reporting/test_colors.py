"""Every text and every line can be read on light paper and on dark."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from experiments.reporting import drawing, rendering
from experiments.reporting.drawing import STROKES, VARIABLES

CSS = (Path(rendering.__file__).parent / "templates" / "page.css").read_text()
PALETTES = [
    dict(re.findall(r"(--[a-z]+): (#[0-9a-f]+);", block))
    for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
]
SCHEMES = dict(zip(("light", "dark", "print"), PALETTES, strict=True))
TEXTS = ("--ink", "--quiet", *VARIABLES.values())


def luminance(color: str) -> float:
    """The relative luminance of WCAG 2.2."""
    c = np.array(to_rgb(color))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(("scheme", "name"), [*product(SCHEMES, TEXTS)])
def test_every_color_of_text_has_a_contrast_of_4_5(scheme, name):
    palette = SCHEMES[scheme]
    for paper in ("--paper", "--card"):
        assert contrast(palette[name], palette[paper]) >= 4.5


def test_figures_have_the_colors_of_the_light_page_and_of_paper():
    for color, variable in VARIABLES.items():
        assert SCHEMES["light"][variable] == SCHEMES["print"][variable] == color
        assert contrast(color, "#ffffff") >= 4.5
    assert {stroke.color for stroke in STROKES} == VARIABLES.keys()
    assert contrast(drawing._INK, "#ffffff") >= 4.5


def test_no_color_is_written_outside_the_palettes():
    rules = re.sub(r":root \{.*?\}", "", CSS, flags=re.DOTALL)
    rest = set(re.findall(r"#[0-9a-f]{3,8}", rules))
    assert rest <= {"#0002", "#fff2"}  # the shade at the edge of a table
