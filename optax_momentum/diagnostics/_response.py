"""The impulse response of a linear transformation, and what follows from it."""

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
    """What one gradient does to the updates from its step on, measured.

    The gradients fed are 0 for `after` steps, then 1, then 0. Of a linear
    transformation that is all there is to know: every update is a sum of gradients,
    each weighted by the response at its age. For the coefficients (β, a, b, c) it is
    a·b + c and then a·b·βᵏ.

    Args:
      transformation: any that is linear in the gradients, of one scalar parameter.
      steps: the length of the response, at least 1.
      after: steps before the impulse, for what depends on the step. At 0 the impulse
        meets the first step, which `heavy_ball` does not dampen and debiasing
        magnifies; at 1000, say, it meets a settled run.

    Returns:
      Shape [steps], in updates per gradient, with the sign of the update.

    Raises:
      ValueError: steps not a whole number ≥ 1, or after not one ≥ 0.

    >>> from optax_momentum import heavy_ball
    >>> impulse_response(heavy_ball(0.5), 4)
    Array([1.   , 0.5  , 0.25 , 0.125], dtype=float32)
    """
    _check_count("impulse_response: steps", steps, least=1)
    _check_count("impulse_response: after", after, least=0)
    zero = jnp.zeros(())

    def step(state: Any, gradient: jax.Array) -> tuple[Any, Any]:
        update, state = transformation.update(gradient, state, zero)
        return state, update

    gradients = jnp.zeros(after + steps).at[after].set(1.0)
    return jax.lax.scan(step, transformation.init(zero), gradients)[1][after:]


def gain(response: jax.Array) -> jax.Array:
    """What a constant gradient of 1 settles at: the sum of the response.

    Args:
      response: shape [steps], from `impulse_response`, until it has died out.

    Returns:
      Shape (), in updates per gradient: a·b/(1 − β) + c.

    Raises:
      ValueError: the response has not died out.

    >>> from optax_momentum import heavy_ball
    >>> gain(impulse_response(heavy_ball(0.5, nesterov=True), 40)).round(3)
    Array(2., dtype=float32)
    """
    _check_died_out("gain", response)
    return jnp.sum(response)


def noise_gain(response: jax.Array) -> jax.Array:
    """The variance of the update per variance of independent noise in the gradients.

    The sum of the squared response. An average, of gain 1, has less noise than a
    gradient: (1 − β)/(1 + β) of it for `ema`. Divide by gain² to compare others.

    Args:
      response: shape [steps], from `impulse_response`, until it has died out.

    Returns:
      Shape (), in updates² per gradient²: (a·b + c)² + (a·b·β)²/(1 − β²).

    Raises:
      ValueError: the response has not died out.

    >>> from optax_momentum import ema
    >>> noise_gain(impulse_response(ema(0.5), 40)).round(3)  # (1 − 0.5)/(1 + 0.5)
    Array(0.333, dtype=float32)
    """
    _check_died_out("noise_gain", response)
    return jnp.sum(jnp.square(response))


def half_life(response: jax.Array) -> jax.Array:
    """The steps after which half of what a gradient does is done.

    Between two steps what remains is taken to fall geometrically: for `ema` and
    `heavy_ball` that is ln 2/−ln β exactly; Nesterov's form is one step earlier.

    Args:
      response: shape [steps], of one sign, from `impulse_response`, until it has died
        out.

    Returns:
      Shape (), in steps: 0 where the first update does it all.

    Raises:
      ValueError: the response has not died out.

    >>> from optax_momentum import heavy_ball
    >>> half_life(impulse_response(heavy_ball(0.5), 40)).round(3)
    Array(1., dtype=float32)
    """
    _check_died_out("half_life", response)
    done = jnp.cumsum(response) / jnp.sum(response)
    remains = jnp.concatenate([jnp.ones_like(done[:1]), 1 - done])
    after = jnp.argmax(remains <= 0.5)  # the first step that leaves half or less
    before = remains[after - 1]
    fall = jnp.log(before) - jnp.log(jnp.maximum(remains[after], 0))
    return (after - 1).astype(done.dtype) + (jnp.log(before) + np.log(2.0)) / fall


def _check_count(name: str, count: int, least: int) -> None:
    check_scalar(
        name,
        count,
        lambda known: known >= least and known % 1 == 0,
        f"be a whole number of at least {least}",
        "It is a number of steps.",
    )


def _check_died_out(call: str, response: jax.Array) -> None:
    """Raises where the end of the response is above 0.01% of its peak."""
    if not is_concrete(response):
        return
    last, peak = abs(np.asarray(response)[-1]), np.abs(np.asarray(response)).max()
    if not last <= 1e-4 * peak:
        raise ValueError(
            f"{call}: the response must have died out, but its last entry is {last!s} "
            f"and its largest {peak!s}. Measure it for more than {len(response)} steps."
        )
