"""A study's page as files: `report.html`, `figures/*.png` and `summary.json`."""

import re
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments.records.plan import make_directory
from experiments.records.runs import to_json, write_atomically
from experiments.reporting import drawing
from experiments.reporting.cells import FILTERS
from experiments.reporting.page import Page, Table
from experiments.reporting.rendering import render, script


def write(output: Path, page: Page) -> Path:
    """Writes all files, each atomically, and returns the path of the page.

    Args:
      output: an existing directory.
      page: what to tell.

    Raises:
      UsageError: a file can't be written.
      ValueError: two figures are one file by their names, or a table has a row that
        does not fit its header.
    """
    summarized = to_json(summary(page), indent=2)
    files = {Path("summary.json"): f"{summarized}\n".encode()}
    for figure in (each for section in page.sections for each in section.figures):
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", figure.name)
        path = Path("figures") / f"{name}.png"
        if path in files:
            raise ValueError(f"figure {figure.name!r} is the second {path}: rename it")
        files[path] = drawing.png(figure)
    files[Path("report.html")] = html(page).encode()
    for path, content in files.items():  # the page last: what it tells of is there
        make_directory((output / path).parent)
        write_atomically(output / path, content)
    return output / "report.html"


def summary(page: Page) -> dict[str, Any]:
    """The page for programs: its plan and every table, also those behind figures."""
    sections = [
        {
            **section._asdict(),
            "figures": [
                {"name": each.name, "caption": each.caption, "table": _data(each.table)}
                for each in section.figures
            ],
            "tables": [_data(table) for table in section.tables],
        }
        for section in page.sections
    ]
    return _plain({**page._asdict(), "sections": sections})


def html(page: Page) -> str:
    """The page itself, which needs nothing else."""
    return render(
        "page.html.jinja",
        {"page": page, **script()},
        # Our own drawings, with every name in them escaped.
        svg=lambda figure: Markup(drawing.svg(figure)),
        narrow_svg=lambda figure: Markup(drawing.narrow_svg(figure)),
        setting=_setting,
        **FILTERS,
    )


def _data(table: Table) -> dict[str, Any]:
    for row in table.rows:
        if len(row) != len(table.header):
            raise ValueError(
                f"row {row!r} has {len(row)} cells for the {len(table.header)} "
                f"headings of {table.caption!r}: give it one for each."
            )
    return {"caption": table.caption, "header": table.header, "rows": table.rows}


def _plain(value: Any) -> Any:
    """What JSON can hold: numbers of any library as Python's, other things in words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else str(value)


def _setting(value: object) -> str:
    """A value of a plan in words: lists and records as in JSON, but for the quotes."""
    if value is None or value == "":
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_setting(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_setting(item) for item in value)
    return str(value)
