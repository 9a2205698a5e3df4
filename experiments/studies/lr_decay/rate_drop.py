"""One drop of the learning rate on a quadratic: by equation, and by the library."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum import heavy_ball, keras


class Drop(NamedTuple):
    """From 1 and at rest on ½·curvature·θ²; at step `at` the rate falls."""

    learning_rate: float = 0.02
    factor: float = 0.1
    beta: float = 0.9
    curvature: float = 1.0
    at: int = 8
    steps: int = 60


def by_equation(drop: Drop, inside: bool) -> np.ndarray:
    """θ₀ … θ_steps in float64.

    At a constant rate both conventions are θₖ₊₁ = (1 + β − αλ)·θₖ − β·θₖ₋₁, so that
    θₖ = c₁·r₁ᵏ + c₂·r₂ᵏ with the roots r of r² − (1 + β − αλ)·r + β. They part only in
    the velocity they enter the new rate with: inside keeps it, outside it falls too.

    Args:
      drop: what happens.
      inside: whether the rate is in the buffer, as in Keras.
    """
    before = _course(drop, drop.learning_rate, 1.0, 0.0, drop.at)
    velocity = before[-1] - before[-2]
    rate = drop.factor * drop.learning_rate
    kept = velocity if inside else drop.factor * velocity
    after = _course(drop, rate, before[-1], kept, drop.steps - drop.at)
    return np.concatenate([before, after[1:]])


def _course(
    drop: Drop, rate: float, start: float, velocity: float, steps: int
) -> np.ndarray:
    """`steps` steps at one rate from a place and the velocity of the step before."""
    total = 1 + drop.beta - rate * drop.curvature
    root = np.sqrt(complex(total**2 - 4 * drop.beta))
    first, second = (total + root) / 2, (total - root) / 2
    following = start + drop.beta * velocity - rate * drop.curvature * start
    share = (following - second * start) / (first - second)
    k = np.arange(steps + 1)
    return (share * first**k + (start - share) * second**k).real


def measured(drop: Drop, inside: bool) -> np.ndarray:
    """θ₀ … θ_steps as the library's optimizer goes, in float32."""

    def rate(step: Any) -> jax.Array:
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

    start = jnp.ones(())
    carry = start, optimizer.init(start)
    _, course = jax.lax.scan(step, carry, length=drop.steps)
    return np.concatenate([[1.0], course])
