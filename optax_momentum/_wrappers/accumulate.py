"""Gradient accumulation inside the momentum buffer: one more choice of coefficients."""

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
    """Coefficients that make one step of every k gradients, with no buffer for them.

        m ← β·m + (a/k)·g₁,   m ← m + (a/k)·gᵢ  for i = 2 … k
        u = b·m  at i = k,   u = 0 before

    with (β, a, b) = `coefficients(j)` at step j = ⌊micro-step / k⌋: schedules inside
    count whole steps. That is one step on the mean of the k gradients, for the
    buffer is linear in them.

    Use it as `linear_momentum(accumulate(ema_coefficients(0.9), every_k=4))`. The
    state's `step` then counts micro-steps, and k·j of them have made j steps.

    What surrounds it in a chain runs at every micro-step. Clipping before it clips each
    micro-gradient, not their mean. A learning-rate schedule after it counts
    micro-steps: give it `lambda count: schedule(count // k)`; `keras_coefficients` hold
    a rate that counts steps already. Weight decay belongs before it, where the mean
    takes it once a step; after it, the parameters decay k times a step.

    Args:
      coefficients: of a method whose update reads its buffer alone, as those of `ema`,
        `heavy_ball` and `keras` without nesterov do.
      every_k: k ≥ 1, the micro-steps of a step: a whole number or a traced int32
        scalar. It must not change while a step is under way.

    Returns:
      The coefficients at a micro-step, for `linear_momentum`. The weight, and with it
      `debias`, comes out as after one step on the mean.

    Raises:
      ValueError: every_k not a whole number ≥ 1, or `from_gradient` other than 0
        (Nesterov, ν < 1 of quasi-hyperbolic momentum): it needs the whole mean at
        once. Where it is a tracer, a value other than 0 makes the update NaN.
      TypeError: every_k is not a real number.

    Differs from `optax.MultiSteps`, which holds the sum in a second array as large as
    the parameters and runs the inner transformation at every micro-step. That takes
    any transformation; and it sums in float32 where m is stored as the parameters
    are: in bfloat16, say, m is rounded at each micro-step.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import heavy_ball_coefficients, linear_momentum
    >>> tx = linear_momentum(accumulate(heavy_ball_coefficients(0.5), every_k=2))
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 3.0, 5.0, 7.0):  # means 2 and 6, then 0.5·2 + 6
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
        _read_out(coefficients(jnp.zeros((), jnp.int32)))  # refuses at construction

    def accumulated(step: jax.Array) -> Coefficients:
        now, micro_step = coefficients(step // count), step % count
        return Coefficients(
            beta=select(micro_step == 0, now.beta, 1.0),
            gain=promote_scalar(now.gain) / k,
            from_buffer=select(micro_step == count - 1, _read_out(now), 0.0),
        )

    return accumulated


def _read_out(now: Coefficients) -> ArrayLike:
    """The share of the buffer in the update, of a method that reads nothing else."""
    if not is_concrete(now.from_gradient):
        alone = jnp.asarray(now.from_gradient) == 0
        return jnp.where(alone, jnp.asarray(now.from_buffer, jnp.float32), jnp.nan)
    if now.from_gradient != 0:
        raise ValueError(
            f"accumulate: from_gradient must be 0, got {now.from_gradient!s}. That "
            "update reads the mean of k gradients, which is in the buffer alone. Take "
            "nesterov=False (nu=1), or wrap the method in `optax.MultiSteps`."
        )
    return now.from_buffer
