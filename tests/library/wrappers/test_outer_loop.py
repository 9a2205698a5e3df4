"""`outer_loop`: Lookahead, SlowMo, DiLoCo, SNOO, in any dtype and inside wrappers."""

import re
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
from support.counting import CountingJit
from support.trajectory import (
    CURVATURE,
    NOISE,
    START,
    last_of_donated_steps,
    trajectory,
)

from optax_momentum import OuterState, heavy_ball, outer_loop, sgd

OUTER = sgd(0.7, 0.6, nesterov=True)
on_quadratic = partial(trajectory, curvature=CURVATURE)


@pytest.mark.parametrize("every_k", [1, 4])
@pytest.mark.parametrize("nesterov", [False, True])
def test_outer_loop_follows_its_equations_at_every_step(every_k, nesterov):
    outer = sgd(0.7, 0.6, nesterov=nesterov)
    optimizer = outer_loop(sgd(0.3, 0.8), outer, every_k)
    params, states = trajectory(optimizer)
    fast = -0.3 * reference.heavy_ball(NOISE, 0.8)[0]
    want, slow = reference.outer_loop(START, fast, every_k, 0.7, 0.6, nesterov=nesterov)
    np.testing.assert_allclose(params, want, 1e-5, 1e-5)
    np.testing.assert_allclose(states.slow, slow, 1e-5, 1e-5)
    np.testing.assert_array_equal(states.since_sync, np.arange(1, 26) % every_k)


