"""What a sweep does: its budget, its rounds of trials, and when the space grows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from experiments.records.config import Config, UsageError, check_at_least_one
from experiments.studies.methods import METHODS
from experiments.studies.sweep.sampling import SAMPLERS, SCRAMBLE_SEED, Points, sides
from experiments.studies.sweep.space import (
    LIMITS,
    Axis,
    Side,
    Space,
    Trial,
    can_extend,
    edges,
    extension,
)


class Budget(NamedTuple):
    """All that is fixed before the first run."""

    dataset: str
    epochs: int
    seeds: int  # of the final runs
    methods: tuple[str, ...]  # sgd, and what is compared with it
    batch_sizes: tuple[int, ...]
    effective_rate: tuple[float, float]
    one_minus_beta: tuple[float, float]
    sampler: Literal["sobol", "grid"]
    trials: int  # of each method at each batch size, in the space as declared
    tuning_seeds: int  # runs of a trial
    extensions: int  # at most so many times does the space grow
    scramble_seed: int = SCRAMBLE_SEED
    metric: str = "mean validation accuracy of the last epoch; of equals, the loss"

    @property
    def space(self) -> Space:
        """As declared, before any extension."""
        return Space(Axis(*self.effective_rate), Axis(*self.one_minus_beta))


BUDGETS = {
    "smoke": Budget(
        dataset="digits",
        epochs=2,
        seeds=2,
        methods=("sgd", "momentum"),
        batch_sizes=(64,),
        effective_rate=(0.01, 1.0),
        one_minus_beta=(0.01, 0.5),
        sampler="sobol",
        trials=6,
        tuning_seeds=1,
        extensions=1,
    ),
    "default": Budget(
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
    ),
    "paper": Budget(
        dataset="cifar10",
        epochs=10,
        seeds=10,
        methods=("sgd", "momentum", "nesterov"),
        batch_sizes=(64, 512),
        effective_rate=(0.01, 3.0),
        one_minus_beta=(0.005, 0.5),
        sampler="sobol",
        trials=32,
        tuning_seeds=1,
        extensions=2,
    ),
}


def check(budget: Budget) -> None:
    """Raises `UsageError` for a budget that no data allow."""
    _check_list("--methods", budget.methods, "sgd momentum")
    for method in budget.methods:
        if method not in METHODS:
            raise UsageError(
                f"--methods has no {method!r}; choose from {', '.join(METHODS)}."
            )
    if "sgd" not in budget.methods:
        raise UsageError("--methods lacks sgd, with which the others are compared.")
    _check_list("--batch-sizes", budget.batch_sizes, "64 512")
    for size in budget.batch_sizes:
        check_at_least_one("--batch-sizes", size, "each is the images of a step")
    for name, limits in LIMITS._asdict().items():
        low, high = getattr(budget, name)
        if not limits.low <= low < high <= limits.high:
            raise UsageError(
                f"--{name.replace('_', '-')} must be LOW HIGH with {limits.low:g} <= "
                f"LOW < HIGH <= {limits.high:g}, got {low} {high}."
            )
    check_at_least_one(
        "--trials", budget.trials, "of each method and batch size", 10_000
    )
    check_at_least_one(
        "--tuning-seeds", budget.tuning_seeds, "the runs of a trial", 1_000
    )
    if budget.extensions < 0:
        raise UsageError(
            f"--extensions must be at least 0, got {budget.extensions}: how often the "
            "space may grow."
        )
    if budget.sampler == "grid":
        sides(budget.trials)


def _check_list(option: str, values: Sequence[object], example: str) -> None:
    if not values:
        raise UsageError(f"{option} is empty; name some, such as {option} {example}.")
    for value in values:
        if values.count(value) > 1:
            raise UsageError(f"{option} names {value} twice; name each once.")


class Round(NamedTuple):
    """Trials that are chosen together: the declared space, or a strip beside it."""

    box: Space  # where they lie
    space: Space  # where all trials lie, those of earlier rounds too
    points: Points
    side: Side | None = None  # that was extended
    wanted_by: tuple[str, ...] = ()  # methods whose best trial lay there


def first_round(budget: Budget) -> Round:
    """The trials of the space as declared."""
    space = budget.space
    sampler = SAMPLERS[budget.sampler]
    return Round(space, space, sampler(budget.trials, space, space, 0))


def next_round(
    budget: Budget, rounds: Sequence[Round], best: Mapping[str, Trial]
) -> Round | None:
    """The round that follows, on the side that most methods want; None at the end.

    Args:
      budget: of the plan.
      rounds: so far, at least the first.
      best: of all their trials, by method.
    """
    space, declared = rounds[-1].space, budget.space
    wanted: dict[Side, list[str]] = {}
    for method, trial in best.items():
        for side in edges(space, trial):
            if can_extend(space, side):
                wanted.setdefault(side, []).append(method)
    if not wanted or len(rounds) > budget.extensions:
        return None
    side = max(wanted, key=lambda each: len(wanted[each]))
    box, whole = extension(declared, space, side)
    before = sum(len(each.points.line) for each in rounds)
    points = SAMPLERS[budget.sampler](budget.trials, declared, box, before)
    return Round(box, whole, points, side, tuple(wanted[side]))


def trials(budget: Budget, rounds: Sequence[Round]) -> list[Trial]:
    """All trials of some rounds: as many of each method at each batch size."""
    return [
        Trial(method, rate, other, size)
        for each in rounds
        for method in budget.methods
        for size in budget.batch_sizes
        for rate, other in (
            each.points.plane
            if METHODS[method].tunes_beta
            else [(rate, 1.0) for rate in each.points.line]
        )
    ]


def configured(base: Config, trial: Trial) -> Config:
    """The config of a trial; its seed and whether it is tested are the base's."""
    rate = METHODS[trial.method].learning_rate(trial.effective_rate, trial.beta)
    return replace(
        base,
        arm=trial.method,
        learning_rate=float(f"{rate:.6g}"),  # without the noise of a subtraction
        beta=trial.beta,
        batch_size=trial.batch_size,
    )
