"""Memory, step size and batch size, each tuned without moving the others."""

import math
from typing import Any

from jax.typing import ArrayLike

from optax_momentum._base.checks import check_scalar
from optax_momentum._base.scalars import widen


def beta_from_half_life(
    half_life: ArrayLike, *, batch_size: ArrayLike | None = None
) -> Any:
    """The β whose buffer has half forgotten a gradient after `half_life`.

        β = 2^(−B/h)          h = half_life, B = batch_size or 1

    Units: without `batch_size`, h is in steps. With it, h is in samples: the buffer
    then spans the same data at every batch size, and κ times the batch gives β^κ. The
    same holds for the ρ of `parameter_ema`.

    Args:
      half_life: h > 0, a number or a traced scalar; inf keeps everything, β = 1.
      batch_size: B > 0, samples in a step: likewise; None counts in steps.

    Returns:
      β in [0, 1]: a Python number where both are, else an array; differentiable.

    Raises:
      ValueError: either not positive, NaN, or not a scalar.
      TypeError: either not a real number.

    >>> beta_from_half_life(2)
    0.7071067811865476
    >>> beta_from_half_life(128, batch_size=64)
    0.7071067811865476

    References:
      Marek et al. 2025, arXiv:2507.07101: in tokens, for Adam's second moment.
      Busbridge et al. 2023, arXiv:2307.13813: ρ^κ at κ times the batch.
    """
    return 0.5 ** _step_over("beta_from_half_life: half_life", half_life, batch_size)


def beta_from_time_constant(
    time_constant: ArrayLike, *, batch_size: ArrayLike | None = None
) -> Any:
    """The β whose buffer has forgotten all but 1/e of a gradient after `time_constant`.

        β = e^(−B/T)          T = time_constant, B = batch_size or 1

    T is the half-life over ln 2, and about 1/(1 − β) steps for β near 1.

    Units: without `batch_size`, T is in steps; with it, in samples, as the half-life of
    `beta_from_half_life`.

    Args:
      time_constant: T > 0, a number or a traced scalar; inf keeps everything, β = 1.
      batch_size: B > 0, samples in a step: likewise; None counts in steps.

    Returns:
      β in [0, 1]: a Python number where both are, else an array; differentiable.

    Raises:
      ValueError: either not positive, NaN, or not a scalar.
      TypeError: either not a real number.

    >>> round(beta_from_time_constant(10), 6)
    0.904837
    >>> beta_from_time_constant(640, batch_size=64) == beta_from_time_constant(10)
    True

    References:
      CNTK `momentum_as_time_constant_schedule`, the same in samples.
    """
    name = "beta_from_time_constant: time_constant"
    return math.exp(-1) ** _step_over(name, time_constant, batch_size)


def effective_learning_rate(
    learning_rate: ArrayLike,
    beta: ArrayLike,
    gain: ArrayLike = 1.0,
    from_buffer: ArrayLike = 1.0,
    from_gradient: ArrayLike = 0.0,
) -> Any:
    """The step that a constant gradient of 1 settles at, for any linear method.

        α·(a·b/(1 − β) + c)          α/(1 − β) for heavy ball, Nesterov or not

    Hold it while β changes, and a comparison of betas is one of memory, not of step
    size: divide the step that is wanted by `effective_learning_rate(1.0, beta)`.

    Units: parameters per gradient, as the learning rate.

    Args:
      learning_rate: α, a number or an array of shape ().
      beta: β < 1, likewise; and so all others.
      gain: a, the share of the gradient that enters the buffer: 1 in `heavy_ball`.
      from_buffer: b, how much of the buffer is read out.
      from_gradient: c, how much of the gradient itself is read out. The last four are
        in the order of `Coefficients`, which can be passed unpacked.

    Returns:
      The settled step: a Python number where all are, else an array; differentiable.

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
    beta, gain = widen(beta), widen(gain)
    settled = gain * widen(from_buffer) / (1 - beta) + widen(from_gradient)
    return widen(learning_rate) * settled


def _step_over(name: str, memory: ArrayLike, batch_size: ArrayLike | None) -> Any:
    """One step as a share of the memory."""
    remedy = "It is in steps, or in samples with batch_size; the smaller, the shorter."
    check_scalar(name, memory, lambda known: known > 0, "be positive", remedy)
    if batch_size is None:
        return 1 / widen(memory)
    name = name.split(":")[0] + ": batch_size"
    remedy = "It is the number of samples in a step; leave it out to count in steps."
    check_scalar(name, batch_size, lambda known: known > 0, "be positive", remedy)
    return widen(batch_size) / widen(memory)
