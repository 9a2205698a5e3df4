"""The command `batch-size`: from which batch size on does momentum beat SGD?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from rich.console import Console

from experiments.records.command_line import repeating
from experiments.records.config import Config, UsageError
from experiments.records.runs import Run
from experiments.studies import lifecycle
from experiments.studies.batch_size.options import BatchSize
from experiments.studies.batch_size.page import page
from experiments.studies.batch_size.plan import (
    BUDGETS,
    BatchSizeBudget,
    BatchSizeCell,
    BatchSizeResults,
    Series,
    series,
)
from experiments.studies.context import run_groups, with_seeds
from experiments.studies.full_size import Work, has_own_data, options_at_full_size
from experiments.studies.lifecycle import OpenStudy
from experiments.studies.methods import METHODS
from experiments.studies.options import resolve_budget
from experiments.studies.settings import Setting, configured, extended
from experiments.studies.subject import Subject, read_subject
from experiments.studies.validation import best


def batch_size(options: BatchSize, console: Console) -> Path:
    """Tunes, compares and reports; returns the path of the page.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    subject = read_subject(options, budget.dataset, console)
    sizes, left_out = split_by_fit(subject, budget.batch_sizes)
    if left_out:
        names = ", ".join(map(str, left_out))
        noun = subject.measure.noun
        console.print(f"Left out, as there are fewer training {noun}s: {names}.")
    arms = {name: METHODS[name].arm for name in ("sgd", "momentum")}
    with lifecycle.open_study(
        options, "batch-size", budget, arms, console, subject=subject
    ) as study:
        measure = subject.measure
        optimizers = series(budget.beta, budget.anchor, measure.noun)
        tuned = tune(study, budget, sizes, optimizers)
        choice = {cell: best(trials, measure) for cell, trials in tuned.items()}
        seeds = range(budget.seeds)
        groups = {
            cell: with_seeds(_config(study, cell, setting), seeds, test=True)
            for cell, setting in choice.items()
        }
        compared = run_groups(study.context, groups, "comparing")
        results = BatchSizeResults(
            *(optimizers, tuned, choice, compared, left_out, measure),
            smoke=options.preset == "smoke",
            padded=not subject.task.whole_batches,
        )
        runs = list(study.context.finished.values())
        written = page(results, study.plan, runs, repeating("batch-size", options))
        full = resolve_budget(options_at_full_size(options), BUDGETS)
        if has_own_data(options):
            full = full._replace(batch_sizes=subject.fitting(full.batch_sizes))
        return lifecycle.publish(options, written, study, runs, work(full))


def work(budget: BatchSizeBudget) -> Work:
    """The runs of three optimizers at each batch size, before rates are added."""
    of_each = len(budget.effective_rates) * budget.tuning_seeds + budget.seeds
    runs = 3 * len(budget.batch_sizes) * of_each
    return Work(runs, runs * budget.epochs)


def split_by_fit(
    subject: Subject, batch_sizes: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The batch sizes that the training set is large enough for, and the others.

    Raises:
      UsageError: it is too small for all of them.
    """
    fits = sorted(subject.fitting(batch_sizes))
    if not fits:
        raise UsageError(
            f"--batch-sizes: even the smallest, {min(batch_sizes)}, is more than the "
            f"{subject.training_examples} training {subject.measure.noun}s of "
            f"{subject.problem.name}; name smaller ones."
        )
    return fits, sorted(set(batch_sizes) - set(fits))


def tune(
    study: OpenStudy,
    budget: BatchSizeBudget,
    sizes: Sequence[int],
    optimizers: Mapping[str, Series],
) -> dict[BatchSizeCell, dict[Setting, list[Run]]]:
    """The trials of every cell; rates are added until the best lies inside.

    All optimizers of a batch size try the same effective rates.
    """
    measure = study.context.subject.measure
    rates = dict.fromkeys(sizes, tuple(sorted(budget.effective_rates)))
    for _ in range(budget.extensions):
        trials = _run_trials(study, optimizers, rates, budget.tuning_seeds)
        wider = {
            size: extended(
                tried,
                [
                    best(trials[BatchSizeCell(size, k)], measure).rate
                    for k in optimizers
                ],
                digits=4,
            )
            for size, tried in rates.items()
        }
        if wider == rates:
            break
        rates = wider
    return _run_trials(study, optimizers, rates, budget.tuning_seeds)


def _run_trials(
    study: OpenStudy,
    optimizers: Mapping[str, Series],
    rates: Mapping[int, Sequence[float]],
    seeds: int,
) -> dict[BatchSizeCell, dict[Setting, list[Run]]]:
    """The tuning runs of every optimizer at every rate; finished ones are kept."""
    groups = {}
    for size, of_size in rates.items():
        for (key, optimizer), rate in product(optimizers.items(), of_size):
            cell, setting = (
                BatchSizeCell(size, key),
                Setting(optimizer.beta(size), rate),
            )
            config = _config(study, cell, setting)
            groups[cell, setting] = with_seeds(config, lifecycle.tuning_seeds(seeds))
    trials: dict[BatchSizeCell, dict[Setting, list[Run]]] = {}
    for (cell, setting), runs in run_groups(study.context, groups, "tuning").items():
        trials.setdefault(cell, {})[setting] = runs
    return trials


def _config(study: OpenStudy, cell: BatchSizeCell, setting: Setting) -> Config:
    return replace(configured(study.base, setting), batch_size=cell.batch_size)
