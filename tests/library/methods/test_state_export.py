"""Functions that `jax.export` has serialized take and return every state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from support.storages import INT8

from optax_momentum import (
    adaptive_restart,
    aggmo,
    ema,
    guard,
    heavy_ball,
    lawa,
    outer_loop,
    parameter_ema,
    sgd,
)
from optax_momentum.diagnostics import telemetry

PARAMS = {"b": jnp.arange(3.0), "w": jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)}
COMPLEX = jax.tree.map(lambda x: jax.lax.complex(x, -x), PARAMS)
OPTIMIZERS = {
    "blocks": (sgd(0.3, 0.7, storage=INT8), PARAMS),
    "parts": (heavy_ball(0.7, storage=INT8), COMPLEX),
    "aggmo": (aggmo((0.0, 0.5, 0.9)), PARAMS),
    "guard": (guard(sgd(0.3, 0.7)), PARAMS),
    "adaptive_restart": (adaptive_restart(ema(0.7)), PARAMS),
    "outer_loop": (outer_loop(sgd(0.3), sgd(0.3, 0.7), 2), PARAMS),
    "parameter_ema": (parameter_ema(0.7), PARAMS),
    "lawa": (lawa(2), PARAMS),
}


def serialized(function, *arguments):
    exported = export.export(jax.jit(function))(*arguments)
    return export.deserialize(exported.serialize()).call


def test_every_state_passes_through_a_serialized_function():
    states = {name: tx.init(params) for name, (tx, params) in OPTIMIZERS.items()}
    got = serialized(lambda states: states, states)(states)
    assert jax.tree.structure(got) == jax.tree.structure(states)
    jax.tree.map(np.testing.assert_array_equal, got, states)


def test_a_serialized_step_is_the_step():
    update, state = jax.jit(sgd(0.3, 0.7).update), sgd(0.3, 0.7).init(PARAMS)
    exported = serialized(update, PARAMS, state)
    for _ in range(3):
        want, got = update(PARAMS, state), exported(PARAMS, state)
        jax.tree.map(np.testing.assert_array_equal, got, want)
        state = got[1]


def test_optax_states_are_left_to_the_user():
    """As are those of `telemetry`, which holds a state of Optax."""
    for optimizer in telemetry(sgd(0.3, 0.7)), optax.chain(optax.identity()):
        state = optimizer.init(PARAMS)
        exported = export.export(jax.jit(lambda state: state))(state)
        with pytest.raises(ValueError, match=r"optax.*(MonitorState|EmptyState)"):
            exported.serialize()
