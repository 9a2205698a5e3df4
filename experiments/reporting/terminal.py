"""What a comparison shows on the terminal: expected duration, progress, results."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean, stdev

import jax
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from experiments.compare import report
from experiments.distributed.devices import padded_batch_size
from experiments.records.config import Config
from experiments.records.runs import Run

# Of the tutorial's CNN on two CPU cores: for the expected duration alone, in which an
# image counts by its pixels.
_IMAGES_PER_SECOND = 5000
_COMPILE_SECONDS = 4


def say(console: Console, line: str) -> None:
    """A line of plain text, in one piece."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def announce(
    console: Console, missing: Sequence[Config], shape: tuple[int, ...]
) -> None:
    """Says what is to be done and about how long it takes.

    Args:
      console: where to say it.
      missing: the runs to be done.
      shape: [images, height, width, channels] of the training images.
    """
    if not missing:
        return
    images, height, width, _ = shape
    compiling = _COMPILE_SECONDS * len({config.arm for config in missing})
    trained = images * sum(config.epochs for config in missing)
    per_image = height * width / 32**2 / _IMAGES_PER_SECOND
    console.print(
        f"{len(missing)} runs of {missing[0].epochs} epochs on {images:,} images: "
        f"about {_duration(compiling + trained * per_image)} on two CPU cores, less on "
        "a GPU or TPU."
    )
    batch_size, devices = missing[0].batch_size, jax.device_count()
    empty = padded_batch_size(batch_size, devices) - batch_size
    if devices > 1 and empty:
        say(
            console,
            f"--batch-size {batch_size} is not shared evenly by {devices} devices: in "
            f"each step {empty} of {batch_size + empty} places stay empty.",
        )


class StudyProgress:
    """What a study shows while it trains: runs done, the best so far, time left."""

    def __init__(self, progress: Progress, phase: str, runs: int):
        self._progress, self._phase, self._best = progress, phase, -math.inf
        self._task = progress.add_task(phase, total=runs)

    def advance(self, runs: float) -> None:
        """So many more runs are done, or so large a share of one."""
        self._progress.advance(self._task, runs)

    def ended(self, run: Run) -> None:
        """This run has ended."""
        accuracy = run.epochs[-1].validation_accuracy
        self._best = max(self._best, accuracy)
        best = f"{self._phase} · best {self._best:.2%}"
        self._progress.update(self._task, description=best)


@contextmanager
def study_progress(console: Console, phase: str, runs: int) -> Iterator[StudyProgress]:
    """A bar that counts the runs of one phase of a study."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield StudyProgress(progress, phase, runs)


def print_results(
    console: Console, finished: Sequence[Run], titles: Mapping[str, str]
) -> None:
    """One row an arm, then what the differences between the arms are due to."""
    arms = {arm: [run for run in finished if run.config.arm == arm] for arm in titles}
    dataset, seeds = finished[0].config.dataset, len(next(iter(arms.values())))
    caption = f"{dataset}, mean ± standard deviation, n = {seeds}"
    table = Table(title=escape(caption), title_style="")
    table.add_column("arm")
    table.add_column("method")
    for heading in ("test accuracy", "test loss", "images/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm, own in arms.items():
        accuracies = [run.test_accuracy for run in own]
        spread = f" ± {stdev(accuracies):.4f}" if seeds > 1 else ""
        table.add_row(
            escape(arm),
            escape(titles[arm]),
            f"{fmean(accuracies):.4f}{spread}",
            report.value([run.test_loss for run in own]),
            f"{fmean(run.images_per_second for run in own):,.0f}",
        )
    console.print(table)
    for each in report.compared(finished, titles):
        interval = ""
        if each.low is not None and each.high is not None:
            low, high = report.points(each.low), report.points(each.high)
            interval = f", 95% interval {low} to {high}"
        console.print(
            f"• {each.isolates}: {each.first} − {each.second} = "
            f"{report.points(each.mean)} points{interval}; "
            f"{report.verdict(each, titles)}.",
            markup=False,
            highlight=False,
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
