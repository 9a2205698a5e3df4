"""The command `lr-decay`: schedules of the learning rate, and momentum's conventions.

At a constant rate, momentum with the rate inside its buffer and momentum with the rate
outside it are the same method. Under a schedule they differ, and momentum correction
makes the first the second again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from experiments.records.command_line import repeating
from experiments.records.config import Config
from experiments.records.runs import Run
from experiments.studies import lifecycle
from experiments.studies.context import run_groups, with_seeds
from experiments.studies.full_size import Work, options_at_full_size
from experiments.studies.lr_decay.options import BUDGETS, LrDecay, LrDecayBudget
from experiments.studies.lr_decay.page import page
from experiments.studies.lr_decay.plan import (
    ARMS,
    TUNED,
    LrDecayCell,
    LrDecayResults,
    best,
    compared_cells,
    tuning_cells,
)
from experiments.studies.methods import learning_rate
from experiments.studies.options import resolve_budget
from experiments.studies.settings import extended
from experiments.studies.subject import read_subject


def lr_decay(options: LrDecay, console: Console) -> Path:
    """Tunes, compares and reports; returns the path of the page.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    subject = read_subject(options, budget.dataset, console)
    subject.check_batch_size(budget.batch_size)
    with lifecycle.open_study(
        options, "lr-decay", budget, ARMS, console, subject=subject
    ) as study:
        measure = subject.measure
        tuning = _tune(study, budget)
        cells = compared_cells(best(tuning, measure))
        seeds = range(budget.seeds)
        compared = _run(study, budget, cells, seeds, "comparing", test=True)
        smoke = options.preset == "smoke"
        results = LrDecayResults(study.plan, tuning, compared, measure, smoke)
        written = page(results, repeating("lr-decay", options))
        runs = list(study.context.finished.values())
        full = resolve_budget(options_at_full_size(options), BUDGETS)
        return lifecycle.publish(options, written, study, runs, work(full))


def work(budget: LrDecayBudget) -> Work:
    """The runs of the tuned methods and of the one that is outside in another form."""
    tried = len(TUNED) * len(budget.effective_rates) * budget.tuning_seeds
    runs = len(budget.schedules) * (tried + len(ARMS) * budget.seeds)
    return Work(runs, runs * budget.epochs)


def _tune(
    study: lifecycle.OpenStudy, budget: LrDecayBudget
) -> dict[LrDecayCell, list[Run]]:
    """All trials: equally many for every schedule and arm.

    If the best rate of one is the first or the last, all of them try one more.
    """
    rates, extensions = tuple(sorted(budget.effective_rates)), 0
    seeds = lifecycle.tuning_seeds(budget.tuning_seeds)
    while True:
        cells = tuning_cells(budget.schedules, rates)
        tuning = _run(study, budget, cells, seeds, "tuning the rates")
        tops = best(tuning, study.context.subject.measure)
        wider = extended(rates, [cell.rate for cell in tops])
        if wider == rates or extensions == budget.extensions:
            return tuning
        rates, extensions = wider, extensions + 1


def _run(
    study: lifecycle.OpenStudy,
    budget: LrDecayBudget,
    cells: Sequence[LrDecayCell],
    seeds: Iterable[int],
    phase: str,
    *,
    test: bool = False,
) -> dict[LrDecayCell, list[Run]]:
    """The runs of each cell, in order of the seeds."""
    groups = {
        cell: with_seeds(_config(study.base, budget, cell), seeds, test=test)
        for cell in cells
    }
    return run_groups(study.context, groups, phase)


def _config(base: Config, budget: LrDecayBudget, cell: LrDecayCell) -> Config:
    beta = 0.0 if cell.arm == "sgd" else budget.beta
    return replace(
        base,
        arm=cell.arm,
        beta=beta,
        learning_rate=learning_rate(cell.rate, beta),
        batch_size=budget.batch_size,
        schedule=cell.schedule,
    )
