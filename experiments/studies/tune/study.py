"""The command `tune`: a method with all its settings for a user's own data.

`plan` decides what is tried and what follows from the results.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from experiments.problems.problem import examples_in
from experiments.records.command_line import repeating
from experiments.records.config import Config
from experiments.records.runs import Run
from experiments.studies import lifecycle
from experiments.studies.context import run_all, run_groups, with_seeds
from experiments.studies.full_size import Work, options_at_full_size
from experiments.studies.methods import METHODS
from experiments.studies.options import resolve_budget
from experiments.studies.subject import Subject, read_subject
from experiments.studies.sweep import plan as sweep_plan
from experiments.studies.sweep.results import SweepResults
from experiments.studies.sweep.study import search
from experiments.studies.tune.options import BUDGETS, SCREENED, Tune, TuneBudget
from experiments.studies.tune.page import page
from experiments.studies.tune.plan import (
    Candidate,
    TuneResults,
    beyond,
    candidates,
    chosen_methods,
    rungs,
)
from experiments.studies.tune.snippet import make_problem
from experiments.studies.validation import Measure, best

Tried = dict[str, dict[Candidate, Sequence[Run]]]  # by method


def tune(options: Tune, console: Console) -> Path:
    """Runs whatever the study still lacks and returns the path of its page.

    Raises:
      UsageError: an option is impossible, by itself or for these data; or no trial of
        a method trained.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    shorter = min(budget.screening_epochs, budget.epochs)
    budget = budget._replace(screening_epochs=shorter)
    subject = read_subject(options, budget.dataset, console)
    budget = budget._replace(batch_sizes=fitting_sizes(options, budget, subject))
    arms = {method: METHODS[method].arm for method in SCREENED}
    with lifecycle.open_study(
        options, "tune", budget, arms, console, subject=subject
    ) as study:
        tuned = _run_study(study, budget)
        tuned = tuned._replace(
            smoke=options.preset == "smoke", make_problem=make_problem(options)
        )
        command, extended_command = repeating("tune", options), None
        if more := beyond(tuned):
            sizes = (*budget.batch_sizes, *more)
            extended_command = repeating(
                "tune", replace(options, batch_sizes=sizes, output=None)
            )
        written = page(tuned, study.plan, command, extended_command)
        full = resolve_budget(options_at_full_size(options), BUDGETS)
        return lifecycle.publish(options, written, study, tuned.runs, work(full))


def work(budget: TuneBudget) -> Work:
    """The runs of a study whose space and rates are extended as little as possible."""
    screening = len(SCREENED) * budget.trials
    sizes_and_schedules = len(budget.batch_sizes) * len(budget.schedules)
    candidates_of_method = budget.finalists * sizes_and_schedules + 2
    later = 2 * (candidates_of_method * budget.tuning_seeds + budget.seeds)
    epochs = screening * budget.screening_epochs + later * budget.epochs
    return Work(screening + later, epochs)


def fitting_sizes(
    options: Tune, budget: TuneBudget, subject: Subject
) -> tuple[int, ...]:
    """The batch sizes that these data allow.

    Raises:
      UsageError: the data don't allow one that the user named.
    """
    if options.batch_sizes is not None:
        subject.check_fitting(options.batch_sizes)
    return subject.fitting(budget.batch_sizes) or (subject.training_examples,)


def _run_study(study: lifecycle.OpenStudy, budget: TuneBudget) -> TuneResults:
    """Trains everything in the plan; the runs that read the test split come last.

    Each phase follows from the plan and the recorded runs alone, so an interrupted
    study takes the same course when it is repeated.
    """
    context, base = study.context, study.base
    subject = context.subject
    measure = subject.measure
    short = replace(base, epochs=budget.screening_epochs)
    rounds, screened = search(context, short, budget.screening)
    screening = SweepResults(
        budget.screening, rounds, screened, {method: [] for method in SCREENED}, measure
    )
    first = {m: candidates(budget, screened, m) for m in chosen_methods(screened)}
    settled = _run_candidates(study, budget, first, "batch sizes and schedules")
    centers = _best(settled, measure)
    settled, last_factor = _refine_rates(study, budget, centers, settled)
    seeds = range(budget.seeds)
    reported = {}
    for method, top in _best(settled, measure).items():
        configs = _configs(base, top, seeds, test=True)
        reported[method] = run_all(context, configs, f"final {method}")
    return TuneResults(
        *(budget, screening, settled, centers, last_factor, reported),
        examples=subject.training_examples,
        measure=measure,
        chance=subject.chance,
        test_examples=examples_in(subject.problem.test),
    )


def _refine_rates(
    study: lifecycle.OpenStudy,
    budget: TuneBudget,
    centers: Mapping[str, Candidate],
    settled: Tried,
) -> tuple[Tried, float]:
    """Tries rates on both sides of the centers, farther ones only if that improves.

    Returns everything that was tried, and the last factor.
    """
    last = 1.0
    for last in budget.factors:
        tried = {method: rungs(center, last) for method, center in centers.items()}
        more = _run_candidates(study, budget, tried, f"rates {last:g} times apart")
        settled = {method: {**runs, **more[method]} for method, runs in settled.items()}
        winners = _best(settled, study.context.subject.measure)
        if not any(winners[method] in beside for method, beside in tried.items()):
            break
    return settled, last


def _best(settled: Tried, measure: Measure) -> dict[str, Candidate]:
    return {method: best(tried, measure) for method, tried in settled.items()}


def _run_candidates(
    study: lifecycle.OpenStudy,
    budget: TuneBudget,
    tried: Mapping[str, Sequence[Candidate]],
    phase: str,
) -> Tried:
    """The tuning runs of all candidates, trained together; by method and candidate."""
    seeds = lifecycle.tuning_seeds(budget.tuning_seeds)
    groups = {
        candidate: _configs(study.base, candidate, seeds)
        for candidates_of_method in tried.values()
        for candidate in candidates_of_method
    }
    runs = run_groups(study.context, groups, phase)
    return {
        method: {candidate: runs[candidate] for candidate in candidates_of_method}
        for method, candidates_of_method in tried.items()
    }


def _configs(
    base: Config, candidate: Candidate, seeds: Iterable[int], *, test: bool = False
) -> list[Config]:
    config = sweep_plan.configured(base, candidate.trial)
    return with_seeds(replace(config, schedule=candidate.schedule), seeds, test=test)
