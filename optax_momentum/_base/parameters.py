"""Helpers of wrappers that follow the parameters: copy them, and apply a step."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike, DTypeLike

from optax_momentum._base.checks import Absent, is_absent
from optax_momentum._base.scalars import common_dtype


def strongly_typed_copy(
    leaf: ArrayLike | jax.ShapeDtypeStruct, *narrowest: DTypeLike
) -> jax.Array | jax.ShapeDtypeStruct:
    """Copies a leaf and its sharding, no narrower than the given dtypes.

    A copy, because a state that shared memory with the parameters would prevent the
    donation of both. A `ShapeDtypeStruct` stays one, as it has no values to copy.
    """
    dtype = common_dtype(jnp.result_type(leaf), *narrowest)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf.update(dtype=dtype)
    return jnp.array(leaf, dtype, copy=True)


def apply_present_updates(params: optax.Params, updates: optax.Updates) -> optax.Params:
    """Returns `params + updates`, rounded as `optax.apply_updates` rounds.

    A parameter whose update is absent comes back unchanged.
    """

    def move(parameter: ArrayLike, update: ArrayLike) -> ArrayLike | Absent:
        if is_absent(parameter) or is_absent(update):
            return parameter
        parameter, update = jnp.asarray(parameter), jnp.asarray(update)
        dtype = common_dtype(parameter.dtype, update.dtype)
        moved = parameter.astype(dtype) + update.astype(dtype)
        return moved.astype(parameter.dtype)

    return jax.tree.map(move, params, updates, is_leaf=is_absent)


def check_given(call: str, params: optax.Params | None) -> optax.Params:
    """Returns the parameters; raises if update was called without them."""
    if params is None:
        raise ValueError(
            f"{call}: update needs the parameters, got params=None. Call "
            "`update(updates, state, params)`."
        )
    return params
