"""`outer_loop` is Lookahead, SlowMo, DiLoCo and SNOO, around any inner optimizer."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import reference
from support.trajectory import CURVATURE, NOISE, START, trajectory

from optax_momentum import OuterState, heavy_ball, outer_loop, sgd

OUTER = sgd(0.7, 0.6, nesterov=True)
on_quadratic = partial(trajectory, curvature=CURVATURE)


@pytest.mark.parametrize("every_k", [1, 4])
@pytest.mark.parametrize("nesterov", [False, True])
def test_outer_loop_computes_its_equations_at_every_step(every_k, nesterov):
    outer = sgd(0.7, 0.6, nesterov=nesterov)
    optimizer = outer_loop(sgd(0.3, 0.8), outer, every_k)
    params, states = trajectory(optimizer)
    inner, _ = reference.heavy_ball(NOISE, 0.8)
    want, slow = reference.outer_loop(
        START, -0.3 * inner, every_k, 0.7, 0.6, nesterov=nesterov
    )
    np.testing.assert_allclose(params, want, 1e-5, 1e-5)
    np.testing.assert_allclose(states.slow, slow, 1e-5, 1e-5)
    np.testing.assert_array_equal(states.since_sync, np.arange(1, 26) % every_k)


@pytest.mark.parametrize("reset", [False, True])
def test_without_momentum_it_is_lookahead(reset):
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
def test_every_step_over_sgd_is_momentum_of_the_product_of_both_rates(nesterov):
    both = outer_loop(sgd(0.3), sgd(0.5, 0.8, nesterov=nesterov), every_k=1)
    one = sgd(0.15, 0.8, nesterov=nesterov)
    np.testing.assert_allclose(on_quadratic(both)[0], on_quadratic(one)[0], 1e-4, 1e-5)


def test_outer_rate_one_without_momentum_is_the_inner_optimizer():
    inner = sgd(0.3, 0.8)
    got, _ = on_quadratic(outer_loop(inner, sgd(1.0), every_k=4))
    np.testing.assert_allclose(got, on_quadratic(inner)[0], 1e-5, 1e-6)


def test_heavy_ball_outside_is_slowmo():
    # u ← β·u + (x₀ − x_τ)/γ, x₀ ← x₀ − α·γ·u (the paper's equations 2 and 3)
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


def test_slow_weights_are_the_parameters_right_after_an_outer_step():
    params, states = on_quadratic(outer_loop(sgd(0.2, 0.8), OUTER, every_k=4))
    synced = states.since_sync == 0
    np.testing.assert_allclose(params[synced], states.slow[synced], 1e-6, 1e-6)
    assert (params[~synced] != states.slow[~synced]).any(axis=(1, 2)).all()


def test_inner_state_is_kept_unless_it_is_reset():
    inner = heavy_ball(0.8)
    _, kept = trajectory(outer_loop(inner, OUTER, 4))
    _, alone = trajectory(optax.chain(inner))
    np.testing.assert_array_equal(kept.inner.buffer, alone[0].buffer)
    _, reset = on_quadratic(outer_loop(inner, OUTER, 4, reset_inner=True))
    np.testing.assert_array_equal(reset.inner.buffer[3], np.zeros((2, 3)))
    np.testing.assert_array_equal(reset.inner.step, np.arange(1, 26) % 4)


def test_reset_discards_a_nan_of_the_inner_state():
    optimizer: Any = outer_loop(heavy_ball(0.8), OUTER, 2, reset_inner=True)
    state, params = optimizer.init(jnp.ones(2)), jnp.ones(2)
    for value in (jnp.nan, 1.0):
        _, state = optimizer.update(jnp.full(2, value), state, params)
    np.testing.assert_array_equal(state.inner.buffer, [0, 0])


@pytest.mark.parametrize("absent", [None, optax.MaskedNode()])
def test_a_leaf_without_gradient_sits_the_outer_step_out(absent):
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
        params = {
            **params,
            "a": params["a"] + updates["a"],
            "b": params["b"] + updates["b"],
        }
    np.testing.assert_allclose(params["b"], -0.75)  # halfway to −1.5, nothing is lost


@pytest.mark.parametrize("bad", [0, -1, 2.5, float("nan")])
def test_every_k_that_is_no_whole_number_is_refused(bad):
    message = f"outer_loop: every_k must be a whole number of at least 1, got {bad}."
    with pytest.raises(ValueError, match=re.escape(message)):
        outer_loop(sgd(0.1), sgd(0.7), bad)


def test_outer_loop_refuses_what_it_cannot_use():
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
