"""Pages: complete files, strict JSON, every cell in words, and no trust in any name."""

import base64
import hashlib
import json
import math
import re
from datetime import date
from typing import Any

import numpy as np
import pytest
from support.demonstration import (
    CURVES,
    NAMES,
    PAGE,
    SCORES,
    SCRIPT,
    TURNED,
    with_table,
)
from support.reports import Reader

from experiments.reporting.html import html, in_words, sort_value, summary, write
from experiments.reporting.page import Figure, FullSize, Section, Table


@pytest.fixture(scope="module")
def page():
    return html(PAGE)


@pytest.fixture(scope="module")
def reader(page):
    return Reader(page)


def test_page_needs_nothing_from_elsewhere(page, reader):
    tags = {tag for tag, _ in reader.elements}
    assert not {"link", "img", "iframe", "object", "form", "base", "image"} & tags
    for _, attributes in reader.elements:
        for name in ("href", "src", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith("#") or address == "../index.html"
    assert "url(http" not in page
    assert "@import" not in page


def test_page_links_to_its_index_and_to_every_section(page, reader):
    links = [each["href"] for each in reader.all("a")]
    assert links[0] == "../index.html"
    targets = [f"#{each['id']}" for each in reader.all("section") if "id" in each]
    assert links[1:] == targets == ["#section-1", "#section-2", "#section-3", "#repeat"]


def test_command_breaks_only_between_options():
    command = "python -m experiments sweep --batch-sizes 8 16 --output a-b"
    larger = FullSize("at least 3 runs", "python -m experiments sweep --preset paper")
    made = html(PAGE._replace(sections=(), command=command, full_size=larger))
    (words, full) = re.findall(r'<code class="words">(.*?)</code>', made)
    assert re.findall("<span>(.*?)</span>", words) == [
        "python -m experiments sweep",
        "--batch-sizes 8 16",
        "--output a-b",
    ]
    assert re.sub("<.*?>", "", words) == command  # which the button copies
    assert re.sub("<.*?>", "", full) == larger.command
    assert "At full size, at least 3 runs:" in made


def test_page_begins_with_its_notice_and_its_conclusion():
    made = PAGE._replace(sections=(), notice="Beware.", conclusion="Learned.")
    text = Reader(html(made)).text
    places = [text.index(words) for words in ("Beware.", "Learned.", PAGE.summary[:30])]
    assert places == sorted(places)
    made = summary(made)
    assert (made["notice"], made["conclusion"]) == ("Beware.", "Learned.")
    assert date.fromisoformat(made["written"])


def test_page_lets_only_its_own_script_run(page, reader):
    (policy,) = [each for each in reader.all("meta") if "http-equiv" in each]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == len(reader.all("script")) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy["content"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    names = [name for _, attributes in reader.elements for name in attributes]
    assert not [name for name in names if name[:2] == "on"]


def test_page_shows_every_name_as_the_text_that_it_is(page, reader):
    assert SCRIPT not in page
    assert TURNED not in page
    title = f"Which β, which learning rate, on {SCRIPT}"
    assert title in reader.text
    spelled_out = (r"caf\udce9.npz", r"\u202edenrut\u202c")
    for shown in (SCRIPT, NAMES[1], NAMES[2], NAMES[5], *spelled_out):
        assert shown in reader.text


def test_page_has_no_id_twice(reader):
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0


def test_page_draws_each_figure_for_desktop_and_for_phone(page, reader):
    widths = [svg["width"] for svg in reader.all("svg")]
    assert widths == ["460.8pt", "266.4pt"] * 2
    assert len(reader.all("figcaption")) == len(reader.all("details")) == 2
    assert "#010203" not in page


def test_page_shows_summary_plan_command_and_provenance(reader):
    text = reader.text
    assert text.index("a difference of +2.08 points") < text.index("What matters, and")
    assert "optax_momentum · sweep · plan 0123456789abcdef" in text
    assert f"python -m experiments sweep --dataset '{SCRIPT}'" in text
    assert "learning_rates0.0001, 0.001, 0.01, 0.1 betas0.0, 0.5, 0.9, 0.99" in text
    assert "seedstuning 0, 1, 2, reporting 100, 101" in text
    assert "jax0.10.2 and 0.11.0" in text
    assert "not all made in one environment" in text


def test_page_shows_a_dash_for_what_a_plan_leaves_open():
    page = html(with_table(SCORES, plan={"code": "", "network": None, "step": 0}))
    text = Reader(page).text
    assert "code– network– step0" in text


def test_page_explains_its_intervals_once(reader):
    assert reader.text.count("cut at 0 and 100%") == 1
    assert reader.text.count("Two values give no useful interval") == 1


def test_page_without_shares_cuts_no_interval():
    text = Reader(html(PAGE._replace(sections=(), of_shares=False))).text
    assert "usually one a seed. Two values give no useful interval" in text
    assert "cut at" not in text
    assert "of_shares" not in summary(PAGE)


def test_page_of_one_environment_has_no_warning_of_two():
    one = html(with_table(SCORES, provenance={"jax": ["0.10.2"]}))
    assert "not all made" not in one
    assert "not all made" not in html(with_table(SCORES, provenance={}))


def test_page_gives_every_table_headings_to_press_and_room_to_scroll(reader):
    tables, headings = reader.all("table"), 7 + 3 + 3
    assert len(tables) == 3
    regions = [each for each in reader.all("div") if each.get("role") == "region"]
    assert [each["tabindex"] for each in regions] == ["0"] * 3
    assert regions[1]["aria-label"] == SCORES.caption
    columns = [each for each in reader.all("th") if each["scope"] == "col"]
    assert [each["aria-sort"] for each in columns] == ["none"] * headings
    buttons = [each for each in reader.all("button") if each.get("class") != "copy"]
    assert len(buttons) == headings
    assert {each["type"] for each in reader.all("button")} == {"button"}


def test_page_folds_a_long_table_away():
    def folded(count):
        table = Table("Many", ("n",), [(number,) for number in range(count)])
        return "<summary>Show all" in html(with_table(table))

    assert folded(21) and not folded(20)


def test_page_marks_numbers_and_what_is_missing_for_sorting():
    rows = [("a", 1234.5, 1), ("b", math.nan, "x"), ("c", -math.inf, None)]
    page = html(with_table(Table("", ("name", "number", "mixed"), rows)))
    assert '<th scope="col" class="number" aria-sort="none">' in page
    cells = re.findall(r"<td[^>]*>[^<]*</td>", page)
    assert cells == [
        '<td class="number" data-value="1234.5">1,234</td>',
        '<td data-value="1.0">1</td>',
        '<td class="number missing">diverged</td>',
        "<td>x</td>",
        '<td class="number" data-value="-Infinity">−∞</td>',
        '<td class="missing">–</td>',
    ]


def test_page_writes_large_numbers_to_four_digits_without_an_exponent():
    rows = [("x", 51234.4, -1234.4), ("y", 0.12344, 0.25), ("z", math.nan, None)]
    formats = {"value": "{:.4g}", "less": "{:+.4g}"}
    text = Reader(html(with_table(Table("", ("a", "value", "less"), rows, formats))))
    assert "x 51,234 −1,234 y 0.1234 +0.25 z diverged –" in text.text


def test_page_formats_the_columns_that_say_how():
    rows = [("x", -0.12345), ("y", None)]
    table = Table("", ("a", "share"), rows, {"share": "{:.1%}"})
    text = Reader(html(with_table(table))).text
    assert "x −12.3% y –" in text


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
    message = r"figure 'a/b' is the second figures/a-b\.png"
    with pytest.raises(ValueError, match=message):
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
    diverged = [NAMES[1], 0.1, 1150, 0.004, None, None, "diverged at epoch 3 of 10"]
    assert table["rows"][1] == diverged
    (figure,) = found["sections"][1]["figures"]
    assert (figure["name"], figure["caption"]) == ("grow/<th>", "Steps to a target.")
    assert figure["table"]["rows"] == [list(row) for row in CURVES.rows]


def test_summary_merges_the_data_that_a_page_adds():
    page = with_table(SCORES, data={"arms": {"sgd": np.float32(0.5)}, "plan": "new"})
    merged = summary(page)
    assert (merged["arms"], merged["plan"]) == ({"sgd": 0.5}, "new")
    assert "data" not in merged and merged["title"] == page.title


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
        *((None, "–"), (math.nan, "diverged"), (math.inf, "∞"), (-math.inf, "−∞")),
        *(("a-b", "a-b"), (True, "yes")),
        *((0, "0"), (-1234567, "−1,234,567"), (np.int64(2048), "2,048"), (0.0, "0")),
        *((0.1 + 0.2, "0.3"), (-0.0123456, "−0.01235"), (np.float32(0.9), "0.9")),
        *((99.996, "100"), (1000.0, "1,000"), (12345.678, "12,346")),
        *((0.0001, "0.0001"), (-0.0000123456, "−1.235 × 10⁻⁵"), (1e12, "10¹²")),
    ],
)
def test_cell_in_words(cell, words):
    assert in_words(cell) == words


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *((3, "3.0"), (-1e-7, "-1e-07"), (math.inf, "Infinity")),
        *((math.nan, None), ("3", None)),
    ],
)
def test_sort_value_is_a_number_of_javascript_or_none(cell, value):
    assert sort_value(cell) == value
