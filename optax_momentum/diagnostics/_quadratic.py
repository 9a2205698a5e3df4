"""Momentum on the quadratic λ·x²/2: stability limit and rate of convergence."""

import itertools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from optax_momentum._base.scalars import promote_scalar
from optax_momentum._methods.momentum import Coefficients


def stability_limit(coefficients: Coefficients) -> float | jax.Array:
    """Computes the largest learning rate times curvature at which descent converges.

        0 < η·λ < 2(1 + β)/(a·b + c·(1 + β))

    The limit is 2 for gradient descent (β = 0), 2(1 + β) for `heavy_ball`,
    (2 + 2β)/(1 + 2β) for its `nesterov` form, and 2(1 + β)/(1 − β) for `ema`.

    Args:
      coefficients: (β, a, b, c) with 0 ≤ β < 1, of a method whose update is multiplied
        by the learning rate η and subtracted. For instance,
        `ema_coefficients(0.9)(step)`.

    Returns:
      The limit of η·λ, which has no unit: a number if the coefficients are numbers.

    >>> from optax_momentum import heavy_ball_coefficients
    >>> stability_limit(heavy_ball_coefficients(0.5)(0))
    3.0
    """
    beta, gain, from_buffer, from_gradient = map(promote_scalar, coefficients)
    return 2 * (1 + beta) / (gain * from_buffer + from_gradient * (1 + beta))


def convergence_rate(coefficients: Coefficients, curvature: ArrayLike) -> jax.Array:
    """Computes the factor by which the distance to the minimum shrinks per step.

        xₜ₊₁ = p·xₜ − q·xₜ₋₁,   p = 1 + β − h·(a·b + c),   q = β·(1 − h·c)

    h = η·λ. The rate is the asymptotic one: the largest modulus of a root of z² − p·z +
    q. For `heavy_ball` it is √β where the roots are complex: (1 − √β)² < h < (1 + √β)².

    Args:
      coefficients: (β, a, b, c); see `stability_limit`.
      curvature: h = η·λ, learning rate times curvature, of any shape.

    Returns:
      The rate, in the shape of `curvature`. Above 1, descent diverges. If the
      coefficients change with the step, this is the rate for those given.

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
    """Measures the convergence rate of any linear optimizer on λ·x²/2.

    It differentiates one step with respect to x and every floating-point scalar of the
    state. The rate is the largest modulus of an eigenvalue of that matrix, among the
    modes that x takes part in. This covers several buffers, weight decay and debiasing,
    which `convergence_rate` does not.

    Args:
      optimizer: a whole optimizer, including learning rate and sign, that is linear in
        gradient, parameter and state.
      curvature: λ, in gradients per parameter.
      after: number of steps with zero gradients before the measured step, for
        optimizers that depend on the step: `heavy_ball` does not dampen its first.

    Returns:
      The rate; above 1, descent diverges. It is computed on the host, not under
      `jax.jit`.

    >>> import optax
    >>> from optax_momentum import heavy_ball
    >>> optimizer = optax.chain(heavy_ball(0.25), optax.scale_by_learning_rate(0.1))
    >>> round(measured_convergence_rate(optimizer, curvature=10.0), 3)
    0.5
    """
    zero = jnp.zeros(())

    def zero_gradient_step(_: int, state: optax.OptState) -> optax.OptState:
        return optimizer.update(zero, state, zero)[1]

    state = jax.lax.fori_loop(0, after, zero_gradient_step, optimizer.init(zero))
    leaves, tree = jax.tree.flatten(state)
    is_float = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]

    def floats(leaves: Iterable[jax.Array]) -> list[jax.Array]:
        return list(itertools.compress(leaves, is_float))

    start, unravel = ravel_pytree([zero, *floats(leaves)])

    def step(vector: jax.Array) -> jax.Array:
        x, *rest = unravel(vector)
        values = iter(rest)
        filled = [
            next(values) if float_ else leaf
            for leaf, float_ in zip(leaves, is_float, strict=True)
        ]
        update, new = optimizer.update(curvature * x, tree.unflatten(filled), x)
        return ravel_pytree([x + update, *floats(jax.tree.leaves(new))])[0]

    matrix = np.asarray(jax.jacfwd(step)(start), np.float64)
    rates, modes = np.linalg.eig(matrix)
    shares = modes[0] * np.linalg.inv(modes)[:, 0]  # each mode's share in the path of x
    return float(np.abs(rates[np.abs(shares) > 1e-6]).max(initial=0.0))
