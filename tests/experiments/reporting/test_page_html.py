"""A study's page tells all that it was given, needs nothing else, trusts no name."""

import base64
import hashlib
import math
import re
from html.parser import HTMLParser

import pytest
from support.demonstration import NAMES, PAGE, SCORES, SCRIPT, TURNED, with_table

from experiments.reporting.html import html
from experiments.reporting.page import Table


class Reader(HTMLParser):
    """The elements of a page, each with its attributes, and its running text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.pieces = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.pieces.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.pieces).split())


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
            assert attributes.get(name, "#").startswith("#")
    assert "url(http" not in page
    assert "@import" not in page


def test_page_lets_only_its_own_script_run(page, reader):
    (policy,) = [each for each in reader.all("meta") if "http-equiv" in each]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == len(reader.all("script")) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy["content"] == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    handlers = [
        name for _, each in reader.elements for name in each if name[:2] == "on"
    ]
    assert not handlers


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


def test_page_tells_summary_plan_command_and_provenance(reader):
    text = reader.text
    assert text.index("a difference of +2.08 points") < text.index("What matters, and")
    assert "optax_momentum · sweep · plan 0123456789abcdef" in text
    assert f"python -m experiments sweep --dataset '{SCRIPT}'" in text
    assert "learning_rates0.0001, 0.001, 0.01, 0.1 betas0.0, 0.5, 0.9, 0.99" in text
    assert "seedstuning 0, 1, 2, reporting 100, 101" in text
    assert "jax0.10.2 and 0.11.0" in text
    assert "not all made in one environment" in text


def test_page_tells_what_a_plan_leaves_open():
    page = html(with_table(SCORES, plan={"code": "", "network": None, "step": 0}))
    text = Reader(page).text
    assert "code– network– step0" in text


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


def test_page_formats_the_columns_that_say_how():
    table = Table(
        "", ("a", "share"), [("x", -0.12345), ("y", None)], {"share": "{:.1%}"}
    )
    text = Reader(html(with_table(table))).text
    assert "x −12.3% y –" in text
