"""Conversions that tune memory, step size and batch size independently."""

import math

import jax
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_scalar
from optax_momentum._base.scalars import promote_scalar


def beta_from_half_life(
    half_life: ArrayLike, *, batch_size: ArrayLike | None = None
) -> float | jax.Array:
    """Returns the β at which a gradient's weight in the buffer halves in `half_life`.

        β = 2^(−B/h)          h = half_life, B = batch_size or 1

    Units: without `batch_size`, h is in steps. With it, h is in samples: the buffer
    then spans the same data at every batch size, as κ times the batch size gives β^κ.
    The same formula converts the ρ of `parameter_ema`.

    Args:
      half_life: h > 0, a number or a traced scalar. inf gives β = 1, which never
        forgets.
      batch_size: B > 0, the number of samples in a step: a number or a traced scalar.
        None measures h in steps.

    Returns:
      β in [0, 1]: a Python number if both arguments are, else an array. It is
      differentiable.

    Raises:
      ValueError: an argument is not positive, NaN, or not a scalar.
      TypeError: an argument is not a real number.

    >>> beta_from_half_life(2)
    0.7071067811865476
    >>> beta_from_half_life(128, batch_size=64)
    0.7071067811865476

    References:
      Marek et al. 2025, arXiv:2507.07101: in tokens, for Adam's second moment.
      Busbridge et al. 2023, arXiv:2307.13813: ρ^κ at κ times the batch size.
    """
    name = "beta_from_half_life: half_life"
    return 0.5 ** _step_per_memory(name, half_life, batch_size)


def beta_from_time_constant(
    time_constant: ArrayLike, *, batch_size: ArrayLike | None = None
) -> float | jax.Array:
    """Returns the β at which a gradient's weight falls to 1/e in `time_constant`.

        β = e^(−B/T)          T = time_constant, B = batch_size or 1

    T is the half-life divided by ln 2, and about 1/(1 − β) steps for β near 1.

    Units: T is in steps without `batch_size` and in samples with it, as the half-life
    of `beta_from_half_life`.

    Args:
      time_constant: T > 0, a number or a traced scalar. inf gives β = 1, which never
        forgets.
      batch_size: B > 0, the number of samples in a step: a number or a traced scalar.
        None measures T in steps.

    Returns:
      β in [0, 1]: a Python number if both arguments are, else an array. It is
      differentiable.

    Raises:
      ValueError: an argument is not positive, NaN, or not a scalar.
      TypeError: an argument is not a real number.

    >>> round(beta_from_time_constant(10), 6)
    0.904837
    >>> beta_from_time_constant(640, batch_size=64) == beta_from_time_constant(10)
    True

    References:
      CNTK `momentum_as_time_constant_schedule`, which measures T in samples.
    """
    name = "beta_from_time_constant: time_constant"
    return math.exp(-1) ** _step_per_memory(name, time_constant, batch_size)


def effective_learning_rate(
    learning_rate: ArrayLike,
    beta: ArrayLike,
    gain: ArrayLike = 1.0,
    from_buffer: ArrayLike = 1.0,
    from_gradient: ArrayLike = 0.0,
) -> float | jax.Array:
    """Returns the step size that a constant gradient settles at, for a linear method.

        α·(a·b/(1 − β) + c)          α/(1 − β) for heavy ball, with or without Nesterov

    To compare values of β at equal step size, so that only the memory differs, set the
    learning rate to the wanted step divided by `effective_learning_rate(1.0, beta)`.

    Units: parameters per gradient, as the learning rate.

    Args:
      learning_rate: α, a number or an array of shape (), as all arguments.
      beta: β < 1.
      gain: a, the factor of a gradient that enters the buffer; 1 in `heavy_ball`.
      from_buffer: b, the factor of the buffer in the update.
      from_gradient: c, the factor of the gradient in the update. The last four follow
        the order of `Coefficients`, so they can be passed as `*coefficients(step)`.

    Returns:
      The settled step of a gradient of 1: a Python number if all arguments are, else an
      array. It is differentiable.

    >>> effective_learning_rate(0.1, 0.75)
    0.4
    >>> wanted = 0.4
    >>> wanted / effective_learning_rate(1.0, 0.5)  # the learning rate at β = 0.5
    0.2
    >>> from optax_momentum import heavy_ball_coefficients
    >>> nesterov = heavy_ball_coefficients(0.75, nesterov=True)
    >>> effective_learning_rate(0.1, *nesterov(1))
    0.4
    """
    beta, gain = promote_scalar(beta), promote_scalar(gain)
    settled = gain * promote_scalar(from_buffer) / (1 - beta) + promote_scalar(
        from_gradient
    )
    return promote_scalar(learning_rate) * settled


def _step_per_memory(
    name: str, memory: ArrayLike, batch_size: ArrayLike | None
) -> float | jax.Array:
    """Returns the length of one step as a fraction of the memory."""
    remedy = "It counts steps, or samples if batch_size is given."
    check_scalar(name, memory, lambda known: known > 0, "be positive", remedy)
    if batch_size is None:
        return 1 / promote_scalar(memory)
    name = name.split(":")[0] + ": batch_size"
    remedy = "It is the number of samples in a step; omit it to count in steps."
    check_scalar(name, batch_size, lambda known: known > 0, "be positive", remedy)
    return promote_scalar(batch_size) / promote_scalar(memory)
