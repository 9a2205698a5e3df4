"""The arms of `compare`: ways to turn gradients into steps."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import optax

from optax_momentum import ema, keras, storage


class Arm(NamedTuple):
    """One way to turn gradients into steps.

    `transformation(learning_rate, beta)` takes the plan's learning rate; where the arm
    derives its own from it, `equation` says how. Its updates are ready to be added.
    """

    title: str
    equation: str  # θ parameters, g gradient, α learning rate, β beta, v buffer
    transformation: Callable[[float, float], optax.GradientTransformation]


def _sgd(learning_rate: float, beta: float) -> optax.GradientTransformation:
    del beta
    return optax.sgd(learning_rate)


def _ema(learning_rate: float, beta: float) -> optax.GradientTransformation:
    return optax.chain(ema(beta), optax.scale_by_learning_rate(learning_rate))


def _sgd_large_step(learning_rate: float, beta: float) -> optax.GradientTransformation:
    return optax.sgd(learning_rate / (1 - beta))


# Under a constant gradient g, the first two settle at steps of α g, the others at
# α g / (1 − β): only at equal settled steps is a difference due to momentum.
ARMS = {
    "sgd": Arm("SGD", "θ ← θ − α g", _sgd),
    # The tutorial's equation.
    "ema": Arm("EMA momentum", "v ← β v + (1 − β) g,  θ ← θ − α v", _ema),
    "sgd_large_step": Arm("SGD, large step", "θ ← θ − α / (1 − β) g", _sgd_large_step),
    # The tutorial's code.
    "keras": Arm("Keras momentum", "v ← β v − α g,  θ ← θ + v", keras),
}

# One method, its buffer kept in 4, 2 and about 1 bytes a parameter.
STORAGES = {
    "keras": ARMS["keras"],
    "keras_bfloat16": Arm(
        "Keras momentum, kept in bfloat16",
        "v ← round(β v − α g),  θ ← θ + (β v − α g)",
        partial(keras, storage=storage.bfloat16()),
    ),
    "keras_int8": Arm(
        "Keras momentum, kept in 8 bits",
        "v ← round(β v − α g),  θ ← θ + (β v − α g)",
        partial(keras, storage=storage.int8()),
    ),
}
