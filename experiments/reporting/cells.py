"""Cells of tables: in words for readers, as numbers for a browser that sorts them."""

import math
from numbers import Integral

from experiments.reporting import drawing
from experiments.reporting.page import Cell, Table


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


def is_missing(cell: Cell) -> bool:
    """Whether there is no such figure, or it diverged: sorted behind all others."""
    return cell is None or (not isinstance(cell, str) and math.isnan(cell))


def is_numeric(table: Table, column: int) -> bool:
    """Whether the column is of numbers, some of which may be missing."""
    cells = [row[column] for row in table.rows]
    return not any(isinstance(cell, str) for cell in cells) and any(
        not is_missing(cell) for cell in cells
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


# For the templates' `sortable`.
FILTERS = {
    "in_words": in_words,
    "sort_value": sort_value,
    "is_missing": is_missing,
    "is_numeric": is_numeric,
}
