"""The index command: one page over all the results of a directory."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from rich.console import Console

from experiments.records.config import UsageError
from experiments.records.runs import write_atomically
from experiments.reporting.rendering import render


@dataclass(frozen=True)
class Index:
    """Write a page with the answers of all studies and comparisons of a directory."""

    directory: Path = Path("runs")
    """Directory whose subdirectories hold the results."""


# Stands in every index's head: what has another is somebody else's page.
GENERATOR = "optax_momentum index"


class Entry(NamedTuple):
    """What the page tells of one subdirectory."""

    name: str
    link: str | None = None  # to its report, if it has one
    kind: str = ""
    dataset: str = ""
    title: str = ""
    summary: str = ""
    problem: str = ""  # why nothing of the above is known


def index(options: Index, console: Console) -> Path:
    """Writes the page and says where it is.

    Raises:
      UsageError: the directory is none, or can't be written.
    """
    path = write_index(options.directory)
    console.print(f"Index: {path}", markup=False, highlight=False, soft_wrap=True)
    return path


def write_index(directory: Path) -> Path:
    """Writes `index.html` over every subdirectory that has a `summary.json`.

    Raises:
      UsageError: the directory is none, can't be written, or has an `index.html` of
        somebody else, which is left as it is.
    """
    if not os.path.isdir(directory):
        raise UsageError(
            f"--directory {directory} is no directory; name the one under which "
            "studies and comparisons were written, such as runs."
        )
    path = directory / "index.html"
    if _is_foreign(path):
        raise UsageError(
            f"{path} is no index of this program, and is left as it is; rename it to "
            "have one here."
        )
    entries = [_entry(path) for path in sorted(directory.glob("*/summary.json"))]
    values = {
        "generator": GENERATOR,
        "name": directory.resolve().name,
        "entries": [each for each in entries if not each.problem],
        "problems": [each for each in entries if each.problem],
    }
    write_atomically(path, render("index.html.jinja", values).encode())
    return path


def _is_foreign(path: Path) -> bool:
    """Whether something is there that this program did not write."""
    try:
        with path.open("rb") as file:
            return GENERATOR.encode() not in file.read(1_000)
    except OSError:  # nothing, or a directory, or whatever
        return os.path.lexists(path)


def _entry(path: Path) -> Entry:
    entry = Entry(path.parent.name)
    try:
        if path.with_name("report.html").is_file():
            link = f"{quote(os.fsencode(entry.name))}/report.html"
            entry = entry._replace(link=link)
        summary = json.loads(path.read_bytes())
        told = _of_study(summary) if "study" in summary else _of_comparison(summary)
        return entry._replace(**{key: str(value) for key, value in told.items()})
    except OSError as error:
        return entry._replace(problem=f"it can't be read: {error.strerror}")
    except Exception:  # of many types, where JSON has anything else in it
        return entry._replace(problem="it is no summary of this program")


def _of_study(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": summary["study"],
        "dataset": summary["plan"].get("dataset", ""),
        "title": summary["title"],
        "summary": summary["summary"],
    }


def _of_comparison(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The best arm by its mean; a diverged one is none."""
    arms = [
        (arm["test_accuracy"]["mean"], len(arm["seeds"]), arm["title"])
        for arm in summary["arms"].values()
    ]
    scored = [arm for arm in arms if arm[0] is not None]
    best = "No arm has a result."
    if scored:
        accuracy, seeds, title = max(scored)
        best = f"Best mean test accuracy: {accuracy:.2%}, {title}, n = {seeds}."
    return {
        "kind": "comparison",
        "dataset": summary["dataset"],
        "title": f"{len(arms)} arms on {summary['dataset']}",
        "summary": best,
    }
