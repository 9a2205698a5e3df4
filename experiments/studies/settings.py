"""A setting of SGD with momentum, on the axes on which it is tuned."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from experiments.records.config import Config
from experiments.records.runs import Run
from experiments.studies.methods import METHODS


class Setting(NamedTuple):
    """Beta, 0 for SGD, and the effective learning rate α/(1 − β)."""

    beta: float
    rate: float


Trials = Mapping[Setting, Sequence[Run]]  # the same folds or seeds of every setting


def learning_rate(setting: Setting) -> float:
    """α, without the noise of a subtraction in binary."""
    return float(f"{METHODS['momentum'].learning_rate(setting.rate, setting.beta):.9g}")


def configured(base: Config, setting: Setting) -> Config:
    """The config of a setting, as SGD where its beta is 0."""
    arm, beta = "momentum" if setting.beta else "sgd", setting.beta
    return replace(base, arm=arm, beta=beta, learning_rate=learning_rate(setting))
