"""Warnings of a buffer that is too narrow: for its beta, or for its parameter."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_momentum._base.scalars import is_concrete


def warn_of_stall(
    params: optax.Params, coefficients: Callable[[jax.Array], Any]
) -> None:
    """Warns where a buffer of a leaf's own dtype would hardly ever move.

    It moves by 1 − β of its deviation, and rounding to nearest undoes what is less than
    half a unit: eps/2, of m and so of most deviations. A traced β is trusted.
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
                f"init: the buffer of {where} would stall: in {dtype}, beta={beta!s} "
                "moves it by less than rounding to nearest takes back. Keep it by "
                "`storage=storage.bfloat16()`, or by `storage.float32()`.",
                stacklevel=3,
            )
            return


def warn_of_float32(params: optax.Params) -> None:
    """Warns where a leaf is float64, of which JAX keeps float32 unless it is told."""
    for path, leaf in jax.tree.leaves_with_path(params):
        if not hasattr(leaf, "dtype") or leaf.dtype == jnp.result_type(leaf):
            continue
        warnings.warn(
            f"init: params{jax.tree_util.keystr(path)} is {leaf.dtype}, of which JAX "
            f"keeps {jnp.result_type(leaf)} while `jax_enable_x64` is off. Switch that "
            "on, or make the leaf what is kept.",
            stacklevel=3,
        )
        return
