"""Moving the momentum of a run into another storage."""

import jax
import jax.numpy as jnp

from optax_momentum._base.boxes import box_leaf, boxed_like, is_box
from optax_momentum._base.checks import is_absent
from optax_momentum._base.scalars import common_dtype
from optax_momentum._methods.momentum import MomentumState
from optax_momentum._storage.stored import Stored, is_stored, value
from optax_momentum._surgery.surgery import State, for_each_momentum
from optax_momentum.storage import Storage


def change_storage(state: State, storage: Storage) -> State:
    """Converts a state for the same optimizer with another `storage`.

    Use it to continue a run in less memory, or to continue a state that `convert` read
    from PyTorch or Keras. A pure function: it works under `jax.jit` and on sharded
    arrays.

    Args:
      state: the state of any optimizer that contains a `MomentumState`, at any depth.
      storage: the storage of the optimizer that continues. If that has `storage=None`,
        its buffers are arrays of the parameters' dtype: pass `storage.float32()` or
        `storage.bfloat16()`.

    Returns:
      The new state: every m rounded by the storage, everything else unchanged.

    Raises:
      TypeError: storage is not a `Storage`.
      ValueError: the state contains no `MomentumState`.

    >>> from optax_momentum import ema, storage
    >>> gradient = jnp.ones((64, 64))
    >>> _, state = ema(0.5).update(gradient, ema(0.5).init(gradient))
    >>> state = change_storage(state, storage.int8())
    >>> small = ema(0.5, storage=storage.int8())
    >>> small.update(gradient, state)[0][0, :2]  # 0.5·0.5 + 0.5
    Array([0.75, 0.75], dtype=float32)
    """
    if not isinstance(storage, Storage):
        raise TypeError(
            f"change_storage: storage must be a Storage, got {storage!r:.60}. Pass "
            "`storage.float32()` or `storage.bfloat16()` for arrays in the buffer."
        )

    def change(momentum: MomentumState) -> MomentumState:
        def encode(path: jax.tree_util.KeyPath, stored: Stored) -> Stored:
            m = jnp.asarray(value(stored))
            wide = m.astype(common_dtype(m.dtype, jnp.float32))
            return storage.encode(wide, momentum.step, jax.tree_util.keystr(path))

        buffer = jax.tree.map_with_path(encode, momentum.buffer, is_leaf=is_stored)
        return momentum._replace(buffer=buffer)

    return for_each_momentum("change_storage", change, state, _boxed_like)


def _boxed_like(old: MomentumState, new: MomentumState) -> MomentumState:
    """Puts a state into the boxes of another, which has another storage."""

    def put(old_leaf: Stored, new_leaf: Stored) -> Stored:
        if is_absent(new_leaf):
            return old_leaf
        box = jax.tree.leaves(old_leaf, is_leaf=is_box)[0]
        return box_leaf(new_leaf, new_leaf.shape, box, other_box=old.weight)

    buffer = jax.tree.map(
        put,
        old.buffer,
        new.buffer,
        is_leaf=lambda node: is_box(node) or is_stored(node),
    )
    scalars = boxed_like(old._replace(buffer=None), new._replace(buffer=None))
    return scalars._replace(buffer=buffer)
