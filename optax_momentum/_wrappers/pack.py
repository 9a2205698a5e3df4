"""Packing many small leaves into one vector per dtype, so that a step is one kernel.

A jitted step passes every leaf to the device and back separately, about 2 µs each on a
CPU. For a thousand small leaves, that is most of the update. Packed parameters are a
few arrays, and so is every state that an optimizer builds from them.
"""

import math
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_static
class PackedLayout(NamedTuple):
    """Where the leaves of a tree lie in its vectors; static, known during tracing."""

    tree: Any  # its `jax.tree_util.PyTreeDef`
    shapes: tuple[tuple[int, ...], ...]  # of the leaves, in the tree's order
    dtypes: tuple[str, ...]  # of the leaves: each names the vector that holds the leaf


class Packed(NamedTuple):
    """A tree packed into one vector per dtype; itself a pytree. See `pack`."""

    vectors: dict[str, jax.Array]  # dtype → vector of shape (elements of that dtype,)
    layout: PackedLayout


def pack(tree: object, like: object = None) -> Any:
    """Concatenates the leaves of a tree into one vector per dtype.

        params = pack(params)
        state = optimizer.init(params)

        @partial(jax.jit, donate_argnums=(0, 1))
        def step(params, state, batch):
            gradients = jax.grad(lambda packed: loss(unpack(packed), batch))(params)
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

    An optimizer that treats all elements alike, such as every method of this library,
    takes exactly the same steps on packed parameters as on the tree, and its state is
    packed in the same way. An optimizer that looks at individual leaves does not: one
    with a norm or an average per leaf, or a mask by name. Apply `optax.masked` or
    `optax.partition` first, then pack.

    Packing costs copies inside the step, 8 bytes per parameter for `unpack` and as much
    for its gradient, and nothing outside. It pays off if leaves are many and small.

    For a checkpoint, save `unpack(state)`, which is the state of the tree. After
    restoring it, pack it again with `pack(state, like=optimizer.init(params))`.

    Args:
      tree: a tree of arrays or numbers of any shapes and dtypes.
      like: a tree with some `Packed` parts. If given, the same parts of `tree` are
        packed in the same layout, which inverts `unpack`.

    Returns:
      A `Packed`; with `like`, a tree of the structure of `like`.

    Raises:
      ValueError: a part of the tree does not fit the layout in `like`.

    Differs from `optax.flatten`, which packs and unpacks inside every update, packs
    only the state, casts all leaves to one dtype, and yields a state that cannot be
    read.

    >>> params = {"bias": jnp.zeros(2), "kernel": jnp.ones((2, 2))}
    >>> packed = pack(params)
    >>> packed.vectors
    {'float32': Array([0., 0., 1., 1., 1., 1.], dtype=float32)}
    >>> unpack(packed)["kernel"].shape
    (2, 2)
    """
    if like is not None:
        return jax.tree.map(_pack_as, like, tree, is_leaf=_is_packed)
    leaves, treedef = jax.tree.flatten(tree)
    shapes = tuple(jnp.shape(leaf) for leaf in leaves)
    dtypes = tuple(str(jnp.result_type(leaf)) for leaf in leaves)
    return Packed(_vectors(leaves, dtypes), PackedLayout(treedef, shapes, dtypes))


def unpack(tree: object) -> Any:
    """Replaces every `Packed` in a tree with the tree that it was made from.

    Inside a jitted function, its gradient is one concatenation per vector.

    Args:
      tree: a `Packed`, or any tree that contains some, such as a state. The dtypes of
        their vectors may have changed since packing, as they do in a state.

    Returns:
      The tree with its leaves in their original shapes, and everything else unchanged.

    Raises:
      ValueError: a part of a `Packed` is not a vector, as in a state in `int8` storage;
        decode that with `storage.values` first.

    >>> from optax_momentum import heavy_ball
    >>> state = heavy_ball(0.9).init(pack({"kernel": jnp.ones((2, 2))}))
    >>> unpack(state).buffer["kernel"].shape
    (2, 2)
    """

    def unpacked(part: object) -> object:
        return _unpack(part) if _is_packed(part) else part

    return jax.tree.map(unpacked, tree, is_leaf=_is_packed)


def _pack_as(like: object, part: object) -> object:
    """Packs `part` in the layout of `like`, whose vectors may have other dtypes."""
    if not _is_packed(like):
        return part
    leaves, tree = jax.tree.flatten(part)
    shapes = tuple(jnp.shape(leaf) for leaf in leaves)
    layout = like.layout
    if (tree, shapes) != (layout.tree, layout.shapes):
        raise ValueError(
            f"pack: like holds {layout.tree} with shapes {layout.shapes}, but the tree "
            f"has {tree} with shapes {shapes} there. Pass the result of `unpack`, and "
            "a like made from the same parameters."
        )
    return Packed(_vectors(leaves, layout.dtypes), layout)


def _vectors(leaves: list[jax.Array], dtypes: tuple[str, ...]) -> dict[str, jax.Array]:
    """Concatenates the leaves of each dtype."""
    return {
        dtype: jnp.concatenate(
            [
                jnp.ravel(jnp.asarray(leaf, jnp.result_type(leaf)))
                for leaf, leaf_dtype in zip(leaves, dtypes, strict=True)
                if leaf_dtype == dtype
            ]
        )
        for dtype in sorted(set(dtypes))
    }


def _unpack(packed: Packed) -> object:
    tree, shapes, dtypes = packed.layout
    parts = {}
    for dtype, vector in packed.vectors.items():
        sizes = [
            math.prod(shape)
            for shape, leaf_dtype in zip(shapes, dtypes, strict=True)
            if leaf_dtype == dtype
        ]
        is_array = isinstance(vector, jax.Array | np.ndarray)
        if not is_array or vector.shape != (sum(sizes),):
            raise ValueError(
                f"unpack: the {dtype} leaves fill a vector of shape ({sum(sizes)},), "
                f"got a {type(vector).__name__} of shape {vector.shape}. Decode a "
                "buffer in a `storage` with `storage.values`; for several runs at "
                "once, `jax.vmap` unpack."
            )
        # A split, because its gradient is one concatenation; that of slices is a sum of
        # pads.
        parts[dtype] = iter(jax.lax.split(vector, sizes))
    leaves = [
        next(parts[dtype]).reshape(shape)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)


def _is_packed(part: object) -> TypeGuard[Packed]:
    return isinstance(part, Packed)
