"""The answer for a user's own data: a method with all its settings, and its evidence.

What is tried and concluded is planned in `plan`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from experiments.data.image_dataset import Dataset
from experiments.records.command_line import repeating
from experiments.records.config import Config, UsageError
from experiments.records.runs import Run
from experiments.studies import lifecycle
from experiments.studies import methods as every_method
from experiments.studies.context import hold_out, run_all
from experiments.studies.sweep import plan as sweep_plan
from experiments.studies.sweep import results as sweep_results
from experiments.studies.sweep import study as sweep
from experiments.studies.tune import page as tune_page
from experiments.studies.tune.plan import (
    BUDGETS,
    METHODS,
    Budget,
    Candidate,
    Found,
    beyond,
    candidates,
    check,
    goes_on,
    rungs,
)
from experiments.studies.validation import best

Settled = dict[str, dict[Candidate, Sequence[Run]]]  # by method


@dataclass(frozen=True)
class Tune(lifecycle.StudyOptions):
    """Find out what to train your own data with, and get it as code to paste.

    SGD, momentum and Nesterov momentum are screened at one batch size for a few
    epochs; SGD and the better momentum then try batch sizes and schedules for all
    epochs, with equal trials. The best of each is trained with new seeds and tested.
    Momentum is recommended where it is better beyond chance, else SGD.

    smoke: digits, about 35 short runs, half a minute. default: digits, about 130 runs,
    under 5 minutes on two CPU cores; expect about 97% of the test images, and a
    difference between SGD and momentum that is too small to be seen. The cost grows
    with the images. paper: CIFAR-10, about 370 runs, most of them of 30 epochs: half a
    day on two CPU cores.
    """

    trials: int | None = None
    """Trials of each method in the screening."""

    effective_rate: tuple[float, float] | None = None
    """Lowest and highest effective learning rate,
    LEARNING_RATE / (1 - BETA), of the screening; it grows
    where the best lies at an end."""

    batch_sizes: tuple[int, ...] | None = None
    """Images a step; the screening is at the first."""

    schedules: tuple[str, ...] | None = None
    """Some of constant, step, cosine, warmup_cosine and
    one_cycle."""

    tuning_seeds: int | None = None
    """Runs of each trial after the screening."""


def tune(options: Tune, console: Console) -> Path:
    """Does all that is missing; returns the path of the page.

    Raises:
      UsageError: an option is impossible, by itself or for these data; or no trial of
        a method trained.
    """
    options.check()
    budget = lifecycle.resolve_budget(options, BUDGETS)
    shorter = min(budget.screening_epochs, budget.epochs)
    budget = budget._replace(screening_epochs=shorter)
    check(budget)
    dataset = lifecycle.read(options, budget.dataset, console)
    budget = budget._replace(batch_sizes=fitting(options, budget, dataset))
    arms = {method: every_method.METHODS[method].arm for method in METHODS}
    with lifecycle.open_study(
        options, "tune", budget, arms, console, dataset=dataset
    ) as study:
        found = _find(study, budget)
        command, onward = repeating("tune", options), None
        if more := beyond(found):
            sizes = (*budget.batch_sizes, *more)
            further = replace(options, batch_sizes=sizes, output=None)
            onward = repeating("tune", further)
        page = tune_page.page(found, study.plan, command, onward)
        return lifecycle.publish(options, page, study, found.runs)


def fitting(options: Tune, budget: Budget, dataset: Dataset) -> tuple[int, ...]:
    """The batch sizes that these data allow; of those asked for, all must be."""
    images = _trained_on(dataset)
    fitting = tuple(size for size in budget.batch_sizes if size <= images)
    if options.batch_sizes is not None and fitting != options.batch_sizes:
        raise UsageError(
            f"--batch-sizes has {max(options.batch_sizes)}, but {dataset.name} has "
            f"{images} training images; choose smaller ones."
        )
    return fitting or (images,)


def _find(study: lifecycle.OpenStudy, budget: Budget) -> Found:
    """Trains all that the plan says, the runs that read the test split last.

    What is trained next depends on the plan and on recorded runs alone, so that an
    interrupted study goes the same way again.
    """
    context, base = study.context, study.base
    classes = context.dataset.classes
    short = replace(base, epochs=budget.screening_epochs)
    rounds, screened = sweep.search(context, short, budget.screening)
    screening = sweep_results.Found(
        budget.screening, rounds, screened, {method: [] for method in METHODS}, classes
    )
    first = {
        method: candidates(budget, screened, method) for method in goes_on(screened)
    }
    settled = _measured(study, budget, first, "batch sizes and schedules")
    centres = _best(settled, classes)
    settled, last = _beside(study, budget, centres, settled)
    reported = {
        method: run_all(
            context,
            _configs(base, winner, range(budget.seeds), test=True),
            f"final {method}",
        )
        for method, winner in _best(settled, classes).items()
    }
    images = len(context.folds[base.fold].train)
    return Found(budget, screening, settled, centres, last, reported, images, classes)


def _beside(
    study: lifecycle.OpenStudy,
    budget: Budget,
    centres: dict[str, Candidate],
    settled: Settled,
) -> tuple[Settled, float]:
    """Adds rates beside the centres: one factor after another while that is better.

    Returns:
      All that was tried, and the last factor.
    """
    last = 1.0
    for last in budget.factors:
        beside = {method: rungs(centre, last) for method, centre in centres.items()}
        more = _measured(study, budget, beside, f"rates {last:g} times apart")
        settled = {method: {**own, **more[method]} for method, own in settled.items()}
        winners = _best(settled, study.context.dataset.classes)
        if not any(winners[method] in own for method, own in beside.items()):
            break
    return settled, last


def _best(settled: Settled, classes: int) -> dict[str, Candidate]:
    return {method: best(own, classes) for method, own in settled.items()}


def _measured(
    study: lifecycle.OpenStudy,
    budget: Budget,
    tried: dict[str, list[Candidate]],
    phase: str,
) -> Settled:
    """The runs of each candidate, by method; all of them trained in one go."""
    seeds = range(lifecycle.TUNING_SEED, lifecycle.TUNING_SEED + budget.tuning_seeds)
    configs = [
        config
        for own in tried.values()
        for candidate in own
        for config in _configs(study.base, candidate, seeds, test=False)
    ]
    runs = iter(run_all(study.context, configs, phase))
    return {
        method: {candidate: [next(runs) for _ in seeds] for candidate in own}
        for method, own in tried.items()
    }


def _configs(
    base: Config, candidate: Candidate, seeds: Iterable[int], *, test: bool
) -> list[Config]:
    configured = sweep_plan.configured(base, candidate.trial)
    return [
        replace(configured, schedule=candidate.schedule, seed=seed, test=test)
        for seed in seeds
    ]


def _trained_on(dataset: Dataset) -> int:
    """How many images the hold-out leaves to train on."""
    return len(hold_out(dataset)["hold-out"].train)
