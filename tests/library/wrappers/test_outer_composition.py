"""`outer_loop` under jit, sharding and donation, in any dtype, in Optax's wrappers."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from support import reference
from support.trajectory import CURVATURE, NOISE, START, trajectory

from optax_momentum import outer_loop, sgd

OUTER = sgd(0.7, 0.6, nesterov=True)


@pytest.mark.parametrize("parameter", ["bfloat16", "float32"])
@pytest.mark.parametrize("gradient", ["bfloat16", "float32"])
def test_state_stays_as_init_made_it_and_updates_are_the_gradients(parameter, gradient):
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 2, reset_inner=True)
    params: Any = {"w": jnp.ones(3, parameter), "number": 1.0}
    state = optimizer.init(params)
    described = jax.tree.map(jax.typeof, state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    for _ in range(3):
        g = {"w": jnp.ones(3, gradient), "number": jnp.asarray(0.5)}
        updates, state = optimizer.update(g, state, params)
        assert updates["w"].dtype == gradient
        params = optax.tree.cast_like(after(params, updates), params)
        assert jax.tree.map(jax.typeof, state) == described
    assert state.slow["w"].dtype == parameter


def after(params, updates):
    with jax.numpy_dtype_promotion("standard"):
        return optax.apply_updates(params, updates)


def test_outer_step_of_bfloat16_parameters_lands_on_the_slow_ones():
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 3)
    params: Any = jnp.asarray(START, jnp.bfloat16)
    state = optimizer.init(params)
    for g in NOISE[:9]:
        updates, state = optimizer.update(jnp.asarray(g), state, params)
        params = after(params, updates)
    np.testing.assert_array_equal(params, state.slow)


def test_masked_leaves_pass():
    params = {"moves": jnp.ones(2), "count": jnp.arange(3)}
    optimizer: Any = optax.masked(
        outer_loop(sgd(0.5), sgd(0.5), 1), {"moves": True, "count": False}
    )
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_array_equal(updates["moves"], [-0.25, -0.25])
    np.testing.assert_array_equal(updates["count"], [0, 1, 2])


def test_one_compilation_serves_every_step_and_every_k():
    traces = []

    @jax.jit
    def update(every_k, rate, updates, state, params):
        traces.append(None)
        optimizer = outer_loop(sgd(0.3, 0.8), sgd(rate, 0.6), every_k)
        return optimizer.update(updates, state, params)

    for every_k, rate in [(2, 0.7), (3, 0.4)]:
        params: Any = jnp.asarray(START)
        state = outer_loop(sgd(0.3, 0.8), sgd(rate, 0.6), every_k).init(params)
        for g in NOISE[:7]:
            updates, state = update(every_k, rate, g, state, params)
            params = params + updates
        inner, _ = reference.heavy_ball(NOISE[:7], 0.8)
        want, _ = reference.outer_loop(START, -0.3 * inner, every_k, rate, 0.6)
        np.testing.assert_allclose(params, want[-1], 1e-5, 1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("reset", [0.0, 1.0])
def test_reset_may_be_traced(reset):
    def last(reset):
        params, _ = trajectory(
            outer_loop(sgd(0.3, 0.8), OUTER, 4, reset_inner=reset), curvature=CURVATURE
        )
        return params[-1]

    np.testing.assert_allclose(jax.jit(last)(reset), last(bool(reset)), 1e-5, 1e-6)


def test_slow_weights_are_sharded_as_the_parameters(rows):
    everywhere = NamedSharding(rows.mesh, P())
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 2, reset_inner=True)
    params: Any = jax.device_put(START, rows)
    state = optimizer.init(params)
    assert state.since_sync.sharding.is_equivalent_to(everywhere, 0)
    update, traces = jax.jit(partial(counted, optimizer, traces := [])), traces
    for g in NOISE[:4]:
        updates, state = update(jax.device_put(g, rows), state, params)
        params = params + updates
        assert state.slow.sharding.is_equivalent_to(rows, 2)
    assert len(traces) == 1
    want, _ = trajectory(optimizer)
    np.testing.assert_allclose(params, want[3], 1e-6, 1e-6)


def counted(optimizer, traces, updates, state, params):
    traces.append(None)
    return optimizer.update(updates, state, params)


def test_nothing_is_aliased_so_that_everything_can_be_donated():
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 2)
    params: Any = jnp.array(START)
    state = optimizer.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, g):
        updates, state = optimizer.update(g, state, params)
        return params + updates, state

    for g in NOISE[:5]:
        params, state = step(params, state, jnp.asarray(g))
    want, _ = trajectory(optimizer)
    np.testing.assert_allclose(params, want[4], 1e-6, 1e-6)


def test_init_takes_shapes_in_place_of_arrays():
    shapes = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 2)
    made = optimizer.init(jnp.asarray(START))
    abstract = optimizer.init(shapes)
    assert jax.tree.structure(abstract) == jax.tree.structure(made)
    assert (abstract.slow.shape, abstract.slow.dtype) == ((2, 3), jnp.float32)
    abstract = jax.eval_shape(optimizer.init, shapes)
    assert jax.tree.structure(abstract) == jax.tree.structure(made)


def test_random_keys_of_the_inner_state_are_chosen_too():
    noise = optax.add_noise(0.1, 0.5, jax.random.key(3))
    optimizer: Any = outer_loop(
        optax.chain(noise, sgd(0.3)), OUTER, 2, reset_inner=True
    )
    with jax.numpy_dtype_promotion("standard"):
        params, _ = trajectory(optimizer, curvature=CURVATURE)
    assert np.isfinite(params).all()


def test_extra_arguments_reach_the_inner_optimizer():
    def update(updates, state, params=None, **extra_args):
        return optax.tree.scale(-extra_args["factor"], updates), state

    inner = optax.GradientTransformationExtraArgs(optax.identity().init, update)
    optimizer = outer_loop(inner, sgd(0.5), every_k=1)
    params = jnp.ones(2)
    updates, _ = optimizer.update(params, optimizer.init(params), params, factor=3.0)
    np.testing.assert_array_equal(np.asarray(updates), [-1.5, -1.5])
