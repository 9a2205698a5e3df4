"""Gradient accumulation inside the momentum buffer: a choice of coefficients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_every_k
from optax_momentum._base.scalars import is_concrete, promote_scalar, select
from optax_momentum._methods.momentum import Coefficients


def accumulate(
    coefficients: Callable[[jax.Array], Coefficients], every_k: int | jax.Array
) -> Callable[[jax.Array], Coefficients]:
    """Makes one step out of every k gradients, without a second buffer for their sum.

        m ← β·m + (a/k)·g₁,   m ← m + (a/k)·gᵢ  for i = 2 … k
        u = b·m  at i = k,   u = 0 before

    (β, a, b) = `coefficients(j)` at step j = ⌊micro-step / k⌋, so schedules inside
    count whole steps. Because the buffer is linear in the gradients, this equals one
    step on the mean of the k gradients.

    Use it as `linear_momentum(accumulate(ema_coefficients(0.9), every_k=4))`. The
    state's `step` then counts micro-steps: k·j micro-steps make j steps.

    The rest of a chain runs at every micro-step:

    - Clipping before it clips each micro-gradient, not their mean.
    - A learning-rate schedule after it counts micro-steps; pass
      `lambda count: schedule(count // k)`. The rate inside `keras_coefficients` already
      counts steps.
    - Weight decay belongs before it, where it acts once per step through the mean.
      After it, the parameters would decay k times per step.

    Args:
      coefficients: the coefficients of a method whose update reads only its buffer,
        such as those of `ema`, and of `heavy_ball` and `keras` without nesterov.
      every_k: k ≥ 1, micro-steps per step: a whole number or a traced int32 scalar. It
        must not change in the middle of a step.

    Returns:
      The coefficients at a micro-step, for `linear_momentum`. The state's weight, and
      so `debias`, is the one after a step on the mean.

    Raises:
      ValueError: every_k is not a whole number ≥ 1, or `from_gradient` is not 0 (as
        with Nesterov, or quasi-hyperbolic momentum with ν < 1): such an update needs
        the whole mean at once. If `from_gradient` is traced and not 0, the update is
        NaN.
      TypeError: every_k is not a real number.

    Differs from `optax.MultiSteps`, which keeps the sum in a second array as large as
    the parameters and runs the inner transformation at every micro-step. In return,
    `MultiSteps` wraps any transformation, and it sums in float32, whereas m has the
    parameters' dtype: a bfloat16 m is rounded at every micro-step.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import heavy_ball_coefficients, linear_momentum
    >>> tx = linear_momentum(accumulate(heavy_ball_coefficients(0.5), every_k=2))
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 3.0, 5.0, 7.0):  # means 2 and 6: updates 2 and 0.5·2 + 6
    ...     update, state = tx.update(jnp.asarray(gradient), state)
    ...     print(update)
    0.0
    2.0
    0.0
    7.0
    """
    check_every_k("accumulate", every_k)
    count = jnp.asarray(every_k, jnp.int32)
    k = float(every_k) if is_concrete(every_k) else count.astype(jnp.float32)
    with jax.ensure_compile_time_eval():
        # Raises at construction, not at the first step.
        _buffer_share(coefficients(jnp.zeros((), jnp.int32)))

    def accumulated(micro_steps: jax.Array) -> Coefficients:
        now, micro_step = coefficients(micro_steps // count), micro_steps % count
        return Coefficients(
            beta=select(micro_step == 0, now.beta, 1.0),
            gain=promote_scalar(now.gain) / k,
            from_buffer=select(micro_step == count - 1, _buffer_share(now), 0.0),
        )

    return accumulated


def _buffer_share(now: Coefficients) -> ArrayLike:
    """`from_buffer` of a method whose update reads only its buffer; raises if not."""
    if not is_concrete(now.from_gradient):
        reads_only_buffer = jnp.asarray(now.from_gradient) == 0
        from_buffer = jnp.asarray(now.from_buffer, jnp.float32)
        return jnp.where(reads_only_buffer, from_buffer, jnp.nan)
    if now.from_gradient != 0:
        raise ValueError(
            f"accumulate: from_gradient must be 0, got {now.from_gradient!s}. Such an "
            "update reads the mean of the k gradients, which is not stored by itself. "
            "Pass nesterov=False (nu=1), or wrap the method in `optax.MultiSteps`."
        )
    return now.from_buffer
