"""Boxes: objects that hold one array of a tree, such as the variables of Flax NNX.

`nnx.Optimizer` initializes a state from parameters in boxes, puts every array of that
state into a box, and takes both out of their boxes for `update`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def is_box(node: object) -> bool:
    """True for an object with the methods of Flax's `nnx.Variable`."""
    return all(hasattr(node, name) for name in ("get_metadata", "get_value"))


def unboxed(tree: Any) -> Any:
    """Replaces every box in a tree by its value."""

    def value(node: Any) -> Any:
        return node.get_value() if is_box(node) else node

    return jax.tree.map(value, tree, is_leaf=is_box)


def boxed_like(boxes: Any, tree: Any) -> Any:
    """Puts the values of a tree into copies of the boxes at the same places."""

    def put(box: Any, value: Any) -> Any:
        return box.copy(value) if is_box(box) else value

    if not any(map(is_box, jax.tree.leaves(boxes, is_leaf=is_box))):
        return tree
    return jax.tree.map(put, boxes, tree, is_leaf=is_box)


def map_boxed(function: Callable[[Any], Any], tree: Any) -> Any:
    """Maps the arrays of a tree, and puts results into copies of the arrays' boxes."""

    def apply(node: Any) -> Any:
        def boxed(array: Any) -> Any:
            return box_leaf(function(array), jnp.shape(array), box=node)

        return jax.tree.map(boxed, unboxed(node))

    return jax.tree.map(apply, tree, is_leaf=is_box)


def box_leaf(leaf: Any, shape: tuple[int, ...], box: Any, other_box: Any = None) -> Any:
    """Puts every array of an encoded leaf into a copy of a box.

    Args:
      leaf: an array, or several that encode one.
      shape: the shape of the leaf.
      box: the box for arrays of that shape; anything else leaves them as they are.
      other_box: the same for arrays of other shapes, such as the scales of
        `storage.int8`: the metadata of `box` may name the axes of the leaf.
    """

    def put(array: Any) -> Any:
        chosen = box if jnp.shape(array) == shape else other_box
        return chosen.copy(array) if is_box(chosen) else array

    return jax.tree.map(put, leaf)


def on_plain_trees(
    transformation: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Makes `update` work on trees in boxes, and accept extra arguments.

    An `update` that names no extra arguments ignores all of them, as Optax's own do.
    """
    inner = optax.with_extra_args_support(transformation)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        emitted, new_state = inner.update(
            unboxed(updates), unboxed(state), unboxed(params), **extra_args
        )
        return boxed_like(updates, emitted), boxed_like(state, new_state)

    return optax.GradientTransformationExtraArgs(inner.init, update)
