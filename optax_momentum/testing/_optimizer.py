"""The interface of an optimizer under the equations: one step at a time, in float64."""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Step(Protocol):
    """Takes one step of a run and returns θ after it."""

    def __call__(self, gradient: np.ndarray, rate: float, /) -> np.ndarray: ...


class Optimizer(Protocol):
    """Starts a run at θ = start; all arrays are float64."""

    def __call__(self, start: np.ndarray, /) -> Step: ...


def stepping(build: Callable[[jax.Array], optax.GradientTransformation]) -> Optimizer:
    """Adapts an Optax optimizer to the interface of the equations, in float64.

    Args:
      build: maps a traced learning rate to the whole optimizer, whose updates are ready
        to be applied. For a transformation without a learning rate, chain it:
        `lambda rate: optax.chain(tx, optax.scale_by_learning_rate(rate))`.

    Returns:
      An `Optimizer`, for `check_equations`.
    """

    @jax.jit
    def update(rate, gradient, state, params):
        updates, state = build(rate).update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    def start_run(start: np.ndarray) -> Step:
        with jax.enable_x64(True):
            params = jnp.asarray(start, jnp.float64)
            state = build(jnp.ones(())).init(params)

        def step(gradient: np.ndarray, rate: float) -> np.ndarray:
            nonlocal params, state
            with jax.enable_x64(True):
                params, state = update(rate, jnp.asarray(gradient), state, params)
                return np.asarray(params)

        return step

    return start_run
