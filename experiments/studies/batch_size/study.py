"""The command `batch-size`: from which batch size on does momentum beat SGD?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from rich.console import Console

from experiments.data.image_dataset import Dataset, fitting, training_images
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
from experiments.studies.full_size import Work, options_at_full_size
from experiments.studies.lifecycle import OpenStudy
from experiments.studies.methods import METHODS
from experiments.studies.options import resolve_budget
from experiments.studies.settings import Setting, configured, extended
from experiments.studies.validation import best


def batch_size(options: BatchSize, console: Console) -> Path:
    """Tunes, compares and reports; returns the path of the page.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    dataset = lifecycle.read(options, budget.dataset, console)
    sizes, left_out = split_by_fit(dataset, budget.batch_sizes)
    if left_out:
        names = ", ".join(map(str, left_out))
        console.print(f"Left out, as there are fewer training images: {names}.")
    arms = {name: METHODS[name].arm for name in ("sgd", "momentum")}
    with lifecycle.open_study(
        options, "batch-size", budget, arms, console, dataset=dataset
    ) as study:
        optimizers = series(budget.beta, budget.anchor)
        tuned = tune(study, budget, sizes, optimizers)
        classes = study.context.dataset.classes
        choice = {cell: best(trials, classes) for cell, trials in tuned.items()}
        seeds = range(budget.seeds)
        groups = {
            cell: with_seeds(_config(study, cell, setting), seeds, test=True)
            for cell, setting in choice.items()
        }
        compared = run_groups(study.context, groups, "comparing")
        results = BatchSizeResults(
            *(optimizers, tuned, choice, compared, left_out, classes),
            smoke=options.preset == "smoke",
        )
        runs = list(study.context.finished.values())
        written = page(results, study.plan, runs, repeating("batch-size", options))
        full = resolve_budget(options_at_full_size(options), BUDGETS)
        if options.dataset is not None:
            full = full._replace(batch_sizes=fitting(full.batch_sizes, dataset))
        return lifecycle.publish(options, written, study, runs, work(full))


def work(budget: BatchSizeBudget) -> Work:
    """The runs of three optimizers at each batch size, before rates are added."""
    of_each = len(budget.effective_rates) * budget.tuning_seeds + budget.seeds
    runs = 3 * len(budget.batch_sizes) * of_each
    return Work(runs, runs * budget.epochs)


def split_by_fit(
    dataset: Dataset, batch_sizes: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The batch sizes that the training set is large enough for, and the others.

    Raises:
      UsageError: it is too small for all of them.
    """
    fits = sorted(fitting(batch_sizes, dataset))
    if not fits:
        raise UsageError(
            f"--batch-sizes: even the smallest, {min(batch_sizes)}, is more than the "
            f"{training_images(dataset)} training images of {dataset.name}; name "
            "smaller ones."
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
    classes = study.context.dataset.classes
    rates = dict.fromkeys(sizes, tuple(sorted(budget.effective_rates)))
    for _ in range(budget.extensions):
        trials = _run_trials(study, optimizers, rates, budget.tuning_seeds)
        wider = {
            size: extended(
                tried,
                [
                    best(trials[BatchSizeCell(size, k)], classes).rate
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
