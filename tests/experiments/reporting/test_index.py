"""The index shows every result in a directory, readable or not."""

import base64
import io
import json
import os
import re
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from support.demonstration import PAGE, SCRIPT, TURNED
from support.reports import SETUP
from support.synthetic import synthetic_comparison

from experiments.compare.page import page as page_of
from experiments.records.config import UsageError
from experiments.records.runs import to_json
from experiments.reporting import html
from experiments.reporting.index import Index, index, write_index
from experiments.studies.full_size import Work
from experiments.studies.lifecycle import publish
from experiments.studies.options import StudyOptions

ACCURACIES = {"sgd": [0.50, 0.52], "ema": [0.61, 0.62], "keras": [0.4, 0.41]}
STUDY = PAGE._replace(sections=())


def write_comparison(directory, accuracies, **settings):
    made = page_of(synthetic_comparison(accuracies, **settings), SETUP)
    write_study(directory, made._replace(sections=()))


def write_old_comparison(directory, accuracies, **settings):
    """A comparison's summary as it was before it had a title and a text."""
    directory.mkdir()
    made = page_of(synthetic_comparison(accuracies, **settings), SETUP)
    (directory / "summary.json").write_text(to_json(made.data))
    (directory / "report.html").write_text("")


def write_study(directory, page=STUDY):
    directory.mkdir()
    html.write(directory, page)


def read(directory):
    return write_index(directory).read_text(encoding="utf-8")


def test_index_shows_title_data_and_answer_of_studies_and_comparisons(tmp_path):
    plan = {"dataset": "digits in a study"}
    study = STUDY._replace(title="Which β", summary="β = 0.9 is.", plan=plan)
    write_study(tmp_path / "b", study)
    write_comparison(tmp_path / "a", ACCURACIES)
    write_old_comparison(tmp_path / "c", ACCURACIES)
    page = read(tmp_path)
    assert "3 results." in page
    assert re.findall(r'<a href="([^"]*)">([^<]*)</a>', page) == [
        ("a/report.html", "SGD and momentum on digits"),
        ("b/report.html", "Which β"),
        ("c/report.html", "3 optimizers on digits"),
    ]
    assert "sweep · digits in a study" in page
    assert "<p>β = 0.9 is.</p>" in page
    assert page.count("Best mean test accuracy: 61.50%, Title of ema, n = 2.") == 2


def test_card_has_the_date_the_picture_and_the_notice_of_its_page(tmp_path):
    section = PAGE.sections[0]._replace(tables=())
    study = PAGE._replace(
        sections=(section,), notice="This is a smoke run.", conclusion="Learned <b>."
    )
    write_study(tmp_path / "a", study)
    path = tmp_path / "a" / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"written": "2026-02-03"}))
    page = read(tmp_path)
    assert "· 3 February 2026</p>" in page
    assert '<p class="smoke">This is a smoke run.</p>' in page
    assert "<strong>Learned &lt;b&gt;.</strong>" in page
    (picture,) = re.findall('<img src="data:image/png;base64,([^"]*)" alt="Val', page)
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.width == 640
    (tmp_path / "a" / "figures" / "heat.png").write_bytes(b"no picture")
    os.utime(path, (0, 86_400 * 40))
    del summary["written"]
    path.write_text(json.dumps(summary))
    os.utime(path, (0, 86_400 * 40))  # 10 February 1970
    page = read(tmp_path)
    assert "<img" not in page and "February 1970" in page


def test_index_ignores_what_is_not_a_result(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "summary.json").write_text("its own directory's")
    assert "0 results." in read(tmp_path)


def test_index_shows_names_as_the_text_that_they_are(tmp_path):
    page = STUDY._replace(title=SCRIPT, summary=TURNED, plan={"dataset": "caf\udce9"})
    write_study(tmp_path / "<b>", page)
    found = read(tmp_path)
    assert "<script" not in found
    assert "&lt;script&gt;" in found
    assert "<code>&lt;b&gt;</code>" in found
    assert TURNED not in found
    assert r"caf\udce9" in found


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("a b#c?d%e", "a%20b%23c%3Fd%25e"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("数\udce9\"'", "%E6%95%B0%E9%22%27"),
    ],
)
def test_index_links_to_any_directory(tmp_path, name, link):
    write_study(tmp_path / name)
    assert f'<a href="{link}/report.html">' in read(tmp_path)


