"""The four modes: ways in which JAX can call an optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# Wraps a transformation: the result calls `init` and `update` in that mode.
Mode = Callable[[Any], Any]


def eager(transformation: Any) -> Any:
    """Runs operation by operation, as the transformation is written."""
    return transformation


def jit(transformation: Any) -> Any:
    """Compiles `init` and `update`."""
    return optax.GradientTransformation(*map(jax.jit, transformation))


def vmap(transformation: Any) -> Any:
    """Runs two lanes with equal inputs, and returns those of the first."""

    def in_lanes(function: Callable[..., Any]) -> Callable[..., Any]:
        lanes = jax.vmap(function, axis_size=2)
        return lambda *arguments: _first(lanes(*_repeated(arguments, 2)))

    return optax.GradientTransformation(*map(in_lanes, transformation))


def scan(transformation: Any) -> Any:
    """Runs in the body of a compiled scan of one step; the state is the carry."""

    def init(params: Any) -> Any:
        def body(carry: None, params: Any) -> tuple[None, Any]:
            return carry, transformation.init(params)

        return _first(jax.lax.scan(body, None, _repeated(params, 1), length=1)[1])

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def body(state: Any, updates: Any) -> tuple[Any, Any]:
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
    transformation: optax.GradientTransformation, constant: Any
) -> optax.GradientTransformation:
    """Makes `init` ignore its argument and use constant parameters.

    In every mode the optimizer then sees the parameters unchanged: JAX itself would
    reject or convert some of them as arguments of a compiled function.
    """
    return optax.GradientTransformation(
        lambda params: transformation.init(constant), transformation.update
    )


def _repeated(tree: Any, times: int) -> Any:
    """Repeats every leaf along a new first axis."""

    def repeat(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):  # a view: it stays a NumPy array of its kind
            return np.broadcast_to(leaf, (times, *leaf.shape), subok=True)
        return jnp.stack([jnp.asarray(leaf)] * times)

    return jax.tree.map(repeat, tree)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)