@pytest.mark.parametrize("reset", [False, True])
def test_outer_sgd_without_momentum_is_lookahead(reset):
    inner = sgd(0.2, 0.8)
    ours = outer_loop(inner, sgd(0.4), every_k=5, reset_inner=reset)
    theirs = optax.lookahead(inner, 5, 0.4, reset_state=reset)
    params: Any = optax.LookaheadParams.init_synced(jnp.asarray(START))
    with jax.numpy_dtype_promotion("standard"):  # optax.lookahead multiplies by bools
        state: Any = theirs.init(params)
        fast, slow = [], []
        for noise in NOISE:
            g = noise + CURVATURE * params.fast
            updates, state = theirs.update(g, state, params)
            params = optax.apply_updates(params, updates)
            fast.append(params.fast)
            slow.append(params.slow)
    got, states = on_quadratic(ours)
    np.testing.assert_allclose(got, fast, 1e-5, 1e-5)
    np.testing.assert_allclose(states.slow, slow, 1e-5, 1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_every_k_of_one_over_sgd_is_momentum_at_the_product_of_the_rates(nesterov):
    both = outer_loop(sgd(0.3), sgd(0.5, 0.8, nesterov=nesterov), every_k=1)
    one = sgd(0.15, 0.8, nesterov=nesterov)
    np.testing.assert_allclose(on_quadratic(both)[0], on_quadratic(one)[0], 1e-4, 1e-5)


def test_outer_rate_one_without_momentum_is_the_inner_optimizer():
    inner = sgd(0.3, 0.8)
    got, _ = on_quadratic(outer_loop(inner, sgd(1.0), every_k=4))
    np.testing.assert_allclose(got, on_quadratic(inner)[0], 1e-5, 1e-6)


def test_heavy_ball_outside_is_slowmo():
    # Equations 2 and 3 of the paper: u ← β·u + (x₀ − x_τ)/γ, x₀ ← x₀ − α·γ·u.
    gamma, tau, alpha, beta = 0.2, 4, 0.9, 0.5
    x0, u, want = np.float64(START), 0.0, []
    x = x0
    for t, noise in enumerate(NOISE, start=1):
        x = x - gamma * (noise + CURVATURE * x)
        if t % tau == 0:
            u = beta * u + (x0 - x) / gamma
            x0 = x = x0 - alpha * gamma * u
        want.append(x)
    got, _ = on_quadratic(outer_loop(sgd(gamma), sgd(alpha, beta), every_k=tau))
    np.testing.assert_allclose(got, want, 1e-5, 1e-5)


def test_parameters_equal_the_slow_weights_after_an_outer_step():
    params, states = on_quadratic(outer_loop(sgd(0.2, 0.8), OUTER, every_k=4))
    synced = states.since_sync == 0
    np.testing.assert_allclose(params[synced], states.slow[synced], 1e-6, 1e-6)
    assert (params[~synced] != states.slow[~synced]).any(axis=(1, 2)).all()


def test_inner_state_persists_unless_it_is_reset():
    inner = heavy_ball(0.8)
    _, kept = trajectory(outer_loop(inner, OUTER, 4))
    _, alone = trajectory(optax.chain(inner))
    np.testing.assert_array_equal(kept.inner.buffer, alone[0].buffer)
    _, reset = on_quadratic(outer_loop(inner, OUTER, 4, reset_inner=True))
    np.testing.assert_array_equal(reset.inner.buffer[3], np.zeros((2, 3)))
    np.testing.assert_array_equal(reset.inner.step, np.arange(1, 26) % 4)


def test_reset_discards_nan_in_the_inner_state():
    optimizer: Any = outer_loop(heavy_ball(0.8), OUTER, 2, reset_inner=True)
    state, params = optimizer.init(jnp.ones(2)), jnp.ones(2)
    for value in (jnp.nan, 1.0):
        _, state = optimizer.update(jnp.full(2, value), state, params)
    np.testing.assert_array_equal(state.inner.buffer, [0, 0])


@pytest.mark.parametrize("absent", [None, optax.MaskedNode()])
def test_a_leaf_without_gradient_skips_the_outer_step(absent):
    optimizer: Any = outer_loop(sgd(0.5), sgd(0.5, 0.8), 2)
    params: Any = {"a": jnp.zeros(2), "b": jnp.zeros(2), "c": None}
    state = optimizer.init(params)
    ones: Any = {"a": jnp.ones(2), "b": jnp.ones(2), "c": None}
    updates, state = optimizer.update(ones, state, params)
    params = {**params, "a": updates["a"], "b": updates["b"]}
    updates, state = jax.jit(optimizer.update)({**ones, "b": absent}, state, params)
    assert (updates["b"], updates["c"]) == (absent, None)
    np.testing.assert_allclose(params["a"] + updates["a"], -0.5)  # halfway to −1
    np.testing.assert_array_equal(state.slow["b"], [0, 0])
    np.testing.assert_array_equal(optax.tree.get(state.outer, "buffer")["b"], [0, 0])
    params = {**params, "a": params["a"] + updates["a"]}
    for _ in range(2):
        updates, state = optimizer.update(ones, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["b"], -0.75)  # halfway to −1.5: no step is lost


@pytest.mark.parametrize("bad", [0, -1, 2.5, float("nan")])
def test_every_k_that_is_not_a_whole_number_is_refused(bad):
    message = f"outer_loop: every_k must be a whole number of at least 1, got {bad}."
    with pytest.raises(ValueError, match=re.escape(message)):
        outer_loop(sgd(0.1), sgd(0.7), bad)


def test_outer_loop_refuses_wrong_arguments_states_and_parameters():
    with pytest.raises(ValueError, match="outer_loop: reset_inner must be True or Fal"):
        outer_loop(sgd(0.1), sgd(0.7), 2, reset_inner=3)
    optimizer = outer_loop(sgd(0.1), sgd(0.7), 2)
    message = "outer_loop: update needs the parameters, got params=None. Call `update("
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
    with pytest.raises(TypeError, match="must be a OuterState, got tuple"):
        optimizer.update(jnp.ones(2), (), jnp.ones(2))
    with pytest.raises(TypeError, match=r"params\['n'\] is of type int32"):
        optimizer.init({"n": jnp.arange(2)})
    assert isinstance(optimizer.init(jnp.ones(2)), OuterState)


def after(params, updates):
    with jax.numpy_dtype_promotion("standard"):
        return optax.apply_updates(params, updates)


@pytest.mark.parametrize("param", ["bfloat16", "float32"])
@pytest.mark.parametrize("gradient", ["bfloat16", "float32"])
def test_state_keeps_its_types_and_updates_have_the_gradients_dtype(param, gradient):
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 2, reset_inner=True)
    params: Any = {"w": jnp.ones(3, param), "number": 1.0}
    state = optimizer.init(params)
    described = jax.tree.map(jax.typeof, state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    for _ in range(3):
        g = {"w": jnp.ones(3, gradient), "number": jnp.asarray(0.5)}
        updates, state = optimizer.update(g, state, params)
        assert updates["w"].dtype == gradient
        params = optax.tree.cast_like(after(params, updates), params)
        assert jax.tree.map(jax.typeof, state) == described
    assert state.slow["w"].dtype == param


def test_bfloat16_parameters_equal_the_slow_weights_exactly():
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 3)
    params: Any = jnp.asarray(START, jnp.bfloat16)
    state = optimizer.init(params)
    for g in NOISE[:9]:
        updates, state = optimizer.update(jnp.asarray(g), state, params)
        params = after(params, updates)
    np.testing.assert_array_equal(params, state.slow)


