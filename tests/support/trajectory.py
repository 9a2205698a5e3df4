"""Run an optimizer and record every step."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

RNG = np.random.default_rng(8)
START = RNG.normal(size=(2, 3)).astype(np.float32)
NOISE = RNG.normal(size=(25, 2, 3)).astype(np.float32)
CURVATURE = np.asarray([[0.3, 1.1, 2.0], [0.7, 0.1, 1.6]], np.float32)


def updates_and_states(
    transformation: Any, gradients: Any, params: Any = None, state: Any = None
) -> tuple[Any, Any]:
    """Feeds gradients to a transformation, in one jitted scan.

    Args:
      transformation: what to run.
      gradients: a tree whose leaves are [step, ...].
      params: passed to every update, always the same.
      state: the first state; by default that of `init` for params, or for zeros.

    Returns:
      The updates and the states after every step: all leaves are [step, ...].
    """
    if state is None:
        zeros = jax.tree.map(lambda g: jnp.zeros_like(g[0]), gradients)
        state = transformation.init(zeros if params is None else params)

    def body(state, gradient):
        updates, state = transformation.update(gradient, state, params)
        return state, (updates, state)

    return jax.jit(lambda state: jax.lax.scan(body, state, gradients)[1])(state)


def trajectory(
    optimizer: Any, params: Any = START, noise: Any = NOISE, curvature: Any = 0.0
) -> tuple[Any, Any]:
    """Returns params and states after every step; gradients are noise + curvature·θ."""

    def body(carry, noise):
        params, state = carry
        gradients = noise + curvature * params
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    params = jnp.asarray(params)
    start, noise = (params, optimizer.init(params)), jnp.asarray(noise, params.dtype)
    return jax.jit(lambda start: jax.lax.scan(body, start, noise)[1])(start)


def last_of_donated_steps(optimizer: Any, gradients: Any) -> tuple[Any, Any]:
    """Returns the last params and state; every step donates those before it."""

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = jnp.array(START)
    state = optimizer.init(params)
    for gradient in gradients:
        params, state = step(params, state, jnp.asarray(gradient))
    return params, state


class Descent(NamedTuple):
    """What `descend` recorded."""

    points: np.ndarray  # [step, ...]: where each gradient was taken
    params: np.ndarray  # [step, ...]: the parameters after each step
    state: Any  # the last one


def descend(
    optimizer: Any,
    start: np.ndarray,
    gradients: Sequence[Callable[[np.ndarray], np.ndarray]],
    point_at: Callable[[Any, Any], Any] = lambda theta, state: theta,
    **extra: Callable[[np.ndarray], Any],
) -> Descent:
    """Trains in float64, with gradients that NumPy computes.

    Args:
      optimizer: what to run.
      start: the first parameters.
      gradients: for each step, a function of the parameters.
      point_at: maps the parameters and the state to the point of the next gradient.
      extra: functions of the parameters; update gets their values by these names.
    """
    points, params = [], []
    with jax.enable_x64(True):
        update = jax.jit(optimizer.update)
        theta = jnp.asarray(start)
        state = optimizer.init(theta)
        for gradient in gradients:
            point = np.asarray(point_at(theta, state))
            values = {name: f(np.asarray(theta)) for name, f in extra.items()}
            updates, state = update(
                jnp.asarray(gradient(point)), state, theta, **values
            )
            theta = theta + updates
            points.append(point)
            params.append(np.asarray(theta))
    return Descent(np.stack(points), np.stack(params), state)
