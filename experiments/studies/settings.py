"""Settings of SGD with momentum on the axes on which it is tuned, and their configs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from experiments.records.config import Config, significant
from experiments.records.runs import Run
from experiments.studies import methods


class Setting(NamedTuple):
    """β, which is 0 for SGD, and the effective learning rate α/(1 − β)."""

    beta: float
    rate: float


Trials = Mapping[Setting, Sequence[Run]]  # all settings have the same folds or seeds


def learning_rate(setting: Setting) -> float:
    """The learning rate α of a setting."""
    return methods.learning_rate(setting.rate, setting.beta)


def configured(base: Config, setting: Setting) -> Config:
    """The base config with a setting; β = 0 makes it a config of SGD."""
    arm, beta = "momentum" if setting.beta else "sgd", setting.beta
    return replace(base, arm=arm, beta=beta, learning_rate=learning_rate(setting))


def extended(
    rates: Sequence[float], best: Collection[float], digits: int = 15
) -> tuple[float, ...]:
    """The rates, with one more beyond each end that is among the best ones.

    The ratio of a new rate to its neighbor is that of the neighbor to the next, but for
    rounding to `digits`. There must be at least two rates, in rising order.
    """
    wider = tuple(rates)
    if rates[0] in best:
        wider = (significant(rates[0] ** 2 / rates[1], digits), *wider)
    if rates[-1] in best:
        wider = (*wider, significant(rates[-1] ** 2 / rates[-2], digits))
    return wider
