"""What commands print: the expected duration, progress and results."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean

import jax
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from experiments.distributed.devices import padded_batch_size
from experiments.records.config import Config
from experiments.records.metric import Metric
from experiments.records.runs import Run
from experiments.reporting.statistics import (
    Pair,
    compare_runs,
    counted,
    deviation,
    difference_in_words,
    winner,
)

_WIDTH_OF_PROGRESS = 70  # characters


def say(console: Console, line: str) -> None:
    """Prints a line of plain text, without wrapping it."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def announce(
    console: Console,
    missing: Sequence[Config],
    examples: str,
    seconds: float,
    memory: int,
) -> None:
    """Prints how many runs remain, about how long they take, and in what memory.

    Args:
      console: prints.
      missing: the configs of the runs.
      examples: that each trains on, with their number: "1,200 images".
      seconds: for all runs.
      memory: bytes for those that train at a time.
    """
    most = max(config.epochs for config in missing)
    least = min(config.epochs for config in missing)
    upto = "" if least == most else "up to "
    megabytes = memory / 1e6
    size = f"{megabytes:,.0f} MB" if megabytes >= 10 else f"{megabytes:.2g} MB"
    if megabytes >= 1000:
        size = f"{megabytes / 1000:,.1f} GB"
    say(
        console,
        f"{counted(len(missing), 'run')} of {upto}{counted(most, 'epoch')} on "
        f"{examples}: about {duration(seconds)} "
        f"and {size} of memory here.",
    )


def report_empty_places(console: Console, batch_size: int) -> None:
    """Says so if the devices can't share a batch evenly."""
    devices = jax.device_count()
    empty = padded_batch_size(batch_size, devices) - batch_size
    if devices > 1 and empty:
        say(
            console,
            f"--batch-size {batch_size} is not shared evenly by {devices} devices: in "
            f"each step {empty} of {batch_size + empty} places stay empty.",
        )


class StudyProgress:
    """Progress of a study: finished runs, best metric so far, remaining time."""

    def __init__(self, progress: Progress, phase: str, runs: int, metric: Metric):
        self._progress, self._phase, self._metric = progress, phase, metric
        self._best = -metric.goodness(math.inf)  # the worst
        self._task = progress.add_task(phase, total=runs)

    def advance(self, runs: float) -> None:
        """Counts finished runs, or a share of one."""
        self._progress.advance(self._task, runs)

    def ended(self, run: Run) -> None:
        """Shows the run's metric on the validation split if it is the best so far."""
        value, metric = run.epochs[-1].validation_metric, self._metric
        if metric.goodness(value) > metric.goodness(self._best):
            self._best = value
        best = f"{self._phase} · best {metric.shown(self._best)}"
        self._progress.update(self._task, description=best)


@contextmanager
def study_progress(
    console: Console, phase: str, runs: int, metric: Metric
) -> Iterator[StudyProgress]:
    """A bar that counts the runs of one phase of a study."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
        TimeRemainingColumn(),
    )
    if console.width < _WIDTH_OF_PROGRESS:  # it would cut the names and the count
        columns = columns[2:3]
    with Progress(*columns, console=console) as progress:
        yield StudyProgress(progress, phase, runs, metric)


def print_results(
    console: Console,
    finished: Sequence[Run],
    titles: Mapping[str, str],
    metric: Metric,
    noun: str,
    pairs: Sequence[Pair],
    *,
    smoke: bool = False,
) -> None:
    """Prints a row for each optimizer, then what made the differences between them.

    `noun` is what one example is called.
    """
    arms = {arm: [run for run in finished if run.config.arm == arm] for arm in titles}
    dataset, seeds = finished[0].config.dataset, len(next(iter(arms.values())))
    caption = f"{dataset}, mean ± standard deviation, n = {seeds}"
    table = Table(title=escape(caption), title_style="")
    table.add_column("key")
    table.add_column("optimizer")
    for heading in (f"test {metric.words}", "test loss", f"{noun}s/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm, runs in arms.items():
        table.add_row(
            escape(arm),
            escape(titles[arm]),
            _mean([run.test_metric for run in runs], metric),
            _mean_loss([run.test_loss for run in runs], metric),
            f"{fmean(run.images_per_second for run in runs):,.0f}",
        )
    print_table(console, table)
    for each in compare_runs(finished, metric, pairs):
        say(
            console,
            f"• {each.isolates}: {each.first} − {each.second} = "
            f"{difference_in_words(each.interval, metric)}; "
            f"{winner(each, titles, smoke=smoke)}.",
        )


def print_table(console: Console, table: Table) -> None:
    """Prints a table, or its rows one below the other where it would cut names."""
    options = console.options.update(max_width=10_000)
    if console.measure(table, options=options).maximum <= console.width:
        console.print(table)
        return

    def line(text: object) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    if table.title:
        line(table.title)
    headings = [column.header for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for indent, heading, cell in zip(
            ("", *("  " for _ in headings[1:])), headings, row, strict=True
        ):
            line(f"{indent}{heading}: {cell}")


def _mean(values: Sequence[float], metric: Metric) -> str:
    """The mean and the standard deviation, if there is one."""
    spread = deviation(values)
    if spread is not None and math.isnan(spread):
        return "diverged"
    shown = "{:.4f}".format if metric.is_share else metric.shown
    return shown(fmean(values)) + ("" if spread is None else f" ± {shown(spread)}")


def _mean_loss(losses: Sequence[float], metric: Metric) -> str:
    """The mean, or how many runs diverged."""
    diverged = sum(math.isnan(loss) for loss in losses)
    if diverged:
        return f"diverged in {diverged} of {len(losses)}"
    mean = fmean(losses)
    return f"{mean:.3f}" if metric.is_share else metric.shown(mean)


def duration(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} hours"
