"""The methods that studies tune, on the same two axes: effective rate and 1 − β."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import optax

from experiments.optimizers.arms import Arm
from optax_momentum import keras, qhm

_NU = 0.7  # the share of the momentum in QHM's step, as its authors advise


class Method(NamedTuple):
    """An arm whose steps settle at the effective learning rate times the gradient."""

    arm: Arm
    learning_rate: Callable[[float, float], float]  # of (effective rate, beta)
    tunes_beta: bool  # SGD does not: its beta is 0


def _inside(effective: float, beta: float) -> float:
    return effective * (1 - beta)


def _averaged(effective: float, beta: float) -> float:
    del beta
    return effective


def _qhm(learning_rate, beta) -> optax.GradientTransformation:
    return optax.chain(qhm(beta, _NU), optax.scale_by_learning_rate(learning_rate))


# Under a constant learning rate EMA momentum takes the steps of `momentum`, and so does
# PyTorch's: at equal effective rates they are one method. SGD is `momentum` at β = 0,
# and trained by the same program.
METHODS = {
    "sgd": Method(Arm("SGD", "θ ← θ − α g", keras), _inside, False),
    "momentum": Method(
        Arm("Momentum", "v ← β v − α g,  θ ← θ + v", keras), _inside, True
    ),
    "nesterov": Method(
        Arm(
            "Nesterov momentum",
            "v ← β v − α g,  θ ← θ + β v − α g",
            partial(keras, nesterov=True),
        ),
        _inside,
        True,
    ),
    "qhm": Method(
        Arm(
            "Quasi-hyperbolic momentum, ν = 0.7",
            "m ← β m + (1 − β) g,  θ ← θ − α (ν m + (1 − ν) g)",
            _qhm,
        ),
        _averaged,
        True,
    ),
}
