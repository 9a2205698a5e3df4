"""Chooses beta by cross-validation on folds of the training examples, then tests it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments.problems.problem import examples_in
from experiments.records.command_line import repeating
from experiments.records.config import UsageError
from experiments.records.runs import Run
from experiments.studies.context import run_groups, with_seeds
from experiments.studies.crossval.choice import CrossvalResults, estimate
from experiments.studies.crossval.folds import nested, stratified
from experiments.studies.crossval.options import Crossval
from experiments.studies.crossval.page import page
from experiments.studies.full_size import Work, options_at_full_size
from experiments.studies.lifecycle import OpenStudy, open_study, publish
from experiments.studies.methods import METHODS
from experiments.studies.options import TUNING_SEED, resolve_budget
from experiments.studies.settings import Setting, configured
from experiments.studies.subject import Fold, read_subject
from experiments.studies.validation import best


class CrossvalBudget(NamedTuple):
    """What the study fixes before its first run."""

    dataset: str
    epochs: int
    seeds: int
    batch_size: int
    folds: int
    nested: int
    betas: tuple[float, ...]
    effective_rates: tuple[float, ...]


# Both axes have steps of 1, 2, 5, so that some settings share a learning rate.
_BETAS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
BUDGETS = {
    "smoke": CrossvalBudget("digits", 3, 3, 64, 3, 0, (0.8, 0.9, 0.95), (0.2, 0.5)),
    "default": CrossvalBudget("digits", 10, 10, 64, 5, 0, _BETAS, (0.1, 0.2, 0.5, 1.0)),
    "paper": CrossvalBudget("cifar10", 10, 10, 64, 5, 0, _BETAS, (0.05, 0.1, 0.2, 0.5)),
}


def crossval(options: Crossval, console: Console) -> Path:
    """Runs what is missing of a cross-validation; returns the path of its page.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    subject = read_subject(options, budget.dataset, console)
    labels = subject.labels
    if labels is None:  # nothing to keep in proportion
        both = subject.training_examples + examples_in(subject.problem.validation)
        labels = np.zeros(both, np.int32)
    noun, inner = subject.measure.noun, {}
    outer = stratified("--folds", labels, budget.folds, noun)
    if budget.nested:
        inner = nested("--nested", labels, outer, budget.nested, noun)
    folds = {
        name: fold for part in (outer, *inner.values()) for name, fold in part.items()
    }
    _check_batch_size(budget.batch_size, folds, noun)
    arms = {name: METHODS[name].arm for name in ("sgd", "momentum")}
    with open_study(
        options, "crossval", budget, arms, console, folds, subject
    ) as study:
        study = study._replace(base=replace(study.base, batch_size=budget.batch_size))
        results = _run(study, budget, outer, inner)
        results = results._replace(smoke=options.preset == "smoke")
        runs = list(study.context.finished.values())
        written = page(results, study.plan, runs, repeating("crossval", options))
        full = resolve_budget(options_at_full_size(options), BUDGETS)
        return publish(options, written, study, runs, work(full))


def work(budget: CrossvalBudget) -> Work:
    """The runs of a cross-validation: each setting on each fold, then the tests."""
    settings = (1 + len(budget.betas)) * len(budget.effective_rates)
    runs = settings * budget.folds * (1 + budget.nested) + 2 * budget.seeds
    return Work(runs, runs * budget.epochs)


def _run(
    study: OpenStudy,
    budget: CrossvalBudget,
    outer: Iterable[str],
    inner: Mapping[str, Iterable[str]],
) -> CrossvalResults:
    """Trains all runs of the budget; those that read the test split come last."""
    measure = study.context.subject.measure
    rates = budget.effective_rates
    space = {
        "sgd": [Setting(0.0, rate) for rate in rates],
        "momentum": [Setting(beta, rate) for beta in budget.betas for rate in rates],
    }
    trials = validate(study, space, outer, "cross-validation")
    within = {
        fold: validate(study, space, folds, f"choosing within {fold}")
        for fold, folds in inner.items()
    }
    estimates = {}
    for arm in space:
        inner_trials = {fold: of_fold[arm] for fold, of_fold in within.items()}
        estimates[arm] = estimate(trials[arm], inner_trials, measure)
    chosen = {arm: best(of_arm, measure) for arm, of_arm in trials.items()}
    seeds = range(budget.seeds)
    groups = {
        arm: with_seeds(configured(study.base, setting), seeds, test=True)
        for arm, setting in chosen.items()
    }
    tests = run_groups(study.context, groups, "testing")
    return CrossvalResults(trials, chosen, estimates, tests, measure)


def validate(
    study: OpenStudy,
    space: Mapping[str, Sequence[Setting]],
    folds: Iterable[str],
    phase: str,
) -> dict[str, dict[Setting, list[Run]]]:
    """The runs of every setting on every fold, by arm and setting.

    All settings of a fold share its seed, so they start from the same parameters and
    see the examples in the same order; each fold has another seed.
    """
    seeds = {fold: TUNING_SEED + place for place, fold in enumerate(folds)}
    base = replace(study.base, test=False)
    groups = {
        (arm, setting): [
            replace(configured(base, setting), fold=fold, seed=seed)
            for fold, seed in seeds.items()
        ]
        for arm, settings in space.items()
        for setting in settings
    }
    runs = run_groups(study.context, groups, phase)
    return {
        arm: {setting: runs[arm, setting] for setting in settings}
        for arm, settings in space.items()
    }


def _check_batch_size(batch_size: int, folds: Mapping[str, Fold], noun: str) -> None:
    """Raises `UsageError` unless every fold has enough examples for a batch."""
    name, fold = min(folds.items(), key=lambda item: len(item[1].train))
    if batch_size > len(fold.train):
        raise UsageError(
            f"--batch-size {batch_size} is larger than the {len(fold.train)} {noun}s "
            f"that {name} trains on; choose a smaller one."
        )
