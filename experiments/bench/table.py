"""Programs measured in turn: what was seen as JSON lines, and as a table beside."""

import json
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table

Name = TypeVar("Name", bound=Hashable)

REST = 0.5  # seconds: threads of the last program may wait busily for more work


def seconds_in_turn(
    programs: Mapping[Name, Callable[[], float]], turns: int
) -> dict[Name, list[float]]:
    """The seconds that each program says it took, turn by turn, with a rest between.

    Args:
      programs: by name; a call runs one once and returns its seconds.
      turns: kept, after one that warms all up and is left out.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in programs}
    for turn in range(1 + turns):
        for name, program in programs.items():
            time.sleep(REST)
            measured = program()
            if turn > 0:
                seconds[name].append(measured)
    return seconds


def compared(
    rates: Mapping[str, Sequence[float]], *, unit: str, **of: object
) -> list[dict[str, object]]:
    """One record a program: the median of its rates, their range, and ours over it.

    Args:
      rates: of each program, in every turn; the first program is ours.
      unit: the name of the median in a record.
      **of: what every record begins with.
    """
    ours = statistics.median(next(iter(rates.values())))
    records = []
    for name, own in rates.items():
        median = statistics.median(own)
        records.append(
            {
                **of,
                "program": name,
                unit: round(median, 1),
                "slowest": round(min(own), 1),
                "fastest": round(max(own), 1),
                "ours_over_this": round(ours / median, 3),
            }
        )
    return records


def print_records(title: str, records: Iterable[Mapping[str, object]]) -> None:
    """Prints each record as a line of stdout once it is there, then all as a table."""
    table = Table(title=title)
    for record in records:
        print(json.dumps(record), flush=True)
        cells = {k.replace("_", " "): v for k, v in record.items() if k != "benchmark"}
        if not table.columns:
            for heading, cell in cells.items():
                justify = "left" if isinstance(cell, str) else "right"
                table.add_column(heading, justify=justify)
        table.add_row(*(_text(cell) for cell in cells.values()))
    Console(stderr=True).print(table)


def _text(cell: object) -> str:
    """A figure with as many digits as tell something."""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
