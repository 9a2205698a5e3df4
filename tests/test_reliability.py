"""What docs/reliability.md promises is what the fault campaign measured."""

import json
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"


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


def test_every_promise_was_kept_in_every_trial(figures):
    assert len(figures["faults"]) > 20
    for row in figures["faults"]:
        assert row["kept"] == row["trials"] > 0, row


def test_every_fault_was_injected_often_enough(figures):
    assert sum(trials(figures, "SIGKILL at a random moment")) >= 200
    assert min(trials(figures, "SIGKILL while")) >= 30
    assert len(trials(figures, "SIGKILL while")) == 8
    assert sum(trials(figures, "a bit of a checkpoint's file flipped")) >= 500


def test_the_page_has_every_row_of_the_figures(figures, page):
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for row in figures["faults"]:
        counts = f"{row['kept']:,} of {row['trials']:,}"
        assert f"| {row['fault']} | {row['promise']} | {counts} |" in rows
    assert len(rows) == len(figures["faults"]) + 1  # the heading


def test_the_page_tells_the_other_figures(figures, page):
    for name in ("restored checkpoints", "compared states", "compared records"):
        assert f"{figures[name]:,} {name}" in page
    for name in ("median", "99th percentile"):
        assert f"{figures[f'lost steps, {name}']:g} ({name})" in page
    assert f"{figures['seconds to go on, mean']:g} s" in page
    assert figures["command"] in page
    assert figures["machine"] in page
    for package in ("jax", "optax"):
        assert f"{package} {figures['versions'][package]}" in page
