"""Momentum on functions of a few numbers: one descent, to be vmapped over many."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import Array

from optax_momentum import keras

Scalar = float | Array


def momentum(settled_step: Scalar, beta: Scalar) -> optax.GradientTransformation:
    """Momentum whose steps settle at `settled_step` times a constant gradient.

    Every arm of these studies is one: at β = 0 it is SGD; at learning rates that never
    change, EMA momentum at α is it with settled step α, and heavy ball, PyTorch's and
    Keras's, with α/(1 − β).
    """
    return keras(settled_step * (1 - beta), beta)


def descend(
    gradient: Callable[[Array], Array],
    settled_step: Scalar,
    beta: Scalar,
    start: Array,
    noise: Array,
    keep: Callable[[Array], Any] = lambda x: x,
) -> tuple[Array, Any]:
    """As many steps as there is noise, each along the gradient plus its noise.

    Args:
      gradient: of the function, at a point.
      settled_step: η/(1 − β), in parameters per gradient.
      beta: of the momentum; 0 is SGD.
      start: the first point, of any shape.
      noise: what is added to the gradients, [steps, *shape].
      keep: what is kept of each point after the first.

    Returns:
      The last point, and what is kept, [steps, ...].
    """
    transformation = momentum(settled_step, beta)

    def step(carry: Any, noise: Array) -> tuple[Any, Any]:
        x, state = carry
        updates, state = transformation.update(gradient(x) + noise, state)
        x = x + updates
        return (x, state), keep(x)

    (last, _), kept = jax.lax.scan(step, (start, transformation.init(start)), noise)
    return last, kept
