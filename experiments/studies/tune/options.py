"""The options of `tune`, and the budget that they change."""

from dataclasses import dataclass
from typing import NamedTuple

from experiments.studies.options import SCHEDULE_NAMES, StudyOptions, resolve_budget
from experiments.studies.sweep import options as sweep
from experiments.studies.sweep.options import SweepBudget
from experiments.studies.value_lists import check_batch_sizes, check_names, check_tuning

SCREENED = ("sgd", "momentum", "nesterov")
# The last rates tried are the best one divided and multiplied by these factors; the
# second factor is tried only if the first improves on the best rate.
FACTORS = (2.0, 4.0)


@dataclass(frozen=True)
class Tune(StudyOptions):
    """Find the best optimizer for your own data, and get it as code to paste.

    SGD, momentum and Nesterov momentum are screened at one batch size for a few
    epochs. Then SGD and the better momentum try batch sizes and schedules for the full
    epochs, with equally many trials. The best of each is trained with new seeds and
    tested. Momentum is recommended if it is significantly better, else SGD.

    smoke: digits, about 35 short runs, half a minute. default: digits, about 130 runs,
    under 5 minutes on two CPU cores; expect about 97% of the test images, and a
    difference between SGD and momentum that is too small to be significant. The cost
    grows with the number of images. paper: CIFAR-10, about 370 runs, most of them of 30
    epochs: half a day on two CPU cores.
    """

    trials: int | None = None
    """Trials of each method in the screening."""

    effective_rate: tuple[float, float] | None = None
    """Lowest and highest effective learning rate,
    LEARNING_RATE / (1 - BETA), of the screening; the range
    grows if the best lies at an end of it."""

    batch_sizes: tuple[int, ...] | None = None
    """Examples per step; the screening uses the first."""

    schedules: tuple[str, ...] | None = None
    """Some of constant, step, cosine, warmup_cosine and
    one_cycle."""

    tuning_seeds: int | None = None
    """Runs of each trial after the screening."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        super().check()
        check(resolve_budget(self, BUDGETS))


class TuneBudget(NamedTuple):
    """Everything that is fixed before the first run."""

    dataset: str
    epochs: int
    seeds: int
    screening_epochs: int
    trials: int  # of each method in the screening
    effective_rate: tuple[float, float]
    one_minus_beta: tuple[float, float]
    finalists: int  # trials of each chosen method that are continued
    batch_sizes: tuple[int, ...]  # the first is that of the screening
    schedules: tuple[str, ...]
    tuning_seeds: int  # runs of each trial after the screening, which has one per trial
    factors: tuple[float, ...] = FACTORS

    @property
    def screening(self) -> SweepBudget:
        """The budget of a sweep at one batch size, whose space grows at most once."""
        return SweepBudget(
            dataset=self.dataset,
            epochs=self.screening_epochs,
            seeds=self.seeds,
            methods=SCREENED,
            batch_sizes=self.batch_sizes[:1],
            effective_rate=self.effective_rate,
            one_minus_beta=self.one_minus_beta,
            sampler="sobol",
            trials=self.trials,
            tuning_seeds=1,
            extensions=1,
        )


_DEFAULT = TuneBudget(
    dataset="digits",
    epochs=10,
    seeds=10,
    screening_epochs=4,
    trials=16,
    effective_rate=(0.02, 2.0),
    one_minus_beta=(0.01, 1.0),
    finalists=3,
    batch_sizes=(64, 32, 128),
    schedules=("constant", "cosine", "one_cycle"),
    tuning_seeds=1,
)
BUDGETS = {
    "smoke": _DEFAULT._replace(
        epochs=2,
        seeds=3,
        screening_epochs=1,
        trials=4,
        effective_rate=(0.05, 1.0),
        one_minus_beta=(0.02, 0.5),
        finalists=1,
        batch_sizes=(64,),
        schedules=("constant", "cosine"),
    ),
    "default": _DEFAULT,
    "paper": _DEFAULT._replace(
        dataset="cifar10",
        epochs=30,
        screening_epochs=5,
        trials=32,
        batch_sizes=(64, 128, 256, 512),
        schedules=SCHEDULE_NAMES,
        tuning_seeds=2,
    ),
}


def check(budget: TuneBudget) -> None:
    """Raises `UsageError` for a budget that is impossible for any data."""
    check_tuning(budget.tuning_seeds)
    check_batch_sizes(budget.batch_sizes)
    check_names("--schedules", budget.schedules, SCHEDULE_NAMES)
    sweep.check(budget.screening)
