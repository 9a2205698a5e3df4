"""SGD against momentum: the same seeds for every optimizer, then a page."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.compare.options import Compare
from experiments.compare.page import Setup, page
from experiments.distributed import shared_plan
from experiments.optimizers import user_arms
from experiments.optimizers.arms import ARMS, STORAGES, Arm
from experiments.problems.problem import examples_in
from experiments.records import plan
from experiments.records.command_line import repeating
from experiments.records.config import recorded_digest
from experiments.reporting import terminal
from experiments.reporting.statistics import PAIRS, against_first
from experiments.studies import lifecycle
from experiments.studies.context import StudyContext, run_groups, with_seeds
from experiments.studies.full_size import Work, options_at_full_size
from experiments.studies.options import resolve_budget
from experiments.studies.subject import read_subject
from experiments.training import startup_check
from experiments.training.step import steps_per_epoch


class CompareBudget(NamedTuple):
    """What a preset sets."""

    dataset: str
    epochs: int
    seeds: int


BUDGETS = {
    "smoke": CompareBudget("digits", 2, 2),
    "default": CompareBudget("digits", 10, 3),
    "paper": CompareBudget("cifar10", 10, 10),
}


def compare(options: Compare, console: Console) -> Path:
    """Does all that is missing of a comparison; returns the path of its page.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    lifecycle.check_output(options)
    subject = read_subject(options, budget.dataset, console)
    subject.check_batch_size(options.batch_size)
    steps = budget.epochs * steps_per_epoch(subject.problem.train, options.batch_size)
    name, arms, arms_code = _arms(options.arms, steps)
    settings = replace(
        subject.configured(options, budget.epochs),
        learning_rate=options.learning_rate,
        beta=options.beta,
        batch_size=options.batch_size,
        code=" ".join(filter(None, (arms_code, subject.code))),
        nonfinite=options.nonfinite,
        schedule=options.schedule or "constant",
    )
    compare_plan = {
        **plan.shared(settings),
        **subject.settings,
        **shared_plan.numerics(),
    }
    with lifecycle.hold_directory(
        options, name, compare_plan, console, settings.dataset
    ) as (output, finished):
        context = StudyContext(
            output,
            subject,
            arms,
            {},
            console,
            finished,
            startup_check.check(),
            options.save_every,
            one_at_a_time=True,
        )
        groups = {
            arm: with_seeds(replace(settings, arm=arm), range(budget.seeds), test=True)
            for arm in arms
        }
        wanted = [config for group in groups.values() for config in group]
        missing = [c for c in wanted if recorded_digest(c, finished) not in finished]
        if missing:
            terminal.report_empty_places(console, options.batch_size)
        runs = [
            run
            for group in run_groups(context, groups, "comparing").values()
            for run in group
        ]
        titles = {key: arm.title for key, arm in arms.items()}
        smoke = options.preset == "smoke"
        pairs = against_first([*titles]) if arms_code else PAIRS
        measure, problem = subject.measure, subject.problem
        terminal.print_results(
            console, runs, titles, measure.metric, measure.noun, pairs, smoke=smoke
        )
        setup = Setup(
            titles=titles,
            equations={key: arm.equation for key, arm in arms.items()},
            pairs=pairs,
            measure=measure,
            train_examples=examples_in(problem.train),
            validation_examples=examples_in(problem.validation),
            test_examples=examples_in(problem.test),
            command=repeating("compare", options),
            changes=subject.settings,
            smoke=smoke,
        )
        study = lifecycle.OpenStudy(context, settings, compare_plan)
        return lifecycle.publish(
            options, page(runs, setup), study, runs, _work(options)
        )


def _work(options: Compare) -> Work:
    """What the comparison trains at full size."""
    budget = resolve_budget(options_at_full_size(options), BUDGETS)
    _, arms, _ = _arms(options.arms)
    runs = len(arms) * budget.seeds
    return Work(runs, runs * budget.epochs)


def _arms(name: str, steps: int = 1) -> tuple[str, Mapping[str, Arm], str]:
    """The comparison's name, its optimizers, and the digest of a user's code."""
    if name == "momentum":
        return "compare", ARMS, ""
    if name == "storage":
        return "storage", STORAGES, ""
    return "arms", *user_arms.arms("--arms", name, steps=steps)
