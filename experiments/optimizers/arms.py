"""Arms: the optimizers that `compare` puts side by side, and what each computes."""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import optax
from jaxtyping import PyTree

from optax_momentum import ema, keras, storage


class MakeOptimizer(Protocol):
    """Builds the transformation from gradients to updates, which are ready to add."""

    def __call__(
        self, learning_rate: Any, beta: Any, /
    ) -> optax.GradientTransformation:
        """Takes numbers, traced scalars or, for the rate, a function of steps done."""
        ...


class Arm(NamedTuple):
    """An optimizer under comparison, as in the arm of a clinical trial.

    Every arm of a plan gets the same learning rate and beta. If an arm uses another
    rate, its equation says how that follows from the plan's.
    """

    title: str
    equation: str  # θ parameters, g gradient, α learning rate, β beta, v buffer
    transformation: MakeOptimizer


def with_decay(
    transformation: optax.GradientTransformation,
    weight_decay: float,
    kernels_only: bool = False,
) -> optax.GradientTransformation:
    """The optimizer for gradients g + λθ, as PyTorch's `weight_decay`.

    Args:
      transformation: whatever follows, with its momentum.
      weight_decay: λ; for 0 the optimizer remains as it is.
      kernels_only: whether parameters of fewer than two axes are spared.
    """
    if not weight_decay:
        return transformation

    def kernels(params: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.ndim >= 2, params)

    mask = kernels if kernels_only else None
    return optax.chain(optax.add_decayed_weights(weight_decay, mask), transformation)


def _sgd(learning_rate: float, beta: float) -> optax.GradientTransformation:
    del beta
    return optax.sgd(learning_rate)


def _ema(learning_rate: float, beta: float) -> optax.GradientTransformation:
    return optax.chain(ema(beta), optax.scale_by_learning_rate(learning_rate))


def _sgd_large_step(learning_rate: float, beta: float) -> optax.GradientTransformation:
    return optax.sgd(learning_rate / (1 - beta))


# Under a constant gradient g, the steps of the first two settle at α g, those of the
# others at α g / (1 − β): a difference is due to momentum only between arms whose
# settled steps are equal.
ARMS = {
    "sgd": Arm("SGD", "θ ← θ − α g", _sgd),
    # The tutorial's equation.
    "ema": Arm("EMA momentum", "v ← β v + (1 − β) g,  θ ← θ − α v", _ema),
    "sgd_large_step": Arm("SGD, large step", "θ ← θ − α / (1 − β) g", _sgd_large_step),
    # The tutorial's code.
    "keras": Arm("Keras momentum", "v ← β v − α g,  θ ← θ + v", keras),
}

# One method that stores its buffer in 4, 2 or about 1 bytes per parameter.
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
