"""docs/results.md quotes the studies' summaries, with no other numbers."""

import json
import re
from pathlib import Path

import pytest

from experiments.records import plan

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "results.md").read_text()
SUMMARIES = sorted((DOCS / "results").glob("*/summary.json"))


def flat(text: str) -> str:
    """Removes line breaks and the marks of quotations."""
    return " ".join(re.sub(r"^> ?", "", text, flags=re.MULTILINE).split())


def test_every_study_has_results():
    studies = {"sweep", "crossval", "batch-size", "lr-decay", "claims", "tune"}
    assert studies <= {path.parent.name for path in SUMMARIES}


@pytest.mark.parametrize("path", SUMMARIES, ids=lambda path: path.parent.name)
def test_results_quote_the_summary_and_name_the_plan(path):
    summary = json.loads(path.read_text())
    assert flat(summary["summary"]) in flat(TEXT)
    assert summary["plan_hash"] == plan.digest(summary["plan"])
    assert f"plan {summary['plan_hash']}" in flat(TEXT)
    assert str(Path.home().anchor) + "tmp" not in path.read_text()


def test_results_show_every_figure_that_exists():
    shown = re.findall(r"\((results/[^)]+\.png)\)", TEXT)
    assert shown
    existing = {
        str(path.relative_to(DOCS)) for path in DOCS.glob("results/*/figures/*.png")
    }
    assert set(shown) == existing


def test_every_number_of_a_quotation_is_in_a_summary():
    quoted = flat("\n".join(re.findall(r"^> .*$", TEXT, flags=re.MULTILINE)))
    summaries = (json.loads(path.read_text())["summary"] for path in SUMMARIES)
    numbers = set(re.findall(r"[\d.]+", flat(" ".join(summaries))))
    assert set(re.findall(r"[\d.]+", quoted)) <= numbers
