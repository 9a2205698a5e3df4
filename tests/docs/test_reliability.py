"""docs/reliability.md agrees with the figures of the fault campaign."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return json.loads((DOCS / "reliability.json").read_text())


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "reliability.md").read_text()


def trials(figures: dict[str, Any], fault: str) -> list[int]:
    return [
        row["trials"] for row in figures["faults"] if row["fault"].startswith(fault)
    ]


def table(page: str, heading: str) -> list[str]:
    """The rows of the table under a heading, including the table's header."""
    _, section = page.split(f"\n## {heading}\n")
    lines = section.split("\n## ")[0].splitlines()
    return [line for line in lines if line.startswith("| ")]


def test_every_promise_was_kept_in_every_trial(figures):
    assert len(figures["faults"]) > 20
    for row in figures["faults"]:
        assert row["kept"] == row["trials"] > 0, row


def test_every_fault_was_injected_often_enough(figures):
    assert sum(trials(figures, "SIGKILL at a random moment")) >= 200
    assert min(trials(figures, "SIGKILL while")) >= 30
    assert len(trials(figures, "SIGKILL while")) == 8
    assert sum(trials(figures, "a bit of a checkpoint's file flipped")) >= 500
    assert sum(trials(figures, "ENOSPC, EIO or EROFS from one kind of call")) >= 3 * 11
    assert min(row["trials"] for row in figures["faults"]) >= 4


def test_the_page_has_every_row_of_the_figures(figures, page):
    rows = table(page, "Figures")
    for row in figures["faults"]:
        counts = f"{row['kept']:,} of {row['trials']:,}"
        assert f"| {row['fault']} | {row['promise']} | {counts} |" in rows
    assert len(rows) == len(figures["faults"]) + 1  # and the header


def test_the_page_says_where_every_fault_is_injected(page):
    _, *rows = table(page, "Every fault")
    numbers = [int(row.split("|")[1]) for row in rows]
    assert numbers == [*range(1, 27)]
    for row in rows:
        where = row.split("|")[3]
        named = re.findall(r"`(\w+\.py)::(\w+)`", where)
        assert where.strip().startswith("above") or named, row
        for file, test in named:
            assert f"\ndef {test}(" in next(TESTS.rglob(file)).read_text(), row


def test_the_page_states_the_other_figures(figures, page):
    for name in ("restored checkpoints", "compared states", "compared records"):
        assert f"{figures[name]:,} {name}" in page
    for name in ("median", "99th percentile"):
        assert f"{figures[f'lost steps, {name}']:g} ({name})" in page
    assert f"{figures['seconds to go on, mean']:g} s" in page
    assert figures["command"] in page
    assert figures["machine"] in page
    for package in ("jax", "optax"):
        assert f"{package} {figures['versions'][package]}" in page
