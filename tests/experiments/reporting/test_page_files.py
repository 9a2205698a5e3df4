"""A study's files: all of them or none, strict JSON, and every cell in words."""

import json
import math
from typing import Any

import numpy as np
import pytest
from experiments.reporting.cells import in_words, sort_value
from support.demonstration import CURVES, NAMES, PAGE, SCORES, with_table

from experiments.reporting.html import summary, write
from experiments.reporting.page import Figure, Section, Table


def test_write_leaves_page_summary_and_pictures_and_no_other(tmp_path):
    assert write(tmp_path, PAGE) == tmp_path / "report.html"
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    pictures = {"figures/heat.png", "figures/grow-th-.png"}
    assert files == {"report.html", "summary.json", *pictures}
    for name in pictures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_write_without_figures_makes_no_directory_for_them(tmp_path):
    write(tmp_path, with_table(SCORES))
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "summary.json"}


def test_write_that_fails_leaves_what_was_there(tmp_path):
    def broken(canvas, ink):
        raise RuntimeError("it can't be drawn")

    write(tmp_path, with_table(SCORES))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    section = Section("Broken", figures=[Figure("a", "b", broken, CURVES)])
    with pytest.raises(RuntimeError, match="it can't be drawn"):
        write(tmp_path, PAGE._replace(sections=[section]))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_write_refuses_two_figures_of_one_file(tmp_path):
    figure = PAGE.sections[0].figures[0]
    figures = [figure._replace(name="a b"), figure._replace(name="a/b")]
    section = Section("Twice", figures=figures)
    with pytest.raises(
        ValueError, match=r"figure 'a/b' is the second figures/a-b\.png"
    ):
        write(tmp_path, PAGE._replace(sections=[section]))
    assert not list(tmp_path.iterdir())


def test_summary_is_strict_json_with_every_table(tmp_path):
    write(tmp_path, PAGE)
    text = (tmp_path / "summary.json").read_text()
    found = json.loads(text, parse_constant=pytest.fail)
    assert (found["study"], found["plan_hash"]) == ("sweep", "0123456789abcdef")
    assert found["plan"]["budget"] == 16
    assert found["plan"]["seeds"]["reporting"] == list(range(100, 110))
    (table,) = found["sections"][0]["tables"]
    assert table["header"] == list(SCORES.header)
    assert table["rows"][0] == list(SCORES.rows[0])
    assert table["rows"][1] == [
        NAMES[1],
        0.1,
        1150,
        0.004,
        None,
        None,
        "diverged at epoch 3 of 10",
    ]
    (figure,) = found["sections"][1]["figures"]
    assert (figure["name"], figure["caption"]) == ("grow/<th>", "Steps to a target.")
    assert figure["table"]["rows"] == [list(row) for row in CURVES.rows]


def test_summary_takes_numbers_of_any_library_and_names_what_is_none():
    row: list[Any] = [np.float32(0.5), np.int64(7)]
    table = Table("Of NumPy", ("a", "b"), [row])
    found = summary(with_table(table, plan={"path": PAGE, "on": True, "nothing": None}))
    (plain,) = found["sections"][0]["tables"][0]["rows"]
    assert [type(cell) for cell in plain] == [float, int]
    assert found["plan"]["on"] is True
    assert found["plan"]["nothing"] is None


def test_summary_refuses_a_row_that_does_not_fit_its_header():
    message = r"row \('x',\) has 1 cells for the 2 headings of 'Short': give it one"
    with pytest.raises(ValueError, match=message):
        summary(with_table(Table("Short", ("a", "b"), [("x",)])))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (None, "–"),
        (math.nan, "diverged"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        ("a-b", "a-b"),
        (True, "yes"),
        (0, "0"),
        (-1234567, "−1,234,567"),
        (np.int64(2048), "2,048"),
        (0.0, "0"),
        (0.1 + 0.2, "0.3"),
        (-0.0123456, "−0.01235"),
        (12345.678, "12,346"),
        (1000.0, "1,000"),
        (99.996, "100"),
        (np.float32(0.9), "0.9"),
        (0.0001, "0.0001"),
        (-0.0000123456, "−1.235 × 10⁻⁵"),
        (1e12, "10¹²"),
    ],
)
def test_cell_in_words(cell, words):
    assert in_words(cell) == words


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (3, "3.0"),
        (-1e-7, "-1e-07"),
        (math.inf, "Infinity"),
        (math.nan, None),
        ("3", None),
    ],
)
def test_sort_value_is_a_number_of_javascript_or_none(cell, value):
    assert sort_value(cell) == value
