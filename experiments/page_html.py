"""A study's page as files: `report.html`, `figures/*.png` and `summary.json`."""

import base64
import hashlib
import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from markupsafe import Markup

from experiments import drawing
from experiments.page import Cell, Page, Table
from experiments.plan import make_directory
from experiments.runs import to_json, write_atomically
from experiments.templates import render


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
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "page": page,
        "script": Markup(script),
        "script_digest": digest,
        "sort_value": sort_value,
        "is_missing": _is_missing,
        "is_numeric": _is_numeric,
    }
    return render(
        "page.html.jinja",
        values,
        # Our own drawings, with every name in them escaped.
        svg=lambda figure: Markup(drawing.svg(figure)),
        narrow_svg=lambda figure: Markup(drawing.narrow_svg(figure)),
        in_words=in_words,
        setting=_setting,
    )


def in_words(cell: Cell, format: str | None = None) -> str:
    """A cell for readers: 1,234, 0.05, −2 × 10⁻⁶, diverged, – or the text itself.

    Args:
      cell: what the table holds.
      format: of its column, as in `str.format`; without one, four digits.
    """
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if math.isnan(cell):
        return "diverged"
    if math.isinf(cell):
        return "∞" if cell > 0 else "−∞"
    written = format.format(cell) if format else _four_digits(cell)
    return written.replace("-", "−")


def sort_value(cell: Cell) -> str | None:
    """A number as JavaScript reads it; None for anything else."""
    if cell is None or isinstance(cell, str) or math.isnan(cell):
        return None
    return repr(float(cell)).replace("inf", "Infinity")


def _is_missing(cell: Cell) -> bool:
    return cell is None or (not isinstance(cell, str) and math.isnan(cell))


def _is_numeric(table: Table, column: int) -> bool:
    """Whether the column is of numbers, some of which may be missing."""
    cells = [row[column] for row in table.rows]
    return not any(isinstance(cell, str) for cell in cells) and any(
        not _is_missing(cell) for cell in cells
    )


def _four_digits(number: float) -> str:
    """Whole numbers in full; others to four digits, as short as they can be said."""
    if isinstance(number, Integral):
        return f"{number:,}"
    if number and not 1e-4 <= abs(number) < 1e9:
        return drawing.scientific(number)
    decimals = 3 - math.floor(math.log10(abs(number))) if number else 0
    written = f"{number:,.{max(decimals, 0)}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


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
