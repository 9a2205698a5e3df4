"""How an optimizer is called: a mode makes every call of a transformation its way."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Mode = Callable[[Any], Any]  # from transformation to transformation


def eager(transformation: Any) -> Any:
    """As it is: operation by operation."""
    return transformation


def jit(transformation: Any) -> Any:
    """Compiled."""
    return optax.GradientTransformation(
        jax.jit(transformation.init), jax.jit(transformation.update)
    )


def vmap(transformation: Any) -> Any:
    """In two lanes that are given the same; the first comes back."""

    def in_lanes(function: Callable[..., Any]) -> Callable[..., Any]:
        lanes = jax.vmap(function, axis_size=2)
        return lambda *arguments: _first(lanes(*_repeated(arguments, 2)))

    return optax.GradientTransformation(
        in_lanes(transformation.init), in_lanes(transformation.update)
    )


def scan(transformation: Any) -> Any:
    """In the body of a compiled scan over one step, whose carry is the state."""

    def init(params: optax.Params) -> optax.OptState:
        def body(carry: None, params: optax.Params) -> tuple[None, optax.OptState]:
            return carry, transformation.init(params)

        return _first(jax.lax.scan(body, None, _repeated(params, 1), length=1)[1])

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, optax.OptState]:
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
    """Is built anew in every call, and so in the mode that the calls are made in."""
    return optax.GradientTransformation(
        lambda params: build().init(params),
        lambda updates, state, params=None: build().update(updates, state, params),
    )


def init_of_constant(
    transformation: optax.GradientTransformation, constant: Any
) -> optax.GradientTransformation:
    """`init` of parameters that are a constant of its code, whatever its argument is.

    So the optimizer sees them as they are, in every mode: of arguments, JAX refuses
    some by itself, and changes others.
    """
    return optax.GradientTransformation(
        lambda params: transformation.init(constant), transformation.update
    )


def _repeated(tree: Any, times: int) -> Any:
    """Every leaf that often along a new first axis."""

    def repeat(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):  # a view, which stays what the leaf is
            return np.broadcast_to(leaf, (times, *leaf.shape), subok=True)
        return jnp.stack([jnp.asarray(leaf)] * times)

    return jax.tree.map(repeat, tree)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)
