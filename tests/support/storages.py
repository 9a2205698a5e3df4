"""Storages at settings that small trees show, and runs of methods in them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
    "kept", [INT8, BFLOAT16], ids=["int8", "bfloat16"]
)


def gradient(step) -> Any:
    return jax.tree.map(lambda g: g[step], GRADIENTS)


def run(transformation, steps=12, state=None) -> tuple[Any, Any]:
    """Stacked updates, last state."""

    def body(state, gradients):
        updates, state = transformation.update(gradients, state, PARAMS)
        return state, updates

    state = transformation.init(PARAMS) if state is None else state
    given = jax.tree.map(lambda g: g[:steps], GRADIENTS)
    state, updates = jax.jit(lambda s: jax.lax.scan(body, s, given))(state)
    return updates, state


def decoded(momentum) -> Any:
    """Its buffer as float32 arrays."""
    return jax.tree.map(jnp.float32, storage.values(momentum.buffer))


def close(got, want, share):
    """Within a share of the largest of the leaf."""
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        np.testing.assert_allclose(a, b, atol=share * np.abs(b).max(), rtol=0)
