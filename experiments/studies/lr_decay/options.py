"""The options of `lr-decay`, and the budget that they change."""

from dataclasses import dataclass
from typing import NamedTuple

from experiments.records.config import check_at_least_one, check_beta
from experiments.studies.options import SCHEDULE_NAMES, StudyOptions, resolve_budget
from experiments.studies.value_lists import check_names, check_rates, check_tuning


@dataclass(frozen=True)
class LrDecay(StudyOptions):
    """Compare schedules of the learning rate, and momentum's conventions under them.

    Constant, steps, cosine, warm-up and cosine, one cycle: each with SGD, with momentum
    whose learning rate is inside its buffer (Keras) and outside it (PyTorch), and with
    momentum correction. Learning rates are tuned for each schedule and convention with
    equally many trials, then compared on new seeds. Expected: momentum gains some
    points over SGD; its conventions hardly differ more than one of them from itself.

    smoke: digits, one schedule, half a minute. default: digits, about 480 runs, 3 to 4
    minutes on two CPU cores. paper: CIFAR-10, about 450 runs of 30 epochs, 17 hours on
    two CPU cores.
    """

    schedules: tuple[str, ...] | None = None
    """Some of constant, step, cosine, warmup_cosine and
    one_cycle."""

    effective_rates: tuple[float, ...] | None = None
    """Effective learning rates, LEARNING_RATE / (1 -
    BETA), to try first, at least two; if the first or the
    last of them is the best, more follow."""

    beta: float | None = None
    """Share of the momentum buffer that a step retains, in
    [0, 1)."""

    batch_size: int | None = None
    """Examples per step."""

    tuning_seeds: int | None = None
    """Runs of each trial."""

    extensions: int | None = None
    """How many times rates may be added, one at either
    end."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        super().check()
        check(resolve_budget(self, BUDGETS))


class LrDecayBudget(NamedTuple):
    """Everything that is fixed before the first run."""

    dataset: str
    epochs: int
    seeds: int
    tuning_seeds: int
    batch_size: int
    beta: float
    schedules: tuple[str, ...]
    effective_rates: tuple[float, ...]
    extensions: int


_ALL = SCHEDULE_NAMES
BUDGETS = {
    "smoke": LrDecayBudget("digits", 2, 3, 1, 64, 0.9, ("step",), (0.2, 0.4), 0),
    "default": LrDecayBudget(
        "digits", 6, 10, 3, 64, 0.9, _ALL, (0.1, 0.2, 0.4, 0.8), 1
    ),
    "paper": LrDecayBudget(
        "cifar10", 30, 10, 3, 64, 0.9, _ALL, (0.05, 0.1, 0.2, 0.4, 0.8), 2
    ),
}


def check(budget: LrDecayBudget) -> None:
    """Raises `UsageError` for a budget that is impossible for any data."""
    check_rates(budget.effective_rates, extensible=True)
    check_beta("--beta", budget.beta)
    check_at_least_one("--batch-size", budget.batch_size, "the images of a step")
    check_tuning(budget.tuning_seeds, budget.extensions)
    check_names("--schedules", budget.schedules, SCHEDULE_NAMES)
