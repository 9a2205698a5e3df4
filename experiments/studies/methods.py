"""The methods that studies tune, all on the same two axes: effective rate and 1 − β.

The effective learning rate, α/(1 − β) for momentum, is the factor of the settled step:
under a constant gradient g, the steps of every method settle at it times g.
"""

from functools import partial
from typing import NamedTuple

import optax

from experiments.optimizers.arms import Arm
from optax_momentum import keras, qhm

_NU = 0.7  # the weight of the momentum in QHM's step, as its authors recommend


def learning_rate(effective_rate: float, beta: float) -> float:
    """α = effective_rate · (1 − β), to six significant digits.

    Six digits hide the rounding error of 1 − β in binary. Every study uses this
    function, because the digits of α are part of what identifies a recorded run.

    >>> learning_rate(0.3, 0.93)
    0.021
    """
    return float(f"{effective_rate * (1 - beta):.6g}")


class Method(NamedTuple):
    """An optimizer that is tuned over effective learning rates."""

    arm: Arm
    averages_gradients: bool = False  # then α itself is the effective learning rate
    tunes_beta: bool = True  # SGD doesn't: its β is 0

    def learning_rate(self, effective_rate: float, beta: float) -> float:
        """The learning rate that gives the method this effective one."""
        return learning_rate(effective_rate, 0.0 if self.averages_gradients else beta)


def _qhm(learning_rate, beta) -> optax.GradientTransformation:
    return optax.chain(qhm(beta, _NU), optax.scale_by_learning_rate(learning_rate))


_NESTEROV = "v ← β v − α g,  θ ← θ + β v − α g"
_QHM = "m ← β m + (1 − β) g,  θ ← θ − α (ν m + (1 − ν) g)"
# At a constant learning rate, `momentum` takes the same steps as EMA momentum and as
# PyTorch's momentum of equal effective rates. SGD is `momentum` at β = 0, and the same
# program trains both.
METHODS = {
    "sgd": Method(Arm("SGD", "θ ← θ − α g", keras), tunes_beta=False),
    "momentum": Method(Arm("Momentum", "v ← β v − α g,  θ ← θ + v", keras)),
    "nesterov": Method(
        Arm("Nesterov momentum", _NESTEROV, partial(keras, nesterov=True))
    ),
    "qhm": Method(
        Arm("Quasi-hyperbolic momentum, ν = 0.7", _QHM, _qhm), averages_gradients=True
    ),
}


def title(method: str) -> str:
    """The name of a method for readers."""
    return METHODS[method].arm.title
