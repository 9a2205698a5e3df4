"""Gradient accumulation inside the momentum buffer: a choice of coefficients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_every_k, check_scalar
from optax_momentum._base.scalars import (
    common_dtype,
    is_concrete,
    promote_scalar,
    select,
)
from optax_momentum._methods.momentum import Coefficients

_AT_ONCE = 1024  # steps at which a schedule of k is evaluated in one go
_MOST = 2**20  # the largest k in a schedule, so that _AT_ONCE of them fit into int32


def accumulate(
    coefficients: Callable[[jax.Array], Coefficients], every_k: int | optax.Schedule
) -> Callable[[jax.Array], Coefficients]:
    """Makes one step out of every k gradients, without a second buffer for their sum.

        m ← β·m + (a/k)·g₁,   m ← m + (a/k)·gᵢ  for i = 2 … k
        u = b·m  at i = k,   u = 0 before

    (β, a, b) = `coefficients(j)` at whole step j, which is ⌊micro-step / k⌋ if k is
    constant, so schedules inside count whole steps. Because the buffer is linear in the
    gradients, this equals one step on the mean of the k gradients.

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
      every_k: k ≥ 1, micro-steps per step: a whole number, or a schedule of the whole
        step j, as `optax.MultiSteps` takes it: a function that JAX can trace, with
        values of at most 2²⁰. To find j, each update sums up the schedule from step 0,
        1,024 steps at a time. The state does not record k, so pass the same number or
        schedule at every call.

    Returns:
      The coefficients at a micro-step, for `linear_momentum`. The state's weight, and
      so `debias`, is the one after a step on the mean.

    Raises:
      ValueError: every_k is not a whole number ≥ 1, at one of the first 1,024 steps if
        it is a schedule, or `from_gradient` is not 0 (as with Nesterov, or
        quasi-hyperbolic momentum with ν < 1): such an update needs the whole mean at
        once. If `from_gradient` is traced and not 0, the update is NaN.
      TypeError: every_k is not a real number or a schedule, or is traced. Pass
        `lambda step: k` for a traced k that is the same at every call.

    Differs from `optax.MultiSteps`, which keeps the sum in a second array as large as
    the parameters and runs the inner transformation at every micro-step. In return,
    `MultiSteps` wraps any transformation, and it sums in float32, whereas m has the
    parameters' dtype: a bfloat16 m is rounded at every micro-step, and stalls if
    (1 − β)/k is below 2⁻⁸. `init` warns of that; `storage=storage.bfloat16()` in
    `linear_momentum` cures it.

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
    _check_every_k(every_k)
    with jax.ensure_compile_time_eval():
        # Raises at construction, not at the first step.
        _buffer_share(coefficients(jnp.zeros((), jnp.int32)))

    def accumulated(micro_steps: jax.Array) -> Coefficients:
        if callable(every_k):
            step, micro_step, k = _position(every_k, micro_steps)
            now = coefficients(step)
            dtype = common_dtype(jnp.result_type(now.gain), jnp.result_type(float))
            gain = jnp.asarray(now.gain, dtype) / k.astype(dtype)
        else:
            k = jnp.asarray(every_k, jnp.int32)
            micro_step = micro_steps % k
            now = coefficients(micro_steps // k)
            gain = promote_scalar(now.gain) / float(every_k)
        return Coefficients(
            beta=select(micro_step == 0, now.beta, 1.0),
            gain=gain,
            from_buffer=select(micro_step == k - 1, _buffer_share(now), 0.0),
        )

    return accumulated


def _position(
    every_k: optax.Schedule, micro_steps: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the step that a micro-step belongs to, its index there, and the step's k.

    The state counts micro-steps alone, so the k of all steps before are summed up,
    _AT_ONCE at a time.
    """

    def read(first: jax.Array) -> jax.Array:
        steps = first + jnp.arange(_AT_ONCE, dtype=jnp.int32)
        k = jnp.round(jnp.asarray(jax.vmap(every_k)(steps))).astype(jnp.int32)
        return jnp.clip(k, 1, _MOST)  # At 0, the loop would never end.

    def length(k: jax.Array) -> jax.Array:
        return jnp.sum(k, dtype=jnp.int32)

    def next_steps(carry: Any) -> Any:
        first, left, k = carry
        first = first + _AT_ONCE
        return first, left - length(k), read(first)

    zero = jnp.zeros((), jnp.int32)
    start = zero, jnp.asarray(micro_steps, jnp.int32), read(zero)
    first, left, k = jax.lax.while_loop(
        lambda carry: length(carry[2]) <= carry[1], next_steps, start
    )
    ends = jnp.cumsum(k, dtype=jnp.int32)
    i = jnp.sum(ends <= left, dtype=jnp.int32)
    return first + i, left - (ends[i] - k[i]), k[i]


def _check_every_k(every_k: Any) -> None:
    """Raises unless k is a whole number or a schedule of whole numbers."""
    if not callable(every_k):
        check_every_k("accumulate", every_k)
        if not is_concrete(every_k):
            raise TypeError(
                "accumulate: every_k must be a number or a schedule, got a tracer. The "
                "state does not record a k that changes between calls. Pass a schedule "
                "of the step, also for a traced k that is constant: `lambda step: k`."
            )
        return
    with jax.ensure_compile_time_eval():
        k = jax.vmap(every_k)(jnp.arange(_AT_ONCE, dtype=jnp.int32))
    for known in np.unique(np.asarray(k)) if is_concrete(k) else ():
        check_every_k("accumulate", known)
        check_scalar(
            "accumulate: every_k",
            known,
            lambda known: known <= _MOST,
            f"be at most {_MOST}",
            "It is the number of update calls that make up one step.",
        )


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
