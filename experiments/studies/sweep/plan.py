"""The plan of a sweep: its rounds of trials, and when the space grows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from experiments.records.config import Config
from experiments.studies.methods import METHODS
from experiments.studies.sweep.options import SweepBudget
from experiments.studies.sweep.space import (
    SAMPLERS,
    Points,
    Side,
    Space,
    Trial,
    can_extend,
    edges,
    extension,
)


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
