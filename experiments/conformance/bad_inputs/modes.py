"""The four modes: ways in which JAX can call an optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import PyTree

# Wraps a transformation: the result calls `init` and `update` in that mode.
Mode = Callable[[Any], Any]


def eager(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """Runs operation by operation, as the transformation is written."""
    return transformation


def jit(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """Compiles `init` and `update`."""
    return optax.GradientTransformation(*map(jax.jit, transformation))


def vmap(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """Runs two lanes with equal inputs, and returns those of the first."""

    def in_lanes(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
        lanes = jax.vmap(function, axis_size=2)
        return lambda *arguments: _first(lanes(*_repeated(arguments, 2)))

    return optax.GradientTransformation(*map(in_lanes, transformation))


def scan(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """Runs in the body of a compiled scan of one step; the state is the carry."""

    def init(params: PyTree) -> PyTree:
        def body(carry: None, params: PyTree) -> tuple[None, PyTree]:
            return carry, transformation.init(params)

        return _first(jax.lax.scan(body, None, _repeated(params, 1), length=1)[1])

    def update(
        updates: PyTree, state: PyTree, params: PyTree = None
    ) -> tuple[PyTree, PyTree]:
        def body(state: PyTree, updates: PyTree) -> tuple[PyTree, PyTree]:
            emitted, state = transformation.update(updates, state, params)
            return state, emitted

        steps = _repeated(updates, 1)
        state, emitted = jax.lax.scan(body, state, steps, length=1)
        return _first(emitted), state

    return jit(optax.GradientTransformation(init, update))


MODES: tuple[Mode, ...] = (eager, jit, vmap, scan)


def built_inside(
    build: Callable[[], optax.GradientTransformation],
) -> optax.GradientTransformation:
    """Rebuilds the transformation in every call, so that the mode covers that too."""
    return optax.GradientTransformation(
        lambda params: build().init(params),
        lambda updates, state, params=None: build().update(updates, state, params),
    )


def init_of_constant(
    transformation: optax.GradientTransformation, constant: PyTree
) -> optax.GradientTransformation:
    """Makes `init` ignore its argument and use constant parameters.

    In every mode the optimizer then sees the parameters unchanged: JAX itself would
    reject or convert some of them as arguments of a compiled function.
    """
    return optax.GradientTransformation(
        lambda params: transformation.init(constant), transformation.update
    )


def _repeated(tree: PyTree, times: int) -> PyTree:
    """Repeats every leaf along a new first axis."""

    def repeat(leaf: ArrayLike) -> np.ndarray | jax.Array:
        if isinstance(leaf, np.ndarray):  # a view: it stays a NumPy array of its kind
            return np.broadcast_to(leaf, (times, *leaf.shape), subok=True)
        return jnp.stack([jnp.asarray(leaf)] * times)

    return jax.tree.map(repeat, tree)


def _first(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[0], tree)