def test_index_links_to_no_report_that_is_not_there(tmp_path):
    write_study(tmp_path / "a")
    (tmp_path / "a" / "report.html").unlink()
    page = read(tmp_path)
    assert "1 result." in page
    assert "<a " not in page


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff", b"[1, 2]", b'"study"', b"7", b"{}"),
        b'{"study": "sweep", "title": "half a study"}',
        b'{"study": "sweep", "title": "a", "summary": "b", "plan": 3}',
        b'{"dataset": "digits", "arms": {"sgd": {"test_accuracy": 0.5}}}',
        b'{"dataset": "digits", "arms": {"a": {"title": "a", "seeds": [1], '
        b'"test_accuracy": {"mean": "high"}}}}',
        b"[" * 100_000,
    ],
)
def test_index_names_a_file_that_is_not_a_summary(tmp_path, content):
    write_study(tmp_path / "good")
    (tmp_path / "bad<").mkdir()
    (tmp_path / "bad<" / "summary.json").write_bytes(content)
    page = read(tmp_path)
    assert "1 result, and 1 unreadable." in page
    assert "bad&lt;/summary.json</code></dt><dd>it is not a summary of this" in page


def test_index_names_a_summary_that_cannot_be_read(tmp_path):
    (tmp_path / "a" / "summary.json").mkdir(parents=True)
    assert "can&#39;t be read: Is a directory" in read(tmp_path)


def test_index_of_a_comparison_without_any_result_says_so(tmp_path):
    for write, name in ((write_comparison, "a"), (write_old_comparison, "b")):
        write(tmp_path / name, {"sgd": [float("nan")]})
        assert json.loads((tmp_path / name / "summary.json").read_text())
    assert read(tmp_path).count("No optimizer has a result.") == 2


def test_index_needs_nothing_from_elsewhere(tmp_path):
    write_study(tmp_path / "a")
    page = read(tmp_path)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'\"" in page
    assert "http" not in page.replace("http-equiv", "")
    assert not re.search("<(script|link|iframe)", page)


def test_index_command_says_where_the_page_is(tmp_path):
    said = io.StringIO()
    assert index(Index(tmp_path), Console(file=said)) == tmp_path / "index.html"
    assert said.getvalue() == f"Index: {tmp_path / 'index.html'}{os.linesep}"


def test_index_is_written_anew_each_time(tmp_path):
    write_study(tmp_path / "a")
    assert "1 result." in read(tmp_path)
    write_study(tmp_path / "b")
    assert "2 results." in read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>\xff my own page", None])
def test_index_leaves_the_page_of_somebody_else_as_it_is(tmp_path, content):
    write_study(tmp_path / "a")
    path = tmp_path / "index.html"
    if content is None:
        path.symlink_to("elsewhere")
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        write_index(tmp_path)
    assert str(refused.value) == (
        f"{path} was not written by this program and is left unchanged; rename it to "
        "get an index here."
    )
    assert path.is_symlink() if content is None else path.read_bytes() == content


def test_a_study_says_that_it_left_the_page_of_somebody_else(tmp_path):
    (tmp_path / "index.html").write_text("my own page")
    said = io.StringIO()
    context = SimpleNamespace(
        output=tmp_path / "a",
        console=Console(file=said),
        subject=SimpleNamespace(notes=()),
    )
    study: Any = SimpleNamespace(context=context)
    made = publish(StudyOptions(), STUDY, study, [], Work(1, 2))
    assert made == tmp_path / "a" / "report.html"
    path = tmp_path / "index.html"
    assert f"{path} was not written by this program" in said.getvalue()
    assert path.read_text() == "my own page"


def test_index_of_no_directory_is_refused(tmp_path):
    with pytest.raises(UsageError, match="missing is not a directory; name the one"):
        write_index(tmp_path / "missing")
