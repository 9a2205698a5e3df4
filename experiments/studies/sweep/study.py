"""The sweep: which learning rate and which β each method wants, and what it then gains.

What it does is planned in `plan`, what it finds read in `results`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from experiments.data.image_dataset import Dataset, hold_out
from experiments.records.command_line import repeating
from experiments.records.config import Config, UsageError
from experiments.studies import lifecycle
from experiments.studies.context import StudyContext, run_all
from experiments.studies.methods import METHODS
from experiments.studies.sweep import page as sweep_page
from experiments.studies.sweep.plan import (
    BUDGETS,
    Budget,
    Round,
    check,
    configured,
    first_round,
    next_round,
    trials,
)
from experiments.studies.sweep.results import Found, Result, best, result


@dataclass(frozen=True)
class Sweep(lifecycle.StudyOptions):
    """Tune SGD and momentum with equal budgets, then compare them.

    Every method gets as many trials, on the axes effective learning rate, α/(1 − β),
    and 1 − β. Where a best trial lies at an edge, the space grows on that side, for
    all of them. The best trial of each then runs with other seeds and is tested.

    smoke: 16 to 22 short runs, half a minute. default: 102 runs on the digits, or 138
    if the space grows, under 5 minutes on two CPU cores; expect 95 to 97% of the test
    images and, between tuned methods, differences of about a point. paper: 222 to 462
    runs on CIFAR-10, 52 s each on two cores: 3 to 7 hours.
    """

    methods: tuple[str, ...] | None = None
    """sgd, and which of momentum, nesterov and qhm are
    compared with it."""

    batch_sizes: tuple[int, ...] | None = None
    """Images a step; every method is tried at each."""

    effective_rate: tuple[float, float] | None = None
    """Lowest and highest α/(1 − β), walked in equal factors."""

    one_minus_beta: tuple[float, float] | None = None
    """Lowest and highest 1 − β, likewise; SGD has none."""

    sampler: Literal["sobol", "grid"] | None = None
    """How trials are spread over the space: a scrambled
    Sobol' sequence, or a grid."""

    trials: int | None = None
    """Trials of each method at each batch size, before any
    extension of the space."""

    tuning_seeds: int | None = None
    """Runs of a trial; their mean validation accuracy is its
    result."""

    extensions: int | None = None
    """How often the space may grow, by half of an axis."""


def sweep(options: Sweep, console: Console) -> Path:
    """Does all that is missing of a sweep; returns the path of its page.

    Raises:
      UsageError: an option is impossible, by itself or for these data; or no trial of
        a method trained.
    """
    options.check()
    budget = lifecycle.resolve_budget(options, BUDGETS)
    check(budget)
    dataset = lifecycle.read(options, budget.dataset, console)
    _check_fits(budget.batch_sizes, dataset)
    arms = {method: METHODS[method].arm for method in budget.methods}
    with lifecycle.open_study(
        options, "sweep", budget, arms, console, dataset=dataset
    ) as study:
        context, base = study.context, study.base
        rounds, results = search(context, base, budget)
        final = {
            method: run_all(
                context,
                [
                    replace(configured(base, each.trial), seed=seed)
                    for seed in range(budget.seeds)
                ],
                f"final {method}",
            )
            for method, each in best(results).items()
        }
        classes = context.dataset.classes
        found = Found(budget, rounds, results, final, classes)
        page = sweep_page.page(found, study.plan, repeating("sweep", options))
        return lifecycle.publish(options, page, study, found.runs)


def _check_fits(batch_sizes: Sequence[int], dataset: Dataset) -> None:
    """Raises `UsageError` for a batch of more images than there are."""
    images = len(hold_out(dataset)[1])
    for size in batch_sizes:
        if size > images:
            raise UsageError(
                f"--batch-sizes has {size}, but {dataset.name} has {images} training "
                "images; choose smaller ones."
            )


def search(
    context: StudyContext, base: Config, budget: Budget
) -> tuple[list[Round], list[Result]]:
    """Round after round, until the best trials are inside or the budget is spent.

    What follows a round depends on the plan and on recorded runs alone: a search that
    was interrupted goes the same way again.
    """
    rounds = [first_round(budget)]
    while True:
        phase = f"tuning, round {len(rounds)}"
        results = _measured(context, base, budget, rounds, phase)
        so_far = {method: each.trial for method, each in best(results).items()}
        following = next_round(budget, rounds, so_far)
        if following is None:
            return rounds, results
        rounds.append(following)


def _measured(
    context: StudyContext,
    base: Config,
    budget: Budget,
    rounds: Sequence[Round],
    phase: str,
) -> list[Result]:
    """All trials of the rounds; what has been run before is not run again."""
    wanted, seeds = trials(budget, rounds), range(budget.tuning_seeds)
    configs = [
        replace(configured(base, trial), seed=lifecycle.TUNING_SEED + seed, test=False)
        for trial in wanted
        for seed in seeds
    ]
    runs = run_all(context, configs, phase)
    classes, size = context.dataset.classes, budget.tuning_seeds
    return [
        result(trial, runs[size * index : size * (index + 1)], classes)
        for index, trial in enumerate(wanted)
    ]
