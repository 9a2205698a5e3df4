"""Keep the dtype, weak type and sharding that init gave to the state's arrays."""

from collections.abc import Set

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import ArrayLike, DTypeLike

from optax_momentum._base.boxes import unboxed
from optax_momentum._base.scalars import is_concrete


def zeros_like(leaf: ArrayLike | jax.ShapeDtypeStruct) -> jax.Array:
    """Returns zeros of the leaf's shape, dtype and sharding, never weakly typed."""
    return jnp.zeros_like(leaf, dtype=jnp.result_type(leaf))


def zero_beside(params: optax.Params, dtype: DTypeLike) -> jax.Array:
    """Returns a scalar zero on all devices that the parameters are committed to.

    A jitted step returns its scalars there. If they started elsewhere, the second call
    would compile again.
    """
    zero = jnp.zeros((), dtype)
    leaves = [leaf for leaf in jax.tree.leaves(unboxed(params)) if is_concrete(leaf)]
    shardings = [
        leaf.sharding
        for leaf in leaves
        if isinstance(leaf, jax.ShapeDtypeStruct | jax.Array)
        and leaf.sharding is not None
        and getattr(leaf, "committed", True)
    ]
    if len({frozenset(sharding.device_set) for sharding in shardings}) != 1:
        return zero  # Uncommitted parameters, or parameters on different devices.
    first = shardings[0]
    if isinstance(first, NamedSharding):
        return jax.device_put(zero, NamedSharding(first.mesh, PartitionSpec()))
    return jax.device_put(zero, first) if len(first.device_set) == 1 else zero


def committed_devices(leaf: object) -> Set[object]:
    """Returns the devices that an array is committed to; the empty set for a tracer."""
    if isinstance(leaf, jax.Array) and is_concrete(leaf) and leaf.committed:
        return leaf.sharding.device_set
    return set()


def conform_to(old: jax.Array, new: jax.Array) -> jax.Array:
    """Returns `new` with the dtype of `old` and, where it is known, its sharding."""
    new = new.astype(old.dtype)
    if is_concrete(new) and is_concrete(old):
        same = new.sharding.is_equivalent_to(old.sharding, new.ndim)
        return new if same else jax.device_put(new, old.sharding)
    # The type of a tracer carries its sharding on explicit mesh axes only.
    sharding = jax.typeof(old).sharding
    same = jax.typeof(new).sharding.spec == sharding.spec
    return new if same else jax.sharding.reshard(new, sharding)


def replaced_where(condition: jax.Array, new: ArrayLike, old: ArrayLike) -> jax.Array:
    """Returns `new` where the condition holds, else `old`, with the type of `old`."""
    old, new = jnp.asarray(old), jnp.asarray(new)
    if old.dtype == jax.dtypes.float0:  # float0 arrays have no values.
        return old
    if not jnp.issubdtype(old.dtype, jax.dtypes.prng_key):  # Keys have no astype.
        new = conform_to(old, new)
    return jnp.where(condition, new, old)
