"""Storages whose effect shows on small trees, and short runs of methods with them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.trajectory import updates_and_states

from optax_momentum import storage

BETA = 0.83
INT8 = storage.int8(8, seed=3, min_size=1)
BFLOAT16 = storage.bfloat16(3)
RANDOM = np.random.default_rng(31)
GRADIENTS: Any = {
    "w": jnp.asarray(RANDOM.normal(size=(30, 6, 16)), jnp.float32),
    "b": jnp.asarray(RANDOM.normal(size=(30, 8)), jnp.float32),
}
PARAMS: Any = jax.tree.map(lambda g: jnp.zeros(g.shape[1:]), GRADIENTS)

every_storage = pytest.mark.parametrize(
    "encoding", [INT8, BFLOAT16], ids=["int8", "bfloat16"]
)


def gradient(step) -> Any:
    return jax.tree.map(lambda g: g[step], GRADIENTS)


def run(transformation, steps=12, state=None) -> tuple[Any, Any]:
    """Returns the updates of every step, stacked, and the last state."""
    gradients = jax.tree.map(lambda g: g[:steps], GRADIENTS)
    updates, states = updates_and_states(transformation, gradients, PARAMS, state)
    return updates, jax.tree.map(lambda x: x[-1], states)


def decoded(momentum) -> Any:
    """Returns the state's buffer as float32 arrays."""
    return jax.tree.map(jnp.float32, storage.values(momentum.buffer))


def assert_close(got, want, share):
    """Asserts that the error is at most this share of each leaf's largest element."""
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        np.testing.assert_allclose(a, b, atol=share * np.abs(b).max(), rtol=0)
