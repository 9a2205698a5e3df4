"""Inputs for promises: seeded parameters and gradients, and tools to compare states."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

STEPS = 8


def default_params() -> Any:
    """A float32 matrix, vector and scalar in a nested tree."""
    random = np.random.default_rng(11)
    return {
        "kernel": jnp.asarray(random.normal(size=(4, 6)), jnp.float32),
        "bias": [
            jnp.asarray(random.normal(size=5), jnp.float32),
            jnp.asarray(0.3, jnp.float32),
        ],
    }


def gradients_like(params: optax.Params, steps: int = STEPS) -> optax.Updates:
    """Standard normal gradients for all steps; each leaf has shape [steps, *shape]."""
    random = np.random.default_rng(12)
    return jax.tree.map(
        lambda p: jnp.asarray(random.normal(size=(steps, *p.shape)), p.dtype), params
    )


def at(gradients: optax.Updates, step: int) -> optax.Updates:
    """The gradients of one step."""
    return jax.tree.map(lambda g: g[step], gradients)


def run(
    update: Callable[..., tuple[optax.Updates, optax.OptState]],
    state: optax.OptState,
    gradients: optax.Updates,
    params: optax.Params | None,
) -> tuple[optax.Updates, optax.OptState]:
    """The updates of all steps, stacked like the gradients, and the last state."""
    emitted = []
    for step in range(len(jax.tree.leaves(gradients)[0])):
        updates, state = update(at(gradients, step), state, params)
        emitted.append(updates)
    return jax.tree.map(lambda *u: jnp.stack(u), *emitted), state


def described(tree: optax.Updates) -> optax.Updates:
    """A `ShapeDtypeStruct` for every leaf: its shape, dtype and weak type."""
    return jax.eval_shape(lambda tree: tree, tree)


def difference(after: optax.OptState, before: optax.OptState) -> str:
    """Says how two `described` trees differ; "" if they do not."""
    if jax.tree.structure(after) != jax.tree.structure(before):
        return "the state's tree changed"
    for (path, new), old in zip(
        jax.tree.leaves_with_path(after), jax.tree.leaves(before), strict=True
    ):
        types = _type(new), _type(old)
        if types[0] != types[1]:
            where = f"the state's {jax.tree_util.keystr(path)}"
            return f"{where} became {types[0]} from {types[1]}"
    return ""


def _type(leaf: jax.ShapeDtypeStruct) -> str:
    weak = "weakly typed " if leaf.weak_type else ""
    return f"{weak}{leaf.dtype}{list(leaf.shape)}"


def beside(
    state: optax.OptState, path: jax.tree_util.KeyPath, shape: tuple[int, ...]
) -> list[jax.Array]:
    """The leaves of a state that belong to the parameter at `path` with this shape."""
    return [
        leaf
        for where, leaf in jax.tree.leaves_with_path(state)
        if where[len(where) - len(path) :] == path and jnp.shape(leaf) == shape
    ]


def largest_leaf(params: optax.Params) -> tuple[jax.tree_util.KeyPath, jax.Array]:
    """The path and the value of the leaf with the most elements."""
    leaves = jax.tree.leaves_with_path(params)
    return max(leaves, key=lambda pair: math.prod(pair[1].shape))


def replaced(
    tree: optax.Updates, path: jax.tree_util.KeyPath, leaf: object
) -> optax.Updates:
    """The tree with the leaf at `path` replaced."""
    return jax.tree.map_with_path(
        lambda where, old: leaf if where == path else old, tree
    )
