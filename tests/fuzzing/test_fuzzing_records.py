"""Fuzzing records, plans and pages: damaged files are refused, names are only text.

Every run draws the same examples.
"""

import json
import re
import tempfile
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.demonstration import PAGE, with_table
from support.image_folders import write_pets
from support.json_values import VALUES, paths, replaced
from support.reports import SETUP
from support.small_images import random_images
from support.synthetic import synthetic_run

from experiments.__main__ import main
from experiments.compare.page import page as page_of
from experiments.data import image_dataset
from experiments.records import plan, runs
from experiments.records.config import UsageError
from experiments.reporting import html
from experiments.reporting.index import write_index
from experiments.reporting.page import Table

few = settings(derandomize=True, deadline=None, max_examples=80, database=None)

# A user's network and optimizers are named by their files.
PLAN = {"study": "sweep", "epochs": 3, "betas": [0.5, 0.9], "network": "own.py:network"}
RUNS = [synthetic_run("ema", 3), synthetic_run(network="own.py:network", code="f" * 16)]
INTACT = {"runs.jsonl": b"", "plan.json": b"", "summary.json": b""}
with tempfile.TemporaryDirectory() as made:
    with plan.hold(Path(made), PLAN):
        runs.record(Path(made), *RUNS)
    html.write(Path(made), page_of(RUNS, SETUP))
    INTACT = {name: (Path(made) / name).read_bytes() for name in INTACT}

DEEP = b"[" * 100_000


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """A file of results, truncated or changed in a byte or value; or any bytes."""
    intact = INTACT[name]
    kind = draw(st.sampled_from(["bytes", "cut", "byte", "value"]))
    if kind == "bytes":
        return draw(st.binary(max_size=40))
    if kind == "value":
        line, *others = intact.splitlines() if name == "runs.jsonl" else [intact]
        value = json.loads(line)
        value = replaced(value, draw(st.sampled_from(paths(value))), draw(VALUES))
        return b"\n".join([json.dumps(value).encode(), *others, b""])
    index = draw(st.integers(0, len(intact) - 1))
    if kind == "cut":
        return intact[:index]
    return intact[:index] + bytes([draw(st.integers(0, 255))]) + intact[index + 1 :]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("records")


def refusal(action) -> str:
    """The message of the `UsageError` that the action raises, or ""."""
    try:
        action()
    except UsageError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


@few
@given(damaged("plan.json"))
@example(DEEP)
@example(b'{"hash": "4f53cda18c2baa0c", "plan": []}')
@example(b'{"hash": "x", "plan": {"rate": NaN}}')
def test_a_plan_is_read_unchanged_or_refused(directory, content):
    path = directory / "plan.json"
    path.write_bytes(content)

    def hold():
        with plan.hold(directory, PLAN):
            pass

    message = refusal(hold)
    if message:
        assert path.read_bytes() == content
        assert "is not a whole plan" in message or "of another plan" in message
    else:
        assert path.read_bytes() == INTACT["plan.json"]


@few
@given(damaged("runs.jsonl"))
@example(DEEP + b"\n")
@example(
    INTACT["runs.jsonl"].replace(b'"seconds": 12.25', b'"seconds": 1' + b"0" * 400)
)
def test_runs_are_read_unchanged_or_refused(directory, content):
    (directory / "runs.jsonl").write_bytes(content)
    recorded = []
    message = refusal(lambda: recorded.extend(runs.read(directory)))
    assert all(run in RUNS for run in recorded)
    assert not message or "is not a whole record of this program" in message


@few
@given(damaged("summary.json"))
@example(DEEP)
@example(
    b'{"dataset": "x", "arms": {"a": {"title": "a", "seeds": [1], '
    b'"test_accuracy": {"mean": 1' + b"0" * 400 + b"}}}}"
)
def test_a_summary_is_listed_or_reported_as_unreadable(directory, content):
    (directory / "one").mkdir(exist_ok=True)
    (directory / "one" / "summary.json").write_bytes(content)
    page = write_index(directory).read_text(encoding="utf-8")
    assert ("1 result." in page) != ("1 unreadable" in page)


