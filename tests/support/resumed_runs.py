"""Runs on a tree of parameters that begin with any state, for the tests of surgery."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PARAMS = {"body": [jnp.ones((2, 3)), jnp.ones(4)], "head": jnp.ones(5)}


def gradients(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), PARAMS
    )


def run(transformation: Any, state: Any = None, seeds: Any = range(5)) -> Any:
    """The updates of every step and the last state."""
    state, emitted = transformation.init(PARAMS) if state is None else state, []
    for seed in seeds:
        updates, state = transformation.update(gradients(seed), state, PARAMS)
        emitted.append(updates)
    return emitted, state


def in_head(path) -> bool:
    return path[0].key == "head"


def assert_close(got, want, tolerance=2e-6):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, tolerance, tolerance)


def assert_bits_equal(got, want):
    assert_close(got, want, tolerance=0.0)
