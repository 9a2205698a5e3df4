"""Any optimizer as a function that takes one step: what the equations drive."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# θ before the first step ↦ (gradient, learning rate ↦ θ after one step more), float64.
Optimizer = Callable[[np.ndarray], Callable[[np.ndarray, float], np.ndarray]]


def stepping(build: Callable[[Any], optax.GradientTransformation]) -> Optimizer:
    """An Optax optimizer as the equations drive it, in float64.

    Args:
      build: maps a traced learning rate to the whole optimizer, whose updates are ready
        to be applied; for a transformation without one, `lambda rate: optax.chain(
        transformation, optax.scale_by_learning_rate(rate))`.
    """

    @jax.jit
    def update(rate, gradient, state, params):
        updates, state = build(rate).update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    def begin(start: np.ndarray) -> Callable[[np.ndarray, float], np.ndarray]:
        with jax.enable_x64(True):
            params = jnp.asarray(start, jnp.float64)
            state = build(jnp.ones(())).init(params)

        def step(gradient: np.ndarray, rate: float) -> np.ndarray:
            nonlocal params, state
            with jax.enable_x64(True):
                params, state = update(rate, jnp.asarray(gradient), state, params)
                return np.asarray(params)

        return step

    return begin
