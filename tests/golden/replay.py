"""Runs an Optax transformation on the problem of a golden file, and compares."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from golden.problem import STEPS, Golden, gradient


def the_buffer(state: optax.OptState) -> Any:
    """The one buffer that a state has."""
    return optax.tree.get(state, "buffer")


def replay(
    optimizer: optax.GradientTransformation,
    golden: Golden,
    name: str,
    buffers: Callable[[optax.OptState], Any] = the_buffer,
) -> dict[str, Any]:
    """The run called `name` as `optimizer` computes it, in one jitted scan.

    Returns `parameters` and `buffers` after every step, each leaf -> [step, *shape],
    as in `golden.runs[name]`.
    """
    problem = jax.tree.map(jnp.asarray, golden.problem)
    slope = partial(gradient, problem, golden.settings[name])

    def body(carry, step):
        params, state = carry
        updates, state = optimizer.update(slope(step, params), state, params)
        params = optax.apply_updates(params, updates)
        kept = {"parameters": params, "buffers": buffers(state)}
        return (params, state), kept

    def run(start):
        carry = (start, optimizer.init(start))
        return jax.lax.scan(body, carry, jnp.arange(STEPS))[1]

    return jax.device_get(jax.jit(run)(problem["start"]))


def assert_follows(got: dict[str, Any], golden: Golden, name: str) -> None:
    """Asserts that every step of every leaf equals the recorded one, to rounding."""
    for kind, leaves in golden.runs[name].items():
        for leaf, recorded in leaves.items():
            assert got[kind][leaf].dtype == recorded.dtype == np.float64
            # float32 anywhere on the way would show at 1e-8.
            np.testing.assert_allclose(
                got[kind][leaf], recorded, 1e-11, 1e-12, err_msg=f"{kind}/{leaf}"
            )
