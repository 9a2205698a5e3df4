"""Measures programs in turn, and prints the results as JSON lines and as a table."""

import json
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

import jax
from rich.console import Console
from rich.table import Table

from experiments.reporting.terminal import print_table

Name = TypeVar("Name", bound=Hashable)
State = TypeVar("State")

Timed = Callable[[], float]  # runs a program once and returns the seconds it took

REST = 0.5  # seconds: threads of the last program may still spin, waiting for work

# The table's headings, where the keys of the JSON records don't read as words.
HEADINGS = {
    "GB_per_s": "GB/s",
    "arrays_whole": "arrays not divided",
    "case": "parameters",
    "exchange_ms": "exchange, ms",
    "if_overlapped": "efficiency if overlapped",
    "mb_divided": "MB on each device",
    "mb_inside": "MB sent inside a host",
    "mb_of_it_whole": "MB not divided",
    "mb_outside": "MB sent to other hosts",
    "mb_undivided": "MB in all",
    "of_a_training_step": "temporaries of a training step",
    "ours_over_this": "ours / this program",
    "overwritten": "reused from the arguments",
    "reached": "reached Keras's accuracy",
    "sent_gb_per_second": "GB/s sent",
    "step_ms": "step, ms",
    "theirs_over_this": "Keras's seconds / these",
    "times_one_device": "times one device",
}


def timed(function: Callable[[State], State], state: State) -> Timed:
    """Calls the function on what it returned the last time, at first on `state`."""

    def call() -> float:
        nonlocal state
        start = time.perf_counter()
        state = jax.block_until_ready(function(state))
        return time.perf_counter() - start

    return call


def seconds_in_turn(
    programs: Mapping[Name, Timed], turns: int
) -> dict[Name, list[float]]:
    """Runs all programs once in every turn, after one turn that warms them up."""
    seconds: dict[Name, list[float]] = {name: [] for name in programs}
    for turn in range(1 + turns):
        for name, program in programs.items():
            time.sleep(REST)
            measured = program()
            if turn > 0:
                seconds[name].append(measured)
    return seconds


def compare(
    programs: Mapping[str, Timed],
    turns: int,
    *,
    work: Mapping[str, float],
    unit: str,
    **labels: object,
) -> list[dict[str, object]]:
    """Runs all programs in turn, and makes one record of the rates of each.

    A record has the labels, the median of work per second (whose key is `unit`), the
    range, and the median of the first program, which is ours, over this one. `work` is
    what a program does in a turn, such as the images it trains on.
    """
    rates = {
        name: [work[name] / seconds for seconds in in_turns]
        for name, in_turns in seconds_in_turn(programs, turns).items()
    }
    medians = {name: statistics.median(in_turns) for name, in_turns in rates.items()}
    ours = next(iter(medians.values()))
    return [
        {
            **labels,
            "program": name,
            unit: round(medians[name], 1),
            "slowest": round(min(in_turns), 1),
            "fastest": round(max(in_turns), 1),
            "ours_over_this": round(ours / medians[name], 3),
        }
        for name, in_turns in rates.items()
    ]


def print_records(title: str, records: Iterable[Mapping[str, object]]) -> None:
    """Prints each record to stdout when it arrives, then a table of all to stderr.

    The table leaves out lists, such as curves.
    """
    table = Table(title=title)
    for record in records:
        print(json.dumps(record), flush=True)
        cells = {
            key: cell
            for key, cell in record.items()
            if key != "benchmark" and not isinstance(cell, list)
        }
        if not table.columns:
            for key, cell in cells.items():
                side = "left" if isinstance(cell, str) else "right"
                table.add_column(HEADINGS.get(key, key.replace("_", " ")), justify=side)
        table.add_row(*map(_text, cells.values()))
    print_table(Console(stderr=True), table)


def _text(cell: object) -> str:
    """The cell, with four significant digits, or more if they are before the point."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
