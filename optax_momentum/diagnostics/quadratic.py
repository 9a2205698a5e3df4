"""Momentum on the quadratic λ·x²/2: where it is stable, and how fast it converges."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from optax_momentum._base.scalars import promote_scalar
from optax_momentum._methods.momentum import Coefficients


def stability_limit(coefficients: Coefficients) -> Any:
    """The learning rate times curvature up to which descent converges.

        0 < η·λ < 2(1 + β)/(a·b + c·(1 + β))

    For gradient descent (β = 0) that is 2; for `heavy_ball` 2(1 + β), for its
    `nesterov` form (2 + 2β)/(1 + 2β), for `ema` 2(1 + β)/(1 − β).

    Args:
      coefficients: (β, a, b, c) of a method whose update is subtracted, scaled by the
        learning rate η outside: `ema_coefficients(0.9)(step)`, say. 0 ≤ β < 1.

    Returns:
      The limit of η·λ, without unit, a number where the coefficients are.

    >>> from optax_momentum import heavy_ball_coefficients
    >>> stability_limit(heavy_ball_coefficients(0.5)(0))
    3.0
    """
    beta, gain, from_buffer, from_gradient = map(promote_scalar, coefficients)
    return 2 * (1 + beta) / (gain * from_buffer + from_gradient * (1 + beta))


def convergence_rate(coefficients: Coefficients, curvature: ArrayLike) -> jax.Array:
    """The factor by which the distance to the minimum shrinks a step, in the long run.

        xₜ₊₁ = p·xₜ − q·xₜ₋₁,   p = 1 + β − h·(a·b + c),   q = β·(1 − h·c)

    with h = η·λ; the rate is the largest modulus of a root of z² − p·z + q. It is √β
    for `heavy_ball` wherever the roots are complex, (1 − √β)² < h < (1 + √β)².

    Args:
      coefficients: (β, a, b, c); see `stability_limit`.
      curvature: h = η·λ, learning rate times curvature, of any shape.

    Returns:
      The rate, of the shape of `curvature`: above 1 it diverges. Where coefficients
      change with the step, this is the rate of those given.

    >>> from optax_momentum import heavy_ball_coefficients
    >>> convergence_rate(heavy_ball_coefficients(0.25)(0), 1.0)
    Array(0.5, dtype=float32)
    """
    dtype = jnp.result_type(float)
    h, beta, gain, from_buffer, from_gradient = (
        jnp.asarray(x, dtype) for x in (curvature, *coefficients)
    )
    p = 1 + beta - h * (gain * from_buffer + from_gradient)
    q = beta * (1 - h * from_gradient)
    discriminant = p * p - 4 * q
    real = (jnp.abs(p) + jnp.sqrt(jnp.maximum(discriminant, 0))) / 2
    return jnp.where(discriminant < 0, jnp.sqrt(jnp.maximum(q, 0)), real)


def measured_convergence_rate(
    optimizer: optax.GradientTransformation, curvature: float, *, after: int = 1
) -> float:
    """The same for any optimizer that is linear, measured on λ·x²/2.

    One step is differentiated with respect to x and every floating-point scalar of the
    state: a matrix, whose largest eigenvalue among those that x takes part in is the
    rate. So also several buffers, weight decay and debiasing are covered.

    Args:
      optimizer: emits what is added to x, learning rate and sign included, and is
        linear in gradient, parameter and state.
      curvature: λ, in gradients per parameter.
      after: steps without gradient before that one, for what depends on the step:
        `heavy_ball` does not dampen its first.

    Returns:
      The rate: above 1 it diverges. Computed on the host, not under `jax.jit`.

    >>> import optax
    >>> from optax_momentum import heavy_ball
    >>> optimizer = optax.chain(heavy_ball(0.25), optax.scale_by_learning_rate(0.1))
    >>> round(measured_convergence_rate(optimizer, curvature=10.0), 3)
    0.5
    """
    zero = jnp.zeros(())

    def wait(_: int, state: Any) -> Any:
        return optimizer.update(zero, state, zero)[1]

    state = jax.lax.fori_loop(0, after, wait, optimizer.init(zero))
    leaves, tree = jax.tree.flatten(state)
    floats = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]

    def variable(leaves: Any) -> list[Any]:
        return [leaf for leaf, float_ in zip(leaves, floats, strict=True) if float_]

    start, unravel = ravel_pytree([zero, *variable(leaves)])

    def step(vector: jax.Array) -> jax.Array:
        x, *rest = unravel(vector)
        moved = iter(rest)
        filled = [
            next(moved) if float_ else leaf
            for leaf, float_ in zip(leaves, floats, strict=True)
        ]
        update, new = optimizer.update(curvature * x, tree.unflatten(filled), x)
        return ravel_pytree([x + update, *variable(jax.tree.leaves(new))])[0]

    matrix = np.asarray(jax.jacfwd(step)(start), np.float64)
    rates, modes = np.linalg.eig(matrix)
    shares = modes[0] * np.linalg.inv(modes)[:, 0]  # of each mode in the path of x
    return float(np.abs(rates[np.abs(shares) > 1e-6]).max(initial=0.0))
