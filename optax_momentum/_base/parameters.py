"""The parameters that a wrapper sees: copies to keep, and where a step takes them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_momentum._base.checks import is_absent
from optax_momentum._base.scalars import common_dtype


def copy_of(leaf: Any, *narrowest: Any) -> Any:
    """A strongly typed copy, no narrower than the given dtypes, placed as the leaf.

    The state must not share memory with the parameters, or neither could be donated.
    A shape in place of an array stays a shape: it has no values to copy.
    """
    dtype = common_dtype(jnp.result_type(leaf), *narrowest)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(dtype=dtype)
    return jnp.array(leaf, dtype, copy=True)


def after_step(params: Any, updates: optax.Updates) -> Any:
    """`params + updates` in the dtypes of `params`, as `optax.apply_updates` rounds it.

    A parameter whose update is absent stays where it is.
    """

    def move(parameter: Any, update: Any) -> Any:
        if is_absent(parameter) or is_absent(update):
            return parameter
        parameter, update = jnp.asarray(parameter), jnp.asarray(update)
        dtype = common_dtype(parameter.dtype, update.dtype)
        moved = parameter.astype(dtype) + update.astype(dtype)
        return moved.astype(parameter.dtype)

    return jax.tree.map(move, params, updates, is_leaf=is_absent)


def check_given(call: str, params: optax.Params | None) -> None:
    """Raises where update was called without the parameters."""
    if params is None:
        raise ValueError(
            f"{call}: update needs the parameters, got params=None. Call "
            "`update(updates, state, params)`."
        )
