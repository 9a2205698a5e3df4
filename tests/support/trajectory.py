"""A short run of any optimizer, of which every step is kept."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

RNG = np.random.default_rng(8)
START = RNG.normal(size=(2, 3)).astype(np.float32)
NOISE = RNG.normal(size=(25, 2, 3)).astype(np.float32)
CURVATURE = np.asarray([[0.3, 1.1, 2.0], [0.7, 0.1, 1.6]], np.float32)


def trajectory(
    optimizer: Any, params: Any = START, noise: Any = NOISE, curvature: Any = 0.0
) -> tuple[Any, Any]:
    """Parameters and states after every step; gradients are noise + curvature·θ."""

    def body(carry, noise):
        params, state = carry
        gradients = noise + curvature * params
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    params = jnp.asarray(params)
    start, noise = (params, optimizer.init(params)), jnp.asarray(noise, params.dtype)
    return jax.jit(lambda start: jax.lax.scan(body, start, noise)[1])(start)
