"""The command `sweep`: the best learning rate and β of each method, compared."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.records.command_line import repeating
from experiments.records.config import Config
from experiments.studies import lifecycle
from experiments.studies.context import StudyContext, run_all, run_groups, with_seeds
from experiments.studies.full_size import Work, options_at_full_size
from experiments.studies.methods import METHODS
from experiments.studies.options import resolve_budget
from experiments.studies.subject import read_subject
from experiments.studies.sweep.options import BUDGETS, Sweep, SweepBudget
from experiments.studies.sweep.page import page
from experiments.studies.sweep.plan import (
    Round,
    configured,
    first_round,
    next_round,
    trials,
)
from experiments.studies.sweep.results import SweepResults, TrialResult, best, result


def sweep(options: Sweep, console: Console) -> Path:
    """Runs whatever a sweep still lacks and returns the path of its page.

    Raises:
      UsageError: an option is impossible, by itself or for these data; or no trial of
        a method trained.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    subject = read_subject(options, budget.dataset, console)
    subject.check_fitting(budget.batch_sizes)
    decides = f"mean validation {subject.measure.metric.words} of the last epoch"
    budget = budget._replace(metric=f"{decides}; of equals, the loss")
    arms = {method: METHODS[method].arm for method in budget.methods}
    with lifecycle.open_study(
        options, "sweep", budget, arms, console, subject=subject
    ) as study:
        context, base = study.context, study.base
        rounds, results = search(context, base, budget)
        seeds = range(budget.seeds)
        final = {}
        for method, top in best(results).items():
            configs = with_seeds(configured(base, top.trial), seeds, test=True)
            final[method] = run_all(context, configs, f"final {method}")
        smoke = options.preset == "smoke"
        swept = SweepResults(budget, rounds, results, final, subject.measure, smoke)
        written = page(swept, study.plan, repeating("sweep", options))
        full = resolve_budget(options_at_full_size(options), BUDGETS)
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
    measure = context.subject.measure
    return [result(trial, runs[trial], measure) for trial in planned]
