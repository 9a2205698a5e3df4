"""Schedules of the learning rate, each with the conventions that part when it changes.

At a constant rate, momentum with the rate inside its buffer and outside it are one
method; under a schedule they are two, and momentum correction makes the first the
second again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.data.image_dataset import check_batch_size
from experiments.optimizers.schedules import SCHEDULES
from experiments.records.command_line import repeating
from experiments.records.config import (
    Config,
    UsageError,
    check_at_least_one,
    check_beta,
)
from experiments.records.runs import Run
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
from experiments.studies.lr_decay.cells import (
    ARMS,
    Cell,
    best,
    every,
    extended,
    to_report,
)
from experiments.studies.lr_decay.found import Found
from experiments.studies.lr_decay.page import page
from experiments.studies.value_lists import check_rates


@dataclass(frozen=True)
class LrDecay(StudyOptions):
    """Schedules of the learning rate, and where momentum's conventions part under them.

    Constant, steps, cosine, warm-up and cosine, one cycle: each with SGD, with momentum
    whose learning rate is inside its buffer (Keras) and outside it (PyTorch), and with
    momentum correction. Learning rates are tuned for each schedule and convention with
    equal trials, then compared on new seeds. Expected: momentum gains some points on
    SGD; its conventions differ hardly more than one of them from itself.

    smoke: digits, one schedule, half a minute. default: digits, about 480 runs, 3 to 4
    minutes on two CPU cores. paper: CIFAR-10, about 450 runs of 30 epochs, 17 hours on
    two CPU cores.
    """

    schedules: tuple[str, ...] | None = None
    """Some of constant, step, cosine, warmup_cosine and
    one_cycle."""

    effective_rates: tuple[float, ...] | None = None
    """Effective learning rates, LEARNING_RATE / (1 -
    BETA), to try first, at least two; where the first or
    the last of them is the best, more follow."""

    beta: float | None = None
    """Share of the momentum buffer that a step keeps, in
    [0, 1)."""

    batch_size: int | None = None
    """Images a step."""

    tuning_seeds: int | None = None
    """Runs of each trial."""

    extensions: int | None = None
    """How often more rates may follow, one at either end."""


class Budget(NamedTuple):
    """All that is fixed before the first run."""

    dataset: str
    epochs: int
    seeds: int
    tuning_seeds: int
    batch_size: int
    beta: float
    schedules: tuple[str, ...]
    effective_rates: tuple[float, ...]
    extensions: int


ALL = tuple(SCHEDULES)
BUDGETS = {
    "smoke": Budget("digits", 2, 3, 1, 64, 0.9, ("step",), (0.2, 0.4), 0),
    "default": Budget("digits", 6, 10, 3, 64, 0.9, ALL, (0.1, 0.2, 0.4, 0.8), 1),
    "paper": Budget("cifar10", 30, 10, 3, 64, 0.9, ALL, (0.05, 0.1, 0.2, 0.4, 0.8), 2),
}


def lr_decay(options: LrDecay, console: Console) -> Path:
    """Tunes, compares and reports; returns the path of the page.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    _check(budget)
    dataset = read(options, budget.dataset, console)
    check_batch_size(budget.batch_size, dataset)
    with open_study(
        options, "lr-decay", budget, ARMS, console, dataset=dataset
    ) as study:
        classes = study.context.dataset.classes
        tuning = _tune(study, budget)
        cells = to_report(best(tuning, classes))
        compared = _run(study, budget, cells, range(budget.seeds), "comparing", True)
        told = page(
            Found(study.plan, tuning, compared, classes), repeating("lr-decay", options)
        )
        return publish(options, told, study, list(study.context.finished.values()))


def _check(budget: Budget) -> None:
    """Raises `UsageError` for what is impossible whatever the data are."""
    rates = budget.effective_rates
    check_rates(rates)
    check_beta("--beta", budget.beta)
    if len(rates) < 2:
        raise UsageError(
            f"--effective-rates names {', '.join(map(str, rates))} alone; name at "
            "least two: where the best is the first or last, more follow beyond it."
        )
    check_at_least_one("--batch-size", budget.batch_size, "the images of a step")
    check_at_least_one(
        "--tuning-seeds", budget.tuning_seeds, "the runs of each trial", 1_000
    )
    if budget.extensions < 0:
        raise UsageError(
            f"--extensions must be at least 0, got {budget.extensions}: how often more "
            "rates may follow."
        )
    unknown = [name for name in budget.schedules if name not in SCHEDULES]
    if unknown or not budget.schedules:
        raise UsageError(
            f"--schedules must name some of {', '.join(SCHEDULES)}; "
            f"got {unknown[0] if unknown else 'none'!r}."
        )
    if len(set(budget.schedules)) < len(budget.schedules):
        raise UsageError("--schedules names a schedule twice; name each once.")


def _tune(study: OpenStudy, budget: Budget) -> dict[Cell, list[Run]]:
    """All trials: equally many for every schedule and arm.

    Where one's best rate is the first or the last, all of them try one more.
    """
    rates, tried = sorted(budget.effective_rates), 0
    seeds = range(TUNING_SEED, TUNING_SEED + budget.tuning_seeds)
    while True:
        cells = every(budget.schedules, rates)
        tuning = _run(study, budget, cells, seeds, "tuning the rates", False)
        longer = extended(rates, best(tuning, study.context.dataset.classes))
        if longer == rates or tried == budget.extensions:
            return tuning
        rates, tried = longer, tried + 1


def _run(
    study: OpenStudy,
    budget: Budget,
    cells: Sequence[Cell],
    seeds: Iterable[int],
    phase: str,
    test: bool,
) -> dict[Cell, list[Run]]:
    """The runs of each cell, seed by seed."""
    seeds = list(seeds)
    configs = [
        replace(_config(study.base, budget, cell), seed=seed, test=test)
        for cell in cells
        for seed in seeds
    ]
    runs = iter(run_all(study.context, configs, phase))
    return {cell: [next(runs) for _ in seeds] for cell in cells}


def _config(base: Config, budget: Budget, cell: Cell) -> Config:
    beta = 0.0 if cell.arm == "sgd" else budget.beta
    return replace(
        base,
        arm=cell.arm,
        beta=beta,
        learning_rate=cell.rate * (1 - beta),
        batch_size=budget.batch_size,
        schedule=cell.schedule,
    )
