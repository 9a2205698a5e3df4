"""Many small leaves as one vector a dtype: a step then costs one kernel, not thousands.

A jitted step hands every leaf over to the device and back by itself, about 2 µs each on
a CPU: for a thousand small leaves that is most of the update. Packed parameters are
few arrays, and so is every state that an optimizer makes from them.
"""

import math
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_static
class Layout(NamedTuple):
    """Where the leaves of a tree lie in its vectors; static, known while tracing."""

    tree: Any  # the treedef
    shapes: tuple[tuple[int, ...], ...]  # of the leaves, in the tree's order
    dtypes: tuple[str, ...]  # of the leaves: the vectors that hold them


class Packed(NamedTuple):
    """A tree as one vector a dtype, itself a tree of these; see `pack`."""

    vectors: dict[str, Any]  # by dtype; shape (elements of that dtype,)
    layout: Layout


def pack(tree: Any, like: Any = None) -> Any:
    """Puts the leaves of a tree end to end, in one vector for each of their dtypes.

        params = pack(params)
        state = optimizer.init(params)

        @partial(jax.jit, donate_argnums=(0, 1))
        def step(params, state, batch):
            gradients = jax.grad(lambda packed: loss(unpack(packed), batch))(params)
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

    An optimizer that treats every element alike, as all methods of this library do,
    takes exactly the steps that it takes on the tree, and its state is packed as the
    parameters are. One that looks at leaves does not: a norm or an average by leaf, a
    mask by name. Pack after `optax.masked` or `optax.partition` has chosen, not before.

    The vectors cost copies inside the step, 8 bytes a parameter each for `unpack` and
    for its gradient, and nothing outside: it pays where leaves are many and small.

    For a checkpoint, save `unpack(state)`: it is the state of the tree. Restored, it is
    packed again by `pack(state, like=optimizer.init(params))`.

    Args:
      tree: arrays or numbers of any shapes and dtypes; each shares its vector with the
        leaves of its dtype.
      like: where given, only those parts of the tree are packed that are packed in it,
        as they are there: the inverse of `unpack`.

    Returns:
      A `Packed`; with `like`, a tree as that one.

    Raises:
      ValueError: with like, for a part of the tree that does not fit in its place.

    Differs from `optax.flatten`, which packs and unpacks inside every update, for the
    state alone, casts all leaves to one dtype, and keeps a state that can't be read.

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
    return Packed(_vectors(leaves, dtypes), Layout(treedef, shapes, dtypes))


def unpack(tree: Any) -> Any:
    """Replaces every `Packed` in a tree by the tree that it was made from.

    Inside a jitted function its gradient is one concatenation a vector.

    Args:
      tree: a `Packed`, or a state or any other tree that holds some. Their vectors may
        meanwhile be of other dtypes: a state's may.

    Returns:
      The tree with its leaves in their own shapes, everything else as it is.

    Raises:
      ValueError: a vector is no longer one, as in a state under an `int8` storage:
        decode it before, by `storage.values`.

    >>> from optax_momentum import heavy_ball
    >>> state = heavy_ball(0.9).init(pack({"kernel": jnp.ones((2, 2))}))
    >>> unpack(state).buffer["kernel"].shape
    (2, 2)
    """

    def unpacked(part: Any) -> Any:
        return _unpack(part) if _is_packed(part) else part

    return jax.tree.map(unpacked, tree, is_leaf=_is_packed)


def _pack_as(held: Any, part: Any) -> Any:
    """The part packed as `held` is, whose leaves may be of other dtypes."""
    if not _is_packed(held):
        return part
    leaves, tree = jax.tree.flatten(part)
    shapes = tuple(jnp.shape(leaf) for leaf in leaves)
    layout = held.layout
    if (tree, shapes) != (layout.tree, layout.shapes):
        raise ValueError(
            f"pack: like holds {layout.tree} with shapes {layout.shapes}, the tree in "
            f"its place is {tree} with shapes {shapes}. Pass what `unpack` gave, and a "
            "like of the same parameters."
        )
    return Packed(_vectors(leaves, layout.dtypes), layout)


def _vectors(leaves: list[Any], dtypes: tuple[str, ...]) -> dict[str, jax.Array]:
    """The leaves of each dtype end to end."""
    return {
        dtype: jnp.concatenate(
            [
                jnp.ravel(jnp.asarray(leaf, jnp.result_type(leaf)))
                for leaf, own in zip(leaves, dtypes, strict=True)
                if own == dtype
            ]
        )
        for dtype in sorted(set(dtypes))
    }


def _unpack(packed: Packed) -> Any:
    tree, shapes, dtypes = packed.layout
    parts = {}
    for dtype, vector in packed.vectors.items():
        sizes = [
            math.prod(shape)
            for shape, own in zip(shapes, dtypes, strict=True)
            if own == dtype
        ]
        is_array = isinstance(vector, jax.Array | np.ndarray)
        if not is_array or vector.shape != (sum(sizes),):
            raise ValueError(
                f"unpack: the {dtype} leaves fill a vector of shape ({sum(sizes)},), "
                f"got a {type(vector).__name__} of shape {vector.shape}. Decode what "
                "a storage keeps by `storage.values`; of several runs at once, "
                "`jax.vmap` unpack."
            )
        # Not slices: the gradient of a split is one concatenation, not a sum of pads.
        parts[dtype] = iter(jax.lax.split(vector, sizes))
    leaves = [
        next(parts[dtype]).reshape(shape)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)


def _is_packed(part: Any) -> TypeGuard[Packed]:
    return isinstance(part, Packed)