def test_outer_loop_passes_masked_leaves_through():
    params = {"moves": jnp.ones(2), "count": jnp.arange(3)}
    loop = outer_loop(sgd(0.5), sgd(0.5), 1)
    optimizer: Any = optax.masked(loop, {"moves": True, "count": False})
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_array_equal(updates["moves"], [-0.25, -0.25])
    np.testing.assert_array_equal(updates["count"], [0, 1, 2])


def test_one_compilation_serves_every_step_and_every_k():
    @CountingJit
    def update(every_k, rate, updates, state, params):
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
    assert update.traces == 1


@pytest.mark.parametrize("reset", [0.0, 1.0])
def test_reset_may_be_traced(reset):
    def last(reset):
        optimizer = outer_loop(sgd(0.3, 0.8), OUTER, 4, reset_inner=reset)
        return on_quadratic(optimizer)[0][-1]

    np.testing.assert_allclose(jax.jit(last)(reset), last(bool(reset)), 1e-5, 1e-6)


def test_slow_weights_are_sharded_like_the_parameters(rows):
    everywhere = NamedSharding(rows.mesh, P())
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 2, reset_inner=True)
    params: Any = jax.device_put(START, rows)
    state = optimizer.init(params)
    assert state.since_sync.sharding.is_equivalent_to(everywhere, 0)
    update = CountingJit(optimizer.update)
    for g in NOISE[:4]:
        updates, state = update(jax.device_put(g, rows), state, params)
        params = params + updates
        assert state.slow.sharding.is_equivalent_to(rows, 2)
    assert update.traces == 1
    want, _ = trajectory(optimizer)
    np.testing.assert_allclose(params, want[3], 1e-6, 1e-6)


def test_parameters_and_state_can_be_donated():
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 2)
    params, _ = last_of_donated_steps(optimizer, NOISE[:5])
    want, _ = trajectory(optimizer)
    np.testing.assert_allclose(params, want[4], 1e-6, 1e-6)


def test_init_accepts_shapes_instead_of_arrays():
    shapes = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    optimizer: Any = outer_loop(sgd(0.3, 0.8), OUTER, 2)
    made = optimizer.init(jnp.asarray(START))
    abstract = optimizer.init(shapes)
    assert jax.tree.structure(abstract) == jax.tree.structure(made)
    assert (abstract.slow.shape, abstract.slow.dtype) == ((2, 3), jnp.float32)
    abstract = jax.eval_shape(optimizer.init, shapes)
    assert jax.tree.structure(abstract) == jax.tree.structure(made)


def test_inner_states_may_hold_random_keys():
    noise = optax.add_noise(0.1, 0.5, jax.random.key(3))
    optimizer = outer_loop(optax.chain(noise, sgd(0.3)), OUTER, 2, reset_inner=True)
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
