"""SGD against momentum: the same seeds for every optimizer, then a page."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.compare.options import Compare
from experiments.compare.page import Setup, page
from experiments.data import image_dataset
from experiments.distributed import shared_plan
from experiments.optimizers import user_arms
from experiments.optimizers.arms import ARMS, STORAGES, Arm
from experiments.records import plan
from experiments.records.command_line import repeating
from experiments.records.config import Config, recorded_digest, serialized
from experiments.reporting import terminal
from experiments.studies import lifecycle
from experiments.studies.context import StudyContext, hold_out, run_groups, with_seeds
from experiments.studies.full_size import Work, options_at_full_size
from experiments.studies.options import resolve_budget
from experiments.training import startup_check


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
    subject, arms, arms_code = _arms(options.arms)
    lifecycle.check_output(options)
    dataset = lifecycle.read(options, budget.dataset, console)
    image_dataset.check_batch_size(options.batch_size, dataset)
    network, network_code = lifecycle.read_network(options, dataset)
    settings = Config(
        dataset=dataset.name,
        data_digest=image_dataset.digest(dataset),
        arm="",
        learning_rate=options.learning_rate,
        beta=options.beta,
        batch_size=options.batch_size,
        epochs=budget.epochs,
        seed=0,
        network=options.model or "cnn",
        code=" ".join(filter(None, (arms_code, network_code))),
        nonfinite=options.nonfinite,
    )
    changes = serialized(dataset.changes)
    compare_plan = {**plan.shared(settings), **changes, **shared_plan.numerics()}
    with lifecycle.hold_directory(
        options, subject, compare_plan, console, dataset.name
    ) as (output, finished):
        context = StudyContext(
            output,
            dataset,
            network,
            arms,
            hold_out(dataset),
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
        fold = context.folds["hold-out"]
        if missing:
            terminal.report_empty_places(console, options.batch_size)
        runs = [
            run
            for group in run_groups(context, groups, "comparing").values()
            for run in group
        ]
        titles = {key: arm.title for key, arm in arms.items()}
        terminal.print_results(console, runs, titles, smoke=options.preset == "smoke")
        setup = Setup(
            titles=titles,
            equations={key: arm.equation for key, arm in arms.items()},
            train_images=len(fold.train),
            validation_images=len(fold.validation),
            test_images=len(dataset.test_labels),
            command=repeating("compare", options),
            changes=changes,
            smoke=options.preset == "smoke",
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


def _arms(name: str) -> tuple[str, Mapping[str, Arm], str]:
    """The comparison's name, its optimizers, and the digest of a user's code."""
    if name == "momentum":
        return "compare", ARMS, ""
    if name == "storage":
        return "storage", STORAGES, ""
    return "arms", *user_arms.arms("--arms", name)
