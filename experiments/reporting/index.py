"""The index command: one page that links to all results in a directory."""

import base64
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from rich.console import Console

from experiments.records.config import JSON, UsageError
from experiments.records.runs import write_atomically
from experiments.reporting.rendering import picture_path, render


@dataclass(frozen=True)
class Index:
    """Write a page with the answers of all studies in a directory."""

    directory: Path = Path("runs")
    """Directory whose subdirectories hold the results."""


# In the head of every index; a page without it belongs to somebody else.
GENERATOR = "optax_momentum index"
_PICTURE_WIDTH = 640  # pixels


class Entry(NamedTuple):
    """What the page says about one subdirectory."""

    name: str
    link: str | None = None  # to its report, if it has one
    kind: str = ""
    dataset: str = ""
    title: str = ""
    summary: str = ""
    date: str = ""  # on which it was written
    notice: str = ""  # such as that it is a smoke run
    conclusion: str = ""  # what was learned, in one sentence
    picture: str = ""  # its first figure, as an address that holds all of it
    caption: str = ""
    problem: str = ""  # why the rest is unknown


def index(options: Index, console: Console) -> Path:
    """Writes the page and prints its path.

    Raises:
      UsageError: the directory does not exist, or can't be written.
    """
    path = write_index(options.directory)
    console.print(f"Index: {path}", markup=False, highlight=False, soft_wrap=True)
    return path


def write_index(directory: Path) -> Path:
    """Writes `index.html` about every subdirectory that has a `summary.json`.

    Raises:
      UsageError: the directory does not exist, can't be written, or has an `index.html`
        that this program did not write, which is left unchanged.
    """
    if not os.path.isdir(directory):
        raise UsageError(
            f"--directory {directory} is not a directory; name the one that holds the "
            "results of studies, such as runs."
        )
    path = directory / "index.html"
    if _is_foreign(path):
        raise UsageError(
            f"{path} was not written by this program and is left unchanged; rename it "
            "to get an index here."
        )
    entries = [_entry(path) for path in sorted(directory.glob("*/summary.json"))]
    values = {
        "generator": GENERATOR,
        "name": directory.resolve().name,
        "entries": [entry for entry in entries if not entry.problem],
        "problems": [entry for entry in entries if entry.problem],
    }
    write_atomically(path, render("index.html.jinja", values).encode())
    return path


def _is_foreign(path: Path) -> bool:
    """Whether the path exists and this program did not write it."""
    try:
        with path.open("rb") as file:
            return GENERATOR.encode() not in file.read(1_000)
    except OSError:  # it does not exist, is a directory, or can't be read
        return os.path.lexists(path)


def _entry(path: Path) -> Entry:
    entry = Entry(path.parent.name)
    try:
        if path.with_name("report.html").is_file():
            link = f"{quote(os.fsencode(entry.name))}/report.html"
            entry = entry._replace(link=link)
        summary = json.loads(path.read_bytes())
        fields = _fields(summary) if "study" in summary else _old_fields(summary)
        fields["date"] = _date(summary, path)
        fields |= _picture(summary, path)
        return entry._replace(**{key: str(value) for key, value in fields.items()})
    except OSError as error:
        return entry._replace(problem=f"it can't be read: {error.strerror}")
    except Exception:  # other JSON, or no JSON, can fail in many ways
        return entry._replace(problem="it is not a summary of this program")


def _fields(summary: Mapping[str, JSON]) -> dict[str, str]:
    return {
        "kind": summary["study"],
        "dataset": summary["plan"].get("dataset", ""),
        "title": summary["title"],
        "summary": summary["summary"],
        "notice": summary.get("notice", ""),
        "conclusion": summary.get("conclusion", ""),
    }


def _date(summary: Mapping[str, JSON], path: Path) -> str:
    """The day on which a summary was written, which early ones don't record."""
    recorded = summary.get("written")
    written = (
        date.fromisoformat(recorded)
        if recorded
        else date.fromtimestamp(path.stat().st_mtime)
    )
    return f"{written.day} {written:%B %Y}"


def _picture(summary: Mapping[str, JSON], path: Path) -> dict[str, str]:
    """The first figure of the page, small enough to be part of the index."""
    figures = (f for s in summary.get("sections", ()) for f in s.get("figures", ()))
    first = next(figures, None)
    if first is None:
        return {}
    from PIL import Image  # no help and no refused option needs to wait for it

    try:
        with Image.open(path.parent / picture_path(first["name"])) as image:
            image.thumbnail((_PICTURE_WIDTH, 10 * _PICTURE_WIDTH))
            file = io.BytesIO()
            image.convert("RGB").quantize(128).save(file, "PNG", optimize=True)
    except (OSError, ValueError, Image.DecompressionBombError):
        return {}  # it isn't there, or is no picture
    content = base64.b64encode(file.getvalue()).decode()
    return {"picture": f"data:image/png;base64,{content}", "caption": first["caption"]}


def _old_fields(summary: Mapping[str, JSON]) -> dict[str, str]:
    """Entries of a comparison written before its summary had a title and a text."""
    arms = [
        (arm["test_accuracy"]["mean"], len(arm["seeds"]), arm["title"])
        for arm in summary["arms"].values()
    ]
    scored = [arm for arm in arms if arm[0] is not None]
    best = "No optimizer has a result."
    if scored:
        accuracy, seeds, title = max(scored)
        best = f"Best mean test accuracy: {accuracy:.2%}, {title}, n = {seeds}."
    return {
        "kind": "compare",
        "dataset": summary["dataset"],
        "title": f"{len(arms)} optimizers on {summary['dataset']}",
        "summary": best,
    }
