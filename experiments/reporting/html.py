"""A page as files: `report.html`, `figures/*.png` and `summary.json`."""

import math
from collections.abc import Mapping
from datetime import date
from numbers import Integral, Real
from pathlib import Path

from markupsafe import Markup

from experiments.records.config import JSON
from experiments.records.metric import fitting
from experiments.records.plan import make_directory
from experiments.records.runs import to_json, write_atomically
from experiments.reporting import drawing
from experiments.reporting.page import Cell, Page, Table
from experiments.reporting.rendering import picture_path, render, script
from experiments.reporting.statistics import about_intervals


def write(output: Path, page: Page) -> Path:
    """Writes all files into a directory, each atomically; returns the page's path.

    Raises:
      UsageError: a file can't be written.
      ValueError: two figures have names that make one file name, or a table has a row
        that does not fit its header.
    """
    summarized = to_json(summary(page), indent=2)
    files = {Path("summary.json"): f"{summarized}\n".encode()}
    for figure in (figure for section in page.sections for figure in section.figures):
        path = picture_path(figure.name)
        if path in files:
            raise ValueError(f"figure {figure.name!r} is the second {path}: rename it")
        files[path] = drawing.png(figure)
    files[Path("report.html")] = html(page).encode()
    for path, content in files.items():  # the page last, when all its files exist
        make_directory((output / path).parent)
        write_atomically(output / path, content)
    return output / "report.html"


def summary(page: Page) -> dict[str, JSON]:
    """The page for programs: its text, plan, data and every table behind a figure."""
    sections = [
        {
            **section._asdict(),
            "figures": [
                {
                    "name": figure.name,
                    "caption": figure.caption,
                    "table": _table_data(figure.table),
                }
                for figure in section.figures
            ],
            "tables": [_table_data(table) for table in section.tables],
        }
        for section in page.sections
    ]
    values = {**page._asdict(), "sections": sections}
    del values["of_shares"]  # a matter of words
    values["written"] = date.today().isoformat()
    if page.full_size:
        values["full_size"] = page.full_size._asdict()
    return _plain(values | values.pop("data"))


def html(page: Page) -> str:
    """The page as one HTML text that needs no other file."""
    return render(
        "page.html.jinja",
        {"page": page, "intervals": about_intervals(page.of_shares), **script()},
        # Drawings made here, in which every name is escaped.
        svg=lambda figure: Markup(drawing.svg(figure)),
        narrow_svg=lambda figure: Markup(drawing.narrow_svg(figure)),
        setting=_setting_in_words,
        in_words=in_words,
        sort_value=sort_value,
        is_missing=is_missing,
        is_numeric=is_numeric,
        options=_options,
    )


def in_words(cell: Cell, format: str | None = None) -> str:
    """A cell for readers: 1,234, 0.05, −2 × 10⁻⁶, diverged, – or the text itself.

    Numbers have four digits unless their column has a format, as in `str.format`.
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
    written = fitting(format, cell).format(cell) if format else _four_digits(cell)
    return written.replace("-", "−")


def sort_value(cell: Cell) -> str | None:
    """A number as JavaScript reads it; None for anything else."""
    if cell is None or isinstance(cell, str) or math.isnan(cell):
        return None
    return repr(float(cell)).replace("inf", "Infinity")


def is_missing(cell: Cell) -> bool:
    """Whether a cell has no value, or a run diverged: such cells sort last."""
    return cell is None or (not isinstance(cell, str) and math.isnan(cell))


def is_numeric(table: Table, column: int) -> bool:
    """Whether a column holds numbers, some of which may be missing."""
    cells = [row[column] for row in table.rows]
    text = any(isinstance(cell, str) for cell in cells)
    return not text and not all(map(is_missing, cells))


def _four_digits(number: float) -> str:
    """Whole numbers in full; others to four digits, without trailing zeros."""
    if isinstance(number, Integral):
        return f"{number:,}"
    if number and not 1e-4 <= abs(number) < 1e9:
        return drawing.scientific(number)
    decimals = 3 - math.floor(math.log10(abs(number))) if number else 0
    written = f"{number:,.{max(decimals, 0)}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def _table_data(table: Table) -> dict[str, JSON]:
    for row in table.rows:
        if len(row) != len(table.header):
            raise ValueError(
                f"row {row!r} has {len(row)} cells for the {len(table.header)} "
                f"headings of {table.caption!r}: give it one for each."
            )
    return {"caption": table.caption, "header": table.header, "rows": table.rows}


def _plain(value: object) -> JSON:
    """The value as JSON: numbers of any library as Python's, other things as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else str(value)


def _options(command: str) -> list[str]:
    """A command line in parts, each an option with its values."""
    return command.replace(" --", "\n--").split("\n")


def _setting_in_words(value: object) -> str:
    """A value of a plan: lists and records as in JSON, but without quotes."""
    if value is None or value == "":
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_setting_in_words(x)}" for key, x in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_setting_in_words(item) for item in value)
    return str(value)
