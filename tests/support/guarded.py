"""Good and bad gradients for the tests of `guard`, and what comes of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum import heavy_ball
from optax_momentum._wrappers.guard import GuardState

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(17)
PARAMS = {"kernel": jnp.ones((4, 3)), "biases": [jnp.ones(5), jnp.ones(())]}
GRADIENTS = jax.tree.map(
    lambda p: jnp.asarray(RNG.normal(size=(10, *p.shape)), p.dtype), PARAMS
)
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def gradients_at(step) -> Any:
    return jax.tree.map(lambda g: g[step], GRADIENTS)


def poison(gradients, leaf=1, value: float = NAN):
    """The same gradients with one element of one leaf replaced."""
    leaves, tree = jax.tree.flatten(gradients)
    leaves[leaf] = leaves[leaf].ravel().at[-1].set(value).reshape(leaves[leaf].shape)
    return tree.unflatten(leaves)


def run(transformation: Any, sequence, update=None) -> Any:
    """The updates of every step and the last state, jitted."""
    update = jax.jit(transformation.update) if update is None else update
    state, emitted = transformation.init(PARAMS), []
    for gradients in sequence:
        updates, state = update(gradients, state, PARAMS)
        emitted.append(updates)
    return emitted, state


def counts(state: GuardState) -> tuple[int, ...]:
    fields = (
        state.accepted,
        state.skipped,
        state.consecutive_skips,
        state.longest_skips,
    )
    return tuple(int(field) for field in fields)


def assert_bits_equal(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def falling_rate(step):
    return 0.3 / (1 + step.astype(jnp.float32))


CHAIN = optax.chain(
    optax.clip_by_global_norm(4.0),
    heavy_ball(0.83, dampening=0.3),
    optax.scale_by_schedule(falling_rate),
)
