"""SGD against momentum by batch size: where does momentum begin to matter?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.data.image_dataset import Dataset, hold_out
from experiments.records.command_line import repeating
from experiments.records.config import Config, UsageError, check_at_least_one
from experiments.records.runs import Run
from experiments.studies.batch_size.page import page
from experiments.studies.batch_size.rules import Cell, Series, extended, series
from experiments.studies.batch_size.tables import Found
from experiments.studies.context import run_all
from experiments.studies.lifecycle import (
    TUNING_SEED,
    OpenStudy,
    StudyOptions,
    open_study,
    publish,
    read,
    resolve_budget,
)
from experiments.studies.methods import METHODS
from experiments.studies.settings import Setting, configured
from experiments.studies.validation import best
from experiments.studies.value_lists import check_different, check_rates


@dataclass(frozen=True)
class BatchSize(StudyOptions):
    """SGD against momentum at many batch sizes, the learning rate tuned at each.

    Epochs are constant, so that a larger batch takes fewer steps. A third arm holds
    momentum's half-life in images instead of its beta.

    smoke: digits, 30 runs, less than a minute. default: digits, batch sizes 16 to 512,
    160 runs, 2 to 5 minutes on two CPU cores. Expected: no difference at 16, and
    momentum the better from 256 on, by 20 points at 512. paper: CIFAR-10, batch sizes
    16 to 2,048, about 500 runs of 45 seconds, 6 hours on two CPU cores.
    """

    batch_sizes: tuple[int, ...] | None = None
    """Images a step; those that are more than there are to
    train on are left out."""

    effective_rates: tuple[float, ...] | None = None
    """Effective learning rates to begin with; where the best
    is the first or last, more follow at their distance."""

    beta: float | None = None
    """Of momentum; also what a half-life held in images is
    at batch size 64."""

    tuning_seeds: int | None = None
    """Runs of each setting that is tried."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        super().check()
        if self.batch_sizes is not None:
            check_different("--batch-sizes", self.batch_sizes, "64 512")
            for size in self.batch_sizes:
                check_at_least_one("--batch-sizes", size, "the images of a step")
        if self.effective_rates is not None:
            check_rates(self.effective_rates)
            if len(self.effective_rates) < 2:
                raise UsageError(
                    "--effective-rates names one value alone; name at least two: more "
                    "follow at their distance where they are needed."
                )
        if self.beta is not None and not 0.001 <= self.beta <= 0.999:
            raise UsageError(
                f"--beta must lie in [0.001, 0.999], got {self.beta}; 0.9 is the "
                "tutorial's."
            )
        if self.tuning_seeds is not None:
            check_at_least_one(
                "--tuning-seeds", self.tuning_seeds, "runs a setting", 1_000
            )


class Budget(NamedTuple):
    """All that is fixed before the first run."""

    dataset: str
    epochs: int
    seeds: int
    tuning_seeds: int
    batch_sizes: tuple[int, ...]
    effective_rates: tuple[float, ...]
    extensions: int  # of the rates, at most
    beta: float
    anchor: int  # batch size


_POWERS = (16, 32, 64, 128, 256, 512, 1024, 2048)
BUDGETS = {
    "smoke": Budget("digits", 2, 3, 1, (64, 256), (0.1, 0.2, 0.4), 0, 0.9, 64),
    "default": Budget(
        "digits", 10, 10, 1, (16, 64, 256, 512), (0.1, 0.2, 0.4), 3, 0.9, 64
    ),
    "paper": Budget(
        "cifar10", 10, 10, 2, _POWERS, (0.05, 0.1, 0.2, 0.4, 0.8), 4, 0.9, 64
    ),
}


def batch_size(options: BatchSize, console: Console) -> Path:
    """Tunes, compares and reports; returns the path of the page.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    dataset = read(options, budget.dataset, console)
    sizes, left_out = fitting(dataset, budget.batch_sizes)
    if left_out:
        names = ", ".join(map(str, left_out))
        console.print(f"Left out, with fewer images to train on: batch sizes {names}.")
    arms = {name: METHODS[name].arm for name in ("sgd", "momentum")}
    with open_study(
        options, "batch-size", budget, arms, console, dataset=dataset
    ) as study:
        ways = series(budget.beta, budget.anchor)
        tuned = tune(study, budget, sizes, ways)
        classes = study.context.dataset.classes
        choice = {cell: best(trials, classes) for cell, trials in tuned.items()}
        compared = compare(study, choice, range(budget.seeds))
        found = Found(ways, tuned, choice, compared, left_out, classes)
        runs = list(study.context.finished.values())
        told = page(found, study.plan, runs, repeating("batch-size", options))
        return publish(options, told, study, runs)


def fitting(
    dataset: Dataset, batch_sizes: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The batch sizes that there are images for, rising, and those left out.

    Raises:
      UsageError: none fits.
    """
    images = len(hold_out(dataset)[1])
    fits = sorted(size for size in batch_sizes if size <= images)
    if not fits:
        raise UsageError(
            f"--batch-sizes: even the least, {min(batch_sizes)}, is more than the "
            f"{images} images of {dataset.name} to train on; name smaller ones."
        )
    return fits, sorted(set(batch_sizes) - set(fits))


def tune(
    study: OpenStudy, budget: Budget, sizes: Sequence[int], ways: Mapping[str, Series]
) -> dict[Cell, dict[Setting, list[Run]]]:
    """The trials of every cell, whose rates are extended until the best is inside.

    All arms of a batch size are tried at the same effective rates.
    """
    classes = study.context.dataset.classes
    rates = dict.fromkeys(sizes, tuple(sorted(budget.effective_rates)))
    for _ in range(budget.extensions):
        trials = _try(study, ways, rates, budget.tuning_seeds)
        wider = {
            size: extended(
                tried,
                [best(trials[Cell(size, way)], classes).rate for way in ways],
            )
            for size, tried in rates.items()
        }
        if wider == rates:
            break
        rates = wider
    return _try(study, ways, rates, budget.tuning_seeds)


def _try(
    study: OpenStudy,
    ways: Mapping[str, Series],
    rates: Mapping[int, Sequence[float]],
    seeds: int,
) -> dict[Cell, dict[Setting, list[Run]]]:
    """The tuning runs of every arm at every rate; finished ones are not repeated."""
    cells = {
        Cell(size, key): [Setting(way.beta(size), rate) for rate in tried]
        for size, tried in rates.items()
        for key, way in ways.items()
    }
    configs = [
        replace(_config(study, cell, setting), seed=TUNING_SEED + seed, test=False)
        for cell, settings in cells.items()
        for setting in settings
        for seed in range(seeds)
    ]
    done = iter(run_all(study.context, configs, "tuning"))
    return {
        cell: {setting: list(islice(done, seeds)) for setting in settings}
        for cell, settings in cells.items()
    }


def compare(
    study: OpenStudy, choice: Mapping[Cell, Setting], seeds: Sequence[int]
) -> dict[Cell, list[Run]]:
    """The runs of the chosen settings that read the test split, one a seed."""
    configs = [
        replace(_config(study, cell, setting), seed=seed, test=True)
        for cell, setting in choice.items()
        for seed in seeds
    ]
    done = iter(run_all(study.context, configs, "comparing"))
    return {cell: list(islice(done, len(seeds))) for cell in choice}


def _config(study: OpenStudy, cell: Cell, setting: Setting) -> Config:
    return replace(configured(study.base, setting), batch_size=cell.batch_size)
