"""Beta by cross-validation: chosen on folds of the training images, then tested."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.records.command_line import repeating
from experiments.records.config import UsageError, check_at_least_one
from experiments.records.runs import Run
from experiments.studies.context import Fold, run_all
from experiments.studies.crossval.choice import estimates
from experiments.studies.crossval.folds import nested, stratified
from experiments.studies.crossval.page import page
from experiments.studies.crossval.tables import Found
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
from experiments.studies.value_lists import check_betas, check_rates


@dataclass(frozen=True)
class Crossval(StudyOptions):
    """Choose beta by stratified k-fold cross-validation, then test it beside SGD.

    Every beta is tried at every effective learning rate, on every fold of the training
    images, and so is SGD; parameters and momentum start anew each time. The best of
    each is then trained once a seed and read on the test images.

    smoke: digits, 30 runs, less than a minute. default: digits, 7 betas at 4 rates on 5
    folds, 180 runs, 2 to 4 minutes on two CPU cores. Expected: beta 0.9, or 0.8 by the
    rule of one standard error; on the test images +1.0 points over tuned SGD, of which
    the interval contains 0. paper: the same on CIFAR-10, 180 runs of 45 seconds, 2.5
    hours on two CPU cores.
    """

    betas: tuple[float, ...] | None = None
    """Candidates for beta, in [0, 1); 0 is SGD, which is
    tried in any case."""

    effective_rates: tuple[float, ...] | None = None
    """Effective learning rates at which each beta is tried;
    its learning rate is these times (1 - beta)."""

    folds: int | None = None
    """Parts of the training images, each of which validates
    what the others train."""

    nested: int | None = None
    """Choose anew within each fold, on so many inner folds,
    to estimate honestly what the choice is worth; 0 is
    not to, and so is every preset. It takes about NESTED
    times as long as the rest."""

    batch_size: int | None = None
    """Images a step."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        super().check()
        if self.betas is not None:
            check_betas(self.betas)
        if self.effective_rates is not None:
            check_rates(self.effective_rates)
        if self.batch_size is not None:
            check_at_least_one("--batch-size", self.batch_size, "the images of a step")


class Budget(NamedTuple):
    """All that is fixed before the first run."""

    dataset: str
    epochs: int
    seeds: int
    batch_size: int
    folds: int
    nested: int
    betas: tuple[float, ...]
    effective_rates: tuple[float, ...]


# Steps of 1, 2, 5 on both axes: so the table also holds columns of equal learning rate.
_BETAS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
BUDGETS = {
    "smoke": Budget("digits", 3, 3, 64, 3, 0, (0.8, 0.9, 0.95), (0.2, 0.5)),
    "default": Budget("digits", 10, 10, 64, 5, 0, _BETAS, (0.1, 0.2, 0.5, 1.0)),
    "paper": Budget("cifar10", 10, 10, 64, 5, 0, _BETAS, (0.05, 0.1, 0.2, 0.5)),
}


def crossval(options: Crossval, console: Console) -> Path:
    """Does all that is missing of a cross-validation; returns the path of its page.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    dataset = read(options, budget.dataset, console)
    labels = dataset.train_labels
    outer = stratified("--folds", labels, budget.folds)
    inner = nested("--nested", labels, outer, budget.nested) if budget.nested else {}
    every = {
        name: own for folds in (outer, *inner.values()) for name, own in folds.items()
    }
    _check_batch_size(budget.batch_size, every)
    arms = {name: METHODS[name].arm for name in ("sgd", "momentum")}
    with open_study(
        options, "crossval", budget, arms, console, every, dataset
    ) as study:
        study = study._replace(base=replace(study.base, batch_size=budget.batch_size))
        found = _find(study, budget, outer, inner)
        runs = list(study.context.finished.values())
        told = page(found, study.plan, runs, repeating("crossval", options))
        return publish(options, told, study, runs)


def _find(
    study: OpenStudy,
    budget: Budget,
    outer: Iterable[str],
    inner: Mapping[str, Iterable[str]],
) -> Found:
    """Trains all that the budget says; the runs that read the test split come last."""
    classes = study.context.dataset.classes
    space = {
        "sgd": [Setting(0.0, rate) for rate in budget.effective_rates],
        "momentum": [
            Setting(beta, rate)
            for beta in budget.betas
            for rate in budget.effective_rates
        ],
    }
    trials = validate(study, space, outer, "cross-validation")
    within = {
        fold: validate(study, space, own, f"choosing within {fold}")
        for fold, own in inner.items()
    }
    estimated = {
        arm: estimates(
            trials[arm], {fold: own[arm] for fold, own in within.items()}, classes
        )
        for arm in space
    }
    choice = {arm: best(own, classes) for arm, own in trials.items()}
    tested = test(study, choice, range(budget.seeds))
    return Found(trials, choice, estimated, tested, classes)


def validate(
    study: OpenStudy,
    space: Mapping[str, Sequence[Setting]],
    folds: Iterable[str],
    phase: str,
) -> dict[str, dict[Setting, list[Run]]]:
    """The runs of every setting on every fold, by arm and setting.

    All settings of one fold share a seed, so that they start alike and see the images
    in one order; each fold has a seed of its own.
    """
    seeds = {fold: TUNING_SEED + place for place, fold in enumerate(folds)}
    configs = [
        replace(configured(study.base, setting), fold=fold, seed=seed, test=False)
        for settings in space.values()
        for setting in settings
        for fold, seed in seeds.items()
    ]
    done = iter(run_all(study.context, configs, phase))
    return {
        arm: {setting: list(islice(done, len(seeds))) for setting in settings}
        for arm, settings in space.items()
    }


def test(
    study: OpenStudy, choice: Mapping[str, Setting], seeds: Sequence[int]
) -> dict[str, list[Run]]:
    """The runs of the chosen settings, which read the test split; by arm, then seed."""
    configs = [
        replace(configured(study.base, setting), seed=seed, test=True)
        for setting in choice.values()
        for seed in seeds
    ]
    done = iter(run_all(study.context, configs, "testing"))
    return {arm: list(islice(done, len(seeds))) for arm in choice}


def _check_batch_size(batch_size: int, folds: Mapping[str, Fold]) -> None:
    """Raises `UsageError` unless every fold has a batch to train on."""
    name, fold = min(folds.items(), key=lambda each: len(each[1].train))
    if batch_size > len(fold.train):
        raise UsageError(
            f"--batch-size {batch_size} is larger than the {len(fold.train)} images "
            f"that {name} trains on; choose a smaller one."
        )
