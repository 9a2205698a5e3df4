"""SGD against momentum: the same seeds for every optimizer, then a page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.compare.page import Setup, page
from experiments.data import image_dataset
from experiments.optimizers import user_arms
from experiments.optimizers.arms import ARMS, STORAGES, Arm
from experiments.records import plan
from experiments.records.command_line import repeating
from experiments.records.config import (
    Config,
    Nonfinite,
    UsageError,
    check_at_least_one,
    check_beta,
    check_rate,
    recorded_digest,
    serialized,
)
from experiments.reporting import terminal
from experiments.studies import lifecycle
from experiments.studies.context import StudyContext, hold_out, run_groups, with_seeds
from experiments.studies.full_size import Work, options_at_full_size
from experiments.training import startup_check


@dataclass(frozen=True)
class Compare(lifecycle.StudyOptions):
    """Train a small CNN with SGD and with momentum, and report the difference.

    Four optimizers (SGD, momentum as the tutorial's equation has it, SGD with larger
    steps, momentum as the tutorial's Keras code has it), each with the same seeds. Runs
    that OUTPUT already holds are not repeated.

    smoke: digits, 8 runs of 2 epochs, half a minute. default: digits, 12 runs of 10
    epochs, about a minute on two CPU cores; expect 90 to 96% of the test images. paper:
    CIFAR-10 with ten seeds, 40 runs, half an hour on two CPU cores.
    """

    arms: str = "momentum"
    """What to compare. momentum: SGD and momentum, the four
    optimizers. storage: one momentum whose buffer is kept in
    float32, in bfloat16 and in 8 bits. FILE.py:function:
    the optimizers in the dictionary that this function of
    the learning rate returns, each against the first."""

    learning_rate: float = 0.01
    """Step size of the optimizers sgd, ema and keras, in
    parameters per gradient; sgd_large_step takes
    LEARNING_RATE / (1 - BETA)."""

    beta: float = 0.9
    """Share of the momentum buffer that a step keeps, in [0,
    1)."""

    batch_size: int = 64
    """Images in one step."""

    nonfinite: Nonfinite = "stop"
    """What to do about a step whose gradient or result is
    not finite. stop: end, and say at which step and in
    which leaf. skip: leave the step out and count it.
    record: train on, as the optimizer itself would."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        super().check()
        check_rate("--learning-rate", self.learning_rate, "0.01 is the tutorial's")
        check_beta("--beta", self.beta)
        check_at_least_one("--batch-size", self.batch_size, "the images of a step")


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
    budget = lifecycle.resolve_budget(options, BUDGETS)
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
    compare_plan = {**plan.shared(settings), **changes}
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
    budget = lifecycle.resolve_budget(options_at_full_size(options), BUDGETS)
    _, arms, _ = _arms(options.arms)
    runs = len(arms) * budget.seeds
    return Work(runs, runs * budget.epochs)


def _arms(name: str) -> tuple[str, Mapping[str, Arm], str]:
    """The comparison's name, its optimizers, and the digest of a user's code."""
    if name == "momentum":
        return "compare", ARMS, ""
    if name == "storage":
        return "storage", STORAGES, ""
    if ":" not in name:
        raise UsageError(
            f"--arms {name}: it is neither momentum nor storage; for optimizers of "
            "your own give FILE.py:function."
        )
    return "arms", *user_arms.arms("--arms", name)
