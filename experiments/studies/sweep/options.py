"""The options of `sweep`, and the budget that they change."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from experiments.records.config import UsageError, check_at_least_one
from experiments.studies.options import METHOD_NAMES, StudyOptions, resolve_budget
from experiments.studies.sweep.space import LIMITS, SCRAMBLE_SEED, Axis, Space, sides
from experiments.studies.value_lists import check_batch_sizes, check_names, check_tuning


@dataclass(frozen=True)
class Sweep(StudyOptions):
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
    """Examples per step; every method is tried at each."""

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
    """Runs of each trial; its result is their mean accuracy,
    or other metric, on the validation split."""

    extensions: int | None = None
    """How many times the space may grow, each time by half
    an axis."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        super().check()
        check(resolve_budget(self, BUDGETS))


class SweepBudget(NamedTuple):
    """Everything that is fixed before the first run."""

    dataset: str
    epochs: int
    seeds: int  # of the final runs
    methods: tuple[str, ...]  # sgd, and those that are compared with it
    batch_sizes: tuple[int, ...]
    effective_rate: tuple[float, float]
    one_minus_beta: tuple[float, float]
    sampler: Literal["sobol", "grid"]
    trials: int  # of each method at each batch size, in the space as declared
    tuning_seeds: int  # runs of a trial
    extensions: int  # the most times that the space may grow
    scramble_seed: int = SCRAMBLE_SEED
    metric: str = "mean validation accuracy of the last epoch; of equals, the loss"

    @property
    def space(self) -> Space:
        """The space as declared, before any extension."""
        return Space(Axis(*self.effective_rate), Axis(*self.one_minus_beta))


_DEFAULT = SweepBudget(
    dataset="digits",
    epochs=10,
    seeds=10,
    methods=("sgd", "momentum", "nesterov"),
    batch_sizes=(64,),
    effective_rate=(0.01, 3.0),
    one_minus_beta=(0.005, 0.5),
    sampler="sobol",
    trials=24,
    tuning_seeds=1,
    extensions=1,
)
BUDGETS = {
    "smoke": _DEFAULT._replace(
        epochs=2,
        seeds=2,
        methods=("sgd", "momentum"),
        effective_rate=(0.01, 1.0),
        one_minus_beta=(0.01, 0.5),
        trials=6,
    ),
    "default": _DEFAULT,
    "paper": _DEFAULT._replace(
        dataset="cifar10", batch_sizes=(64, 512), trials=32, extensions=2
    ),
}


def check(budget: SweepBudget) -> None:
    """Raises `UsageError` for a budget that is impossible for any data."""
    check_names("--methods", budget.methods, METHOD_NAMES)
    if "sgd" not in budget.methods:
        raise UsageError("--methods lacks sgd, with which the others are compared.")
    check_batch_sizes(budget.batch_sizes)
    for name, limits in LIMITS._asdict().items():
        low, high = getattr(budget, name)
        if not limits.low <= low < high <= limits.high:
            raise UsageError(
                f"--{name.replace('_', '-')} must be LOW HIGH with {limits.low:g} <= "
                f"LOW < HIGH <= {limits.high:g}, got {low} {high}."
            )
    check_at_least_one(
        "--trials", budget.trials, "those of each method and batch size", 10_000
    )
    check_tuning(budget.tuning_seeds, budget.extensions)
    if budget.sampler == "grid":
        sides(budget.trials)
