"""`conformance`: the cells and pages of its matrix, and peers that can't run."""

import sys
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.conformance import command
from experiments.conformance.command import GROUPS, examine, in_words, matrix, render
from experiments.conformance.subjects import Subject
from experiments.peers.optimizer import start_library
from optax_momentum import testing
from optax_momentum.testing import Result

PROMISE = testing.name_of(testing.EQUATIONS[0])


def results(**outcome):
    """The results of a setting that keeps every promise except the first."""
    promises = [promise for group in GROUPS.values() for promise in group]
    kept = {testing.name_of(p): Result(testing.name_of(p), True) for p in promises}
    return {**kept, PROMISE: Result(PROMISE, **outcome)}


BROKEN = {
    "ours": {"a": results(passed=True), "b": results(passed=True)},
    "theirs": {
        "a": results(passed=False, detail="<b> & | 3"),
        "b": results(passed=True),
        "c": results(passed=False, detail="<b> & | 3"),
    },
    "absent": {"a": results(passed=None, detail="it has no θ")},
}
LIBRARIES = {name: [Subject(s) for s in settings] for name, settings in BROKEN.items()}


def test_a_cell_says_how_many_settings_broke_the_promise_and_why():
    cells = matrix(BROKEN)["What it computes"][0].cells
    assert [in_words(cell) for cell in cells.values()] == [
        "pass",
        "FAIL in 2 of 3: <b> & | 3",
        "does not apply: it has no θ",
    ]
    assert cells["theirs"].reasons(False) == {"<b> & | 3": ["a", "c"]}


def test_the_matrix_has_every_promise_once():
    rows = [row.name for group in matrix(BROKEN).values() for row in group]
    assert len(rows) == len(set(rows)) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize(
    ("template", "reason"),
    [("conformance.md.jinja", r"<b> & \| 3"), ("conformance.html.jinja", "&lt;b&gt;")],
)
def test_both_files_name_versions_libraries_and_reasons(template, reason):
    text = render(template, matrix(BROKEN), LIBRARIES, {"jax": "1.2.3"})
    assert all(part in text for part in (reason, "1.2.3", "theirs", "it has no θ"))
    assert ("<b> &" in text) == template.endswith("md.jinja")


def test_promises_about_what_a_subject_lacks_do_not_apply():
    results = examine(Subject("nothing"))
    assert len(results) == sum(map(len, GROUPS.values()))
    assert {result.passed for result in results.values()} == {None}


def test_an_environment_without_the_library_has_no_peer():
    with start_library(Path(sys.executable), "step_pytorch.py") as peer:
        assert peer is None


def test_a_peer_that_is_no_interpreter_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command.subjects, "optax_momentum_", list)
    monkeypatch.setattr(command.subjects, "optax_", list)
    missing = tmp_path / "python"
    arguments = ["conformance", f"--peers={missing}", f"--output={tmp_path}"]
    assert main(arguments) == 2
    expected = f"error: --peers {missing} is not a Python interpreter: No such file"
    assert expected in capsys.readouterr().err


def test_both_files_are_written(tmp_path, monkeypatch, capsys):
    for library in ("optax_momentum_", "optax_"):
        monkeypatch.setattr(command.subjects, library, lambda: [Subject("nothing")])
    assert main(["conformance", f"--output={tmp_path / 'new'}"]) == 0
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["conformance.html", "conformance.md"]
    assert "optax_momentum: nothing" in capsys.readouterr().out
