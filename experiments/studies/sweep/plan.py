"""The plan of a sweep: its budget, its rounds of trials, and when the space grows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from experiments.records.config import Config, UsageError, check_at_least_one
from experiments.studies.methods import METHODS
from experiments.studies.sweep.space import (
    LIMITS,
    SAMPLERS,
    SCRAMBLE_SEED,
    Axis,
    Points,
    Side,
    Space,
    Trial,
    can_extend,
    edges,
    extension,
    sides,
)
from experiments.studies.value_lists import check_batch_sizes, check_names, check_tuning


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
    check_names("--methods", budget.methods, METHODS)
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


class Round(NamedTuple):
    """Trials chosen together, in the declared space or in a strip beside it."""

    box: Space  # where they lie
    space: Space  # where they and the trials of all earlier rounds lie
    points: Points
    side: Side | None = None  # on which the space was extended
    wanted_by: tuple[str, ...] = ()  # methods whose best trial lay there


def first_round(budget: SweepBudget) -> Round:
    """The trials of the declared space."""
    space = budget.space
    points = SAMPLERS[budget.sampler](budget.trials, space, space, before=0)
    return Round(space, space, points)


def next_round(
    budget: SweepBudget, rounds: Sequence[Round], best: Mapping[str, Trial]
) -> Round | None:
    """The next round, on the side that most methods want; None if there is none.

    The best of all trials of the rounds so far decide, by method.
    """
    space, declared = rounds[-1].space, budget.space
    wanted: dict[Side, list[str]] = {}
    for method, trial in best.items():
        for side in edges(space, trial):
            if can_extend(space, side):
                wanted.setdefault(side, []).append(method)
    if not wanted or len(rounds) > budget.extensions:
        return None
    side = max(wanted, key=lambda side: len(wanted[side]))
    box, whole = extension(declared, space, side)
    before = sum(len(earlier.points.line) for earlier in rounds)
    points = SAMPLERS[budget.sampler](budget.trials, declared, box, before)
    return Round(box, whole, points, side, tuple(wanted[side]))


def trials(budget: SweepBudget, rounds: Sequence[Round]) -> list[Trial]:
    """All trials of the rounds: equally many of each method at each batch size."""
    return [
        Trial(method, rate, one_minus_beta, size)
        for tried in rounds
        for method in budget.methods
        for size in budget.batch_sizes
        for rate, one_minus_beta in (
            tried.points.plane
            if METHODS[method].tunes_beta
            else [(rate, 1.0) for rate in tried.points.line]
        )
    ]


def configured(base: Config, trial: Trial) -> Config:
    """The base config with the settings of a trial."""
    method = METHODS[trial.method]
    return replace(
        base,
        arm=trial.method,
        learning_rate=method.learning_rate(trial.effective_rate, trial.beta),
        beta=trial.beta,
        batch_size=trial.batch_size,
    )
