"""Run an optimizer on the problem of a golden file, and compare the trajectories."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from golden.problem import STEPS, Golden, gradient


def only_buffer(state: optax.OptState) -> Any:
    """Returns the buffer of a state that has only one."""
    return optax.tree.get(state, "buffer")


def replay(
    optimizer: optax.GradientTransformation,
    golden: Golden,
    name: str,
    buffers: Callable[[optax.OptState], Any] = only_buffer,
) -> dict[str, Any]:
    """Repeats the run called `name` with the optimizer, in one jitted scan.

    Returns:
      `parameters` and `buffers` after every step, each leaf -> [step, *shape], as in
      `golden.runs[name]`.
    """
    problem = jax.tree.map(jnp.asarray, golden.problem)
    gradient_at = partial(gradient, problem, golden.settings[name])

    def body(carry, step):
        params, state = carry
        updates, state = optimizer.update(gradient_at(step, params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), {"parameters": params, "buffers": buffers(state)}

    def run(start):
        carry = (start, optimizer.init(start))
        return jax.lax.scan(body, carry, jnp.arange(STEPS))[1]

    return jax.device_get(jax.jit(run)(problem["start"]))


def replay_missing(
    optimizer: optax.GradientTransformation, golden: Golden, name: str
) -> dict[str, Any]:
    """Repeats a run in which some gradients are None; otherwise as `replay`."""
    assert 20 < golden.problem["missing"].sum() < STEPS - 20
    update = jax.jit(optimizer.update)
    params = golden.problem["start"]
    state = optimizer.init(params)
    steps = []
    for step in range(STEPS):
        gradients = gradient(golden.problem, golden.settings[name], step, params)
        updates, state = update(gradients, state)
        params = {  # optax.apply_updates does not accept None.
            leaf: p if updates[leaf] is None else p + updates[leaf]
            for leaf, p in params.items()
        }
        steps.append({"parameters": params, "buffers": only_buffer(state)})
    return jax.tree.map(lambda *values: np.stack(values), *steps)


def assert_follows(got: dict[str, Any], golden: Golden, name: str) -> None:
    """Asserts that every step of every leaf equals the recorded one, to rounding."""
    for kind, leaves in golden.runs[name].items():
        for leaf, recorded in leaves.items():
            assert got[kind][leaf].dtype == recorded.dtype == np.float64
            # An intermediate value in float32 would cause errors of 1e-8.
            np.testing.assert_allclose(
                got[kind][leaf], recorded, 1e-11, 1e-12, err_msg=f"{kind}/{leaf}"
            )
