"""A quadratic of eight curvatures, with and without noise in its gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

RANDOM = np.random.default_rng(31)
CURVATURE = np.geomspace(0.01, 1.0, 8)
START = RANDOM.normal(size=8)


def train(optimizer: Any, gradients, **extra) -> tuple[np.ndarray, Any]:
    """θ before every step, in float64; `gradients(step, θ)` is NumPy."""
    visited = []
    with jax.enable_x64(True):
        update = jax.jit(optimizer.update)
        theta = jnp.asarray(START)
        state = optimizer.init(theta)
        for step in range(len(gradients)):
            g = gradients[step](np.asarray(theta))
            given = {name: of(np.asarray(theta)) for name, of in extra.items()}
            visited.append(np.asarray(theta))
            updates, state = update(jnp.asarray(g), state, theta, **given)
            theta = theta + updates
    return np.stack(visited), state


NOISE = RANDOM.normal(size=(400, 8))
NOISY = [lambda theta, n=n: CURVATURE * theta + n for n in NOISE]
EXACT = [lambda theta: CURVATURE * theta] * 300
