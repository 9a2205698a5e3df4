"""A state that stays as init made it: dtype, weak type and sharding never change."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from optax_momentum._base.scalars import is_concrete


def zeros_like(leaf: Any) -> jax.Array:
    """Zeros with the leaf's shape, dtype and sharding, never weakly typed."""
    return jnp.zeros_like(leaf, dtype=jnp.result_type(leaf))


def zero_beside(params: optax.Params, dtype: Any) -> jax.Array:
    """A scalar zero, on every device that the parameters are committed to.

    A jitted step returns its scalars there. Were they elsewhere at first, the second
    call would compile again.
    """
    zero = jnp.zeros((), dtype)
    leaves = [leaf for leaf in jax.tree.leaves(params) if is_concrete(leaf)]
    shardings = [
        leaf.sharding
        for leaf in leaves
        if isinstance(leaf, jax.ShapeDtypeStruct | jax.Array)
        and leaf.sharding is not None
        and getattr(leaf, "committed", True)
    ]
    if len({frozenset(sharding.device_set) for sharding in shardings}) != 1:
        return zero  # nowhere in particular, or leaves on devices of their own
    first = shardings[0]
    if isinstance(first, NamedSharding):
        return jax.device_put(zero, NamedSharding(first.mesh, PartitionSpec()))
    return jax.device_put(zero, first) if len(first.device_set) == 1 else zero


def committed_to(leaf: Any) -> set[Any]:
    """The devices that an array is committed to; none if it is a tracer."""
    known = isinstance(leaf, jax.Array) and is_concrete(leaf) and leaf.committed
    return leaf.sharding.device_set if known else set()


def stored_as(old: jax.Array, new: jax.Array) -> jax.Array:
    """`new` with the dtype and, where it can be known, the sharding of `old`."""
    new = new.astype(old.dtype)
    if is_concrete(new) and is_concrete(old):
        same = new.sharding.is_equivalent_to(old.sharding, new.ndim)
        return new if same else jax.device_put(new, old.sharding)
    sharding = jax.typeof(old).sharding  # a tracer has one on explicit mesh axes only
    same = jax.typeof(new).sharding.spec == sharding.spec  # on any mesh, or none
    return new if same else jax.sharding.reshard(new, sharding)


def replaced_where(condition: jax.Array, new: Any, old: Any) -> jax.Array:
    """`new` where the condition holds, else `old`, whose dtype and sharding stay."""
    old, new = jnp.asarray(old), jnp.asarray(new)
    if old.dtype == jax.dtypes.float0:  # which has no values
        return old
    if not jnp.issubdtype(old.dtype, jax.dtypes.prng_key):  # a key has no astype
        new = stored_as(old, new)
    return jnp.where(condition, new, old)
