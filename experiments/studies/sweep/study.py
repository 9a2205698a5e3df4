"""The command `sweep`: the best learning rate and β of each method, compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from experiments.records.command_line import repeating
from experiments.records.config import Config
from experiments.studies import lifecycle
from experiments.studies.context import StudyContext, run_all, run_groups, with_seeds
from experiments.studies.full_size import Work, options_at_full_size
from experiments.studies.methods import METHODS
from experiments.studies.sweep.page import page
from experiments.studies.sweep.plan import (
    BUDGETS,
    Round,
    SweepBudget,
    check,
    configured,
    first_round,
    next_round,
    trials,
)
from experiments.studies.sweep.results import SweepResults, TrialResult, best, result
from experiments.studies.value_lists import check_fitting


@dataclass(frozen=True)
class Sweep(lifecycle.StudyOptions):
    """Tune SGD and momentum with equal budgets, then compare them.

    Every method gets equally many trials, over the effective learning rate α/(1 − β)
    and 1 − β. If a best trial lies at an edge, the space grows on that side, for all
    methods. The best trial of each method then runs with new seeds and is tested.

    smoke: 16 to 22 short runs, half a minute. default: 102 runs on the digits, or 138
    if the space grows, under 5 minutes on two CPU cores; expect 95 to 97% of the test
    images and, between tuned methods, differences of about a point. paper: 222 to 462
    runs on CIFAR-10, 52 s each on two cores: 3 to 7 hours.
    """

    methods: tuple[str, ...] | None = None
    """sgd, and which of momentum, nesterov and qhm to
    compare with it."""

    batch_sizes: tuple[int, ...] | None = None
    """Images per step; every method is tried at each."""

    effective_rate: tuple[float, float] | None = None
    """Lowest and highest α/(1 − β), on a logarithmic scale.
    A step settles at this times a constant gradient."""

    one_minus_beta: tuple[float, float] | None = None
    """Lowest and highest 1 − β, on a logarithmic scale; SGD
    has none."""

    sampler: Literal["sobol", "grid"] | None = None
    """How trials are spread over the space: a scrambled
    Sobol' sequence, or a grid."""

    trials: int | None = None
    """Trials of each method at each batch size, before any
    extension of the space."""

    tuning_seeds: int | None = None
    """Runs of each trial; their mean validation accuracy is
    its result."""

    extensions: int | None = None
    """How many times the space may grow, each time by half
    an axis."""


def sweep(options: Sweep, console: Console) -> Path:
    """Runs whatever a sweep still lacks and returns the path of its page.

    Raises:
      UsageError: an option is impossible, by itself or for these data; or no trial of
        a method trained.
    """
    options.check()
    budget = lifecycle.resolve_budget(options, BUDGETS)
    check(budget)
    dataset = lifecycle.read(options, budget.dataset, console)
    check_fitting(budget.batch_sizes, dataset)
    arms = {method: METHODS[method].arm for method in budget.methods}
    with lifecycle.open_study(
        options, "sweep", budget, arms, console, dataset=dataset
    ) as study:
        context, base = study.context, study.base
        rounds, results = search(context, base, budget)
        seeds = range(budget.seeds)
        final = {}
        for method, top in best(results).items():
            configs = with_seeds(configured(base, top.trial), seeds, test=True)
            final[method] = run_all(context, configs, f"final {method}")
        classes, smoke = context.dataset.classes, options.preset == "smoke"
        swept = SweepResults(budget, rounds, results, final, classes, smoke)
        written = page(swept, study.plan, repeating("sweep", options))
        full = lifecycle.resolve_budget(options_at_full_size(options), BUDGETS)
        return lifecycle.publish(options, written, study, swept.runs, work(full))


def work(budget: SweepBudget) -> Work:
    """The runs of a sweep whose space does not grow."""
    trials_of_method = len(budget.batch_sizes) * budget.trials * budget.tuning_seeds
    runs = len(budget.methods) * (trials_of_method + budget.seeds)
    return Work(runs, runs * budget.epochs)


def search(
    context: StudyContext, base: Config, budget: SweepBudget
) -> tuple[list[Round], list[TrialResult]]:
    """Runs round after round until the best trials lie inside or the budget is spent.

    Each round follows from the plan and the recorded runs alone, so an interrupted
    search takes the same course when it is repeated.
    """
    rounds = [first_round(budget)]
    while True:
        results = _run_trials(context, base, budget, rounds)
        tops = {method: top.trial for method, top in best(results).items()}
        following = next_round(budget, rounds, tops)
        if following is None:
            return rounds, results
        rounds.append(following)


def _run_trials(
    context: StudyContext, base: Config, budget: SweepBudget, rounds: Sequence[Round]
) -> list[TrialResult]:
    """The results of all trials of the rounds; finished runs are not repeated."""
    phase, seeds = (
        f"tuning, round {len(rounds)}",
        lifecycle.tuning_seeds(budget.tuning_seeds),
    )
    planned = trials(budget, rounds)
    groups = {trial: with_seeds(configured(base, trial), seeds) for trial in planned}
    runs = run_groups(context, groups, phase)
    classes = context.dataset.classes
    return [result(trial, runs[trial], classes) for trial in planned]
