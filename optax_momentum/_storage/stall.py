"""Warnings about a buffer whose dtype is too narrow for its beta or its parameter."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum._base.scalars import is_concrete

_STEPS = 10_000  # steps whose coefficients are read


class _Move(NamedTuple):
    """What a step does to the buffer."""

    share: float  # the largest part of the buffer that the step adds or removes
    beta: float
    gain: float
    step: int


def warn_if_buffer_stalls(
    params: optax.Params, coefficients: Callable[[jax.Array], Any]
) -> None:
    """Warns if rounding would stop the buffer, stored in its parameter's dtype.

    Rounding to nearest undoes a step that moves m by less than half a unit, eps/2 of m.
    A traced β is trusted.
    """
    narrow = [
        (path, leaf.dtype)
        for path, leaf in jax.tree.leaves_with_path(params)
        if hasattr(leaf, "dtype") and jnp.finfo(leaf.dtype).bits < 32
    ]
    least = _least_move(coefficients) if narrow else None
    if least is None:
        return
    for path, dtype in narrow:
        if least.share <= float(jnp.finfo(dtype).eps) / 2:
            where = f"params{jax.tree_util.keystr(path)}"
            warnings.warn(
                f"init: the buffer of {where} would stall: in {dtype}, rounding to "
                f"nearest undoes steps that move it by {100 * least.share:.2g}%, as "
                f"beta={least.beta:.4g} and gain={least.gain:.4g} do at step "
                f"{least.step}. Pass `storage=storage.bfloat16()`, which rounds at "
                "random, or `storage=storage.float32()`.",
                stacklevel=3,
            )
            return


def _least_move(coefficients: Callable[[jax.Array], Any]) -> _Move | None:
    """Returns the step that moves the buffer least, or None if β is traced.

    Constant gradients of 1 lead to m ← β·m + a. Such a step is lost if both parts are:
    the added a, as when k micro-steps add a/k each, and the removed (1 − β)·m.
    """

    def beta_and_gain(step: jax.Array) -> Any:
        now = coefficients(step)
        return now.beta, now.gain

    with jax.ensure_compile_time_eval():
        try:
            pair = jax.vmap(beta_and_gain)(jnp.arange(_STEPS, dtype=jnp.int32))
        except jax.errors.JAXTypeError:  # Plain Python, which only sees single steps.
            pair = beta_and_gain(jnp.zeros((), jnp.int32))
    beta, gain = pair
    if not is_concrete(beta):
        return None
    gain = gain if is_concrete(gain) else 1.0  # A constant gain scales m and all steps.
    betas, gains = (np.broadcast_to(np.asarray(x, float), _STEPS) for x in (beta, gain))
    m = abs(gains[0]) / (1 - betas[0]) if betas[0] < 1 else 0.0  # as if settled before
    added = np.abs(gains)
    buffer = []
    for beta, gain in zip(betas.tolist(), added.tolist(), strict=True):
        m = beta * m + gain
        buffer.append(abs(m) or math.inf)
    share = np.maximum(added / buffer, 1 - betas)
    share[share <= 0] = math.inf  # Such a step changes nothing, so nothing is lost.
    step = int(np.argmax(share <= 1.001 * share.min()))  # the first of equal ones
    return _Move(float(share[step]), float(betas[step]), float(gains[step]), step)


def warn_if_float64_disabled(params: optax.Params) -> None:
    """Warns about a float64 leaf, which JAX converts to float32 unless x64 is on."""
    for path, leaf in jax.tree.leaves_with_path(params):
        if not hasattr(leaf, "dtype") or leaf.dtype == jnp.result_type(leaf):
            continue
        warnings.warn(
            f"init: params{jax.tree_util.keystr(path)} is {leaf.dtype}, which JAX "
            f"converts to {jnp.result_type(leaf)} while `jax_enable_x64` is off. Turn "
            f"that on, or cast the leaf to {jnp.result_type(leaf)}.",
            stacklevel=3,
        )
        return
