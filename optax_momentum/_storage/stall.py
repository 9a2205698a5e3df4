"""Warnings about a buffer whose dtype is too narrow for its beta or its parameter."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_momentum._base.scalars import is_concrete


def warn_if_buffer_stalls(
    params: optax.Params, coefficients: Callable[[jax.Array], Any]
) -> None:
    """Warns if rounding would stop the buffer, stored in its parameter's dtype.

    At each step, m moves by the fraction 1 − β of its distance from the settled value,
    a distance that is usually no larger than m itself. Rounding to nearest undoes moves
    below half a unit, eps/2 of m. A traced β is trusted.
    """
    narrow = [
        (path, leaf.dtype)
        for path, leaf in jax.tree.leaves_with_path(params)
        if hasattr(leaf, "dtype") and jnp.finfo(leaf.dtype).bits < 32
    ]
    if not narrow:
        return
    with jax.ensure_compile_time_eval():
        beta = coefficients(jnp.zeros((), jnp.int32)).beta
    if not is_concrete(beta):
        return
    for path, dtype in narrow:
        if 1 - float(beta) <= float(jnp.finfo(dtype).eps) / 2:
            where = f"params{jax.tree_util.keystr(path)}"
            warnings.warn(
                f"init: the buffer of {where} would stall: in {dtype}, rounding to "
                f"nearest undoes the small steps of beta={beta!s}. Pass "
                "`storage=storage.bfloat16()` or `storage=storage.float32()`.",
                stacklevel=3,
            )
            return


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
