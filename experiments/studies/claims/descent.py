"""Momentum on functions of a few numbers: one descent, to be vmapped over many."""

from collections.abc import Callable

import jax
import optax
from jax import Array
from jaxtyping import Float, PyTree

from optax_momentum import keras

Scalar = float | Float[Array, ""]
Point = Float[Array, "..."]


def momentum(settled_step: Scalar, beta: Scalar) -> optax.GradientTransformation:
    """Momentum whose steps settle at `settled_step` times a constant gradient.

    Every method of these studies has this form. β = 0 is SGD. As long as the learning
    rate α is constant, EMA momentum has the settled step α, and heavy ball, PyTorch's
    and Keras's momentum have α/(1 − β).
    """
    return keras(settled_step * (1 - beta), beta)


def descend(
    gradient: Callable[[Point], Point],
    settled_step: Scalar,
    beta: Scalar,
    start: Point,
    noise: Float[Array, "steps ..."],
    observe: Callable[[Point], PyTree] = lambda x: x,
) -> tuple[Point, PyTree]:
    """Takes one step for each row of noise, along the gradient plus that row.

    Returns:
      The last point, and what `observe` returned of each point after the first.
    """
    transformation = momentum(settled_step, beta)

    def step(carry: PyTree, noise: Point) -> tuple[PyTree, PyTree]:
        x, state = carry
        updates, state = transformation.update(gradient(x) + noise, state)
        x = x + updates
        return (x, state), observe(x)

    initial = start, transformation.init(start)
    (last, _), observations = jax.lax.scan(step, initial, noise)
    return last, observations
