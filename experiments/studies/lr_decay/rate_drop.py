"""A drop of the learning rate on a quadratic, by equation and by the library."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Float64

from optax_momentum import heavy_ball, keras


class Drop(NamedTuple):
    """Starts at rest from θ = 1 on ½·curvature·θ²; at step `at` the rate drops."""

    learning_rate: float = 0.02
    factor: float = 0.1
    beta: float = 0.9
    curvature: float = 1.0
    at: int = 8
    steps: int = 60


def by_equation(drop: Drop, inside: bool) -> Float64[np.ndarray, " steps+1"]:
    """θ₀ … θ_steps from the closed form.

    At a constant rate both conventions are θₖ₊₁ = (1 + β − αλ)·θₖ − β·θₖ₋₁, so that
    θₖ = c₁·r₁ᵏ + c₂·r₂ᵏ with the roots r of r² − (1 + β − αλ)·r + β. They differ only
    in the velocity at the drop: inside keeps it, outside scales it with the rate.

    Args:
      drop: the rates and the problem.
      inside: whether the rate is inside the buffer, as in Keras.
    """
    before = _path(drop, drop.learning_rate, 1.0, 0.0, drop.at)
    velocity = before[-1] - before[-2]
    rate = drop.factor * drop.learning_rate
    velocity = velocity if inside else drop.factor * velocity
    after = _path(drop, rate, before[-1], velocity, drop.steps - drop.at)
    return np.concatenate([before, after[1:]])


def _path(
    drop: Drop, rate: float, start: float, velocity: float, steps: int
) -> Float64[np.ndarray, " steps+1"]:
    """The path of `steps` steps at one rate; `velocity` is that of the step before."""
    total = 1 + drop.beta - rate * drop.curvature
    root = np.sqrt(complex(total**2 - 4 * drop.beta))
    first, second = (total + root) / 2, (total - root) / 2
    following = start + drop.beta * velocity - rate * drop.curvature * start
    share = (following - second * start) / (first - second)
    k = np.arange(steps + 1)
    return (share * first**k + (start - share) * second**k).real


def measured(drop: Drop, inside: bool) -> Float64[np.ndarray, " steps+1"]:
    """θ₀ … θ_steps from the library's optimizer, which computes in float32."""

    def rate(step: Any) -> Float[jax.Array, ""]:
        return drop.learning_rate * jnp.where(step < drop.at, 1.0, drop.factor)

    if inside:
        optimizer = keras(rate, drop.beta)
    else:
        outside = optax.scale_by_learning_rate(rate)
        optimizer = optax.chain(heavy_ball(drop.beta), outside)

    def step(carry: Any, _: None) -> Any:
        theta, state = carry
        updates, state = optimizer.update(drop.curvature * theta, state)
        theta = optax.apply_updates(theta, updates)
        return (theta, state), theta

    start = jnp.ones((), jnp.float32)
    carry = start, optimizer.init(start)
    _, path = jax.lax.scan(step, carry, length=drop.steps)
    return np.concatenate([[1.0], path])