NAMES = st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onload='alert(1)",
        "&lt;b&gt; &amp &#60;i>",
        "<!-- ]]> </svg></style></title>",
        "{{ 7 * 7 }}{% raw %}",
        r"$\frac{$ x^2 & $_{$",
        "caf\udce9 \u202e",
    ]
) | st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=9)


class Structure(HTMLParser):
    """The elements of a page in order, with the names of their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *sorted(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
@settings(few, max_examples=3)
@given(NAMES, NAMES.filter(lambda name: name == name.strip() and name[0] != "_"))
@example("images of <script>alert(1)", "$x$</td><script>")
def test_names_add_nothing_to_the_structure_of_a_report(dataset, title):
    assert structure_of_report(dataset, title) == structure_of_report("digits", "Own")


def test_a_folder_named_like_a_script_is_only_a_name_in_its_report(tmp_path):
    folder = write_pets(tmp_path / "<script>alert(1)", 6)
    name = image_dataset.load(str(folder), None).name
    assert name == "<script>alert(1)"
    assert structure_of_report(name, "Own") == structure_of_report("digits", "Own")


@cache
def structure_of_report(dataset, title):
    titles = {**SETUP.titles, "ema": title}
    setup = SETUP._replace(titles=titles, equations={**titles}, command=dataset)
    pair = [synthetic_run(arm, dataset=dataset) for arm in ("sgd", "ema")]
    page = html.html(page_of(pair, setup))
    # Drawings have as many ticks as the names leave room for; long cells have a class.
    outside = re.sub(r"<svg .*?</svg>", "", page, flags=re.DOTALL)
    outside = outside.replace('<td class="long">', "<td>")
    return Structure(outside).elements, {*Structure(page).elements}


@settings(few, max_examples=25)
@given(st.lists(NAMES, min_size=8, max_size=8))
def test_names_add_nothing_to_the_structure_of_a_study(names):
    def structure(names):
        caption, heading, cell, title, summary, key, value, command = names
        table = Table(caption, ("Arm", heading), [("sgd", 0.5), (cell, None)])
        page = with_table(table, title=title, summary=summary, command=command)
        plan = {"dataset": value, f"k{key}": [value, {"x": value}]}
        page = page._replace(plan=plan, provenance={f"p{key}": [value]})
        return Structure(html.html(page)).elements

    assert structure(names) == structure(["plain"] * 8)


@settings(few, max_examples=25)
@given(NAMES, NAMES, NAMES)
def test_names_add_nothing_to_an_index(directory, title, summary, data):
    def structure(title, summary, data):
        page = PAGE._replace(title=title, summary=summary, plan={"dataset": data})
        values = html.summary(page._replace(sections=()))
        (directory / "one").mkdir(exist_ok=True)
        (directory / "one" / "summary.json").write_text(json.dumps(values))
        return Structure(write_index(directory).read_text(encoding="utf-8")).elements

    assert structure(title, summary, data) == structure("plain", "plain", "plain")


def test_no_stored_record_runs_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')")
    output = tmp_path / "runs" / "one"
    output.mkdir(parents=True)
    for name, content in INTACT.items():
        (output / name).write_bytes(content)
    assert runs.read(output)[1].config.network == "own.py:network"
    with plan.hold(output, PLAN) as finished:
        html.write(output, page_of(finished, SETUP))
    assert main(["index", "--directory", "runs"]) == 0
    images, labels = random_images(7, 200, 20, 20), np.arange(200) % 3
    np.savez("data.npz", images=images, labels=labels)
    words = ["--dataset", "data.npz", "--output", str(output)]
    for command in ("compare", "claims"):
        assert main([command, *words]) == 2
        assert "holds runs of another plan" in capsys.readouterr().err
    assert main(["claims", *words, "--model", "own.py:network"]) == 2
    assert "raised SystemExit at line 1: it ran." in capsys.readouterr().err
