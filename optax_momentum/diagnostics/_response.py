"""The impulse response of a linear transformation: gain, noise gain and half-life."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum._base.checks import check_scalar
from optax_momentum._base.scalars import is_concrete


def impulse_response(
    transformation: optax.GradientTransformation, steps: int, *, after: int = 0
) -> jax.Array:
    """Measures how a single gradient acts on the updates from its step on.

    The transformation is fed gradients of 0 for `after` steps, then one gradient of 1,
    then 0 again. The response describes a linear transformation completely: every
    update is a sum of past gradients, each weighted by the response at its age. For
    coefficients (β, a, b, c), the response is a·b + c at age 0 and a·b·βᵏ at age k.

    Args:
      transformation: a transformation of one scalar parameter, linear in the gradients.
      steps: the length of the response, at least 1.
      after: number of steps before the impulse, for transformations that depend on the
        step. With 0, the impulse is at the first step, which `heavy_ball` does not
        dampen and debiasing enlarges. With 1000, say, the run has settled.

    Returns:
      The response, of shape [steps], in updates per gradient, with the updates' sign.

    Raises:
      ValueError: steps is not a whole number ≥ 1, or after is not a whole number ≥ 0.

    >>> from optax_momentum import heavy_ball
    >>> impulse_response(heavy_ball(0.5), 4)
    Array([1.   , 0.5  , 0.25 , 0.125], dtype=float32)
    """
    _check_count("impulse_response: steps", steps, least=1)
    _check_count("impulse_response: after", after, least=0)
    zero = jnp.zeros(())

    def step(state: optax.OptState, gradient: jax.Array) -> tuple[optax.OptState, Any]:
        update, state = transformation.update(gradient, state, zero)
        return state, update

    gradients = jnp.zeros(after + steps).at[after].set(1.0)
    return jax.lax.scan(step, transformation.init(zero), gradients)[1][after:]


def gain(response: jax.Array) -> jax.Array:
    """Computes the update that a constant gradient of 1 settles at.

    It is the sum of the response: a·b/(1 − β) + c for coefficients (β, a, b, c).

    Args:
      response: the result of `impulse_response`, of shape [steps], long enough to
        decay.

    Returns:
      The gain, of shape (), in updates per gradient.

    Raises:
      ValueError: the response has not decayed: its end exceeds 0.01% of its peak.

    >>> from optax_momentum import heavy_ball
    >>> gain(impulse_response(heavy_ball(0.5, nesterov=True), 40)).round(3)
    Array(2., dtype=float32)
    """
    _check_decayed("gain", response)
    return jnp.sum(response)


def noise_gain(response: jax.Array) -> jax.Array:
    """Computes the variance of the update per variance of independent gradient noise.

    It is the sum of the squared response: (a·b + c)² + (a·b·β)²/(1 − β²) for
    coefficients (β, a, b, c). An average, which has gain 1, is less noisy than a single
    gradient: `ema` has (1 − β)/(1 + β) of its variance. Divide by gain² to compare
    other methods.

    Args:
      response: the result of `impulse_response`, of shape [steps], long enough to
        decay.

    Returns:
      The noise gain, of shape (), in updates² per gradient².

    Raises:
      ValueError: the response has not decayed: its end exceeds 0.01% of its peak.

    >>> from optax_momentum import ema
    >>> noise_gain(impulse_response(ema(0.5), 40)).round(3)  # (1 − 0.5)/(1 + 0.5)
    Array(0.333, dtype=float32)
    """
    _check_decayed("noise_gain", response)
    return jnp.sum(jnp.square(response))


def half_life(response: jax.Array) -> jax.Array:
    """Computes the number of steps after which a gradient has had half of its effect.

    Between steps, the remaining effect is interpolated geometrically. For `ema` and
    `heavy_ball`, the half-life is exactly ln 2/−ln β; for Nesterov, one step less.

    Args:
      response: the result of `impulse_response`, of shape [steps] and a single sign,
        long enough to decay.

    Returns:
      The half-life, of shape (), in steps: 0 if the first update has the whole effect.

    Raises:
      ValueError: the response has not decayed: its end exceeds 0.01% of its peak.

    >>> from optax_momentum import heavy_ball
    >>> half_life(impulse_response(heavy_ball(0.5), 40)).round(3)
    Array(1., dtype=float32)
    """
    _check_decayed("half_life", response)
    done = jnp.cumsum(response) / jnp.sum(response)
    remaining = jnp.concatenate([jnp.ones_like(done[:1]), 1 - done])
    after = jnp.argmax(remaining <= 0.5)  # the first step that leaves half or less
    before = remaining[after - 1]
    fall = jnp.log(before) - jnp.log(jnp.maximum(remaining[after], 0))
    return (after - 1).astype(done.dtype) + (jnp.log(before) + np.log(2.0)) / fall


def _check_count(name: str, count: int, least: int) -> None:
    check_scalar(
        name,
        count,
        lambda known: known >= least and known % 1 == 0,
        f"be a whole number of at least {least}",
        "It is a number of steps.",
    )


def _check_decayed(call: str, response: jax.Array) -> None:
    """Raises if the end of the response exceeds 0.01% of its peak."""
    if not is_concrete(response):
        return
    last, peak = abs(np.asarray(response)[-1]), np.abs(np.asarray(response)).max()
    if not last <= 1e-4 * peak:
        raise ValueError(
            f"{call}: the response must have decayed, but its last entry is {last!s} "
            f"and its largest is {peak!s}. Measure more than {len(response)} steps."
        )
