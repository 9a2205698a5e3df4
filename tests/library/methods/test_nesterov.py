"""Nesterov's momentum in its forms, which are one method at different points."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_momentum import (
    ema,
    heavy_ball,
    keras,
    lookahead_params,
    nesterov,
    two_point_nesterov,
)

RANDOM = np.random.default_rng(27)
STEPS = 50
CURVATURE = RANDOM.uniform(0.2, 2.0, 6)
NOISE = RANDOM.normal(size=(STEPS, 6))
START = RANDOM.normal(size=6)
BETAS = RANDOM.uniform(0.1, 0.98, STEPS + 1)  # no two alike
RATES = RANDOM.uniform(0.01, 0.3, STEPS)


def beta_at(step):
    return jnp.asarray(np.array(BETAS))[step]


def rate_at(step):
    return jnp.asarray(np.array(RATES))[step]


def gradient(step, theta):
    return CURVATURE * np.sin(theta) + NOISE[step]


def nag(start=START):
    """Sutskever's two points: θ after every step, and where each gradient was taken."""
    theta, v, thetas, points = start, np.zeros_like(start), [], []
    for step in range(STEPS):
        point = theta + BETAS[step] * v
        v = BETAS[step] * v - RATES[step] * gradient(step, point)
        theta = theta + v
        thetas.append(theta)
        points.append(point)
    return np.stack(thetas), np.stack(points)


def train(optimizer: Any, gradients_at=lambda theta, state: theta):
    """θ after every step, and where each gradient was taken, in float64."""
    thetas, points = [], []
    with jax.enable_x64(True):
        update = jax.jit(optimizer.update)
        theta = jnp.asarray(START)
        state = optimizer.init(theta)
        for step in range(STEPS):
            point = gradients_at(theta, state)
            g = jnp.asarray(gradient(step, np.asarray(point)))
            updates, state = update(g, state, theta)
            theta = theta + updates
            thetas.append(np.asarray(theta))
            points.append(np.asarray(point))
    return np.stack(thetas), np.stack(points)


def test_two_point_form_is_sutskevers_for_any_schedules():
    got = train(
        two_point_nesterov(rate_at, beta_at),
        lambda theta, state: lookahead_params(theta, state, beta_at),
    )
    np.testing.assert_allclose(got, nag(), 1e-12, 1e-13)


def test_next_beta_form_walks_the_look_ahead_points_for_any_schedules():
    _, points = train(nesterov(rate_at, beta_at))
    np.testing.assert_allclose(points, nag()[1], 1e-12, 1e-13)


def test_present_beta_forms_leave_them_once_beta_changes():
    _, points = train(keras(rate_at, beta_at, nesterov=True))
    np.testing.assert_array_equal(points[0], nag()[1][0])
    assert np.abs(points - nag()[1]).max() > 1e-2


def test_all_forms_are_pytorchs_while_rate_and_beta_are_constant():
    want, _ = train(
        optax.chain(heavy_ball(0.83, nesterov=True), optax.scale_by_learning_rate(0.07))
    )
    np.testing.assert_allclose(train(nesterov(0.07, 0.83))[0], want, 1e-12, 1e-13)
    _, points = train(
        two_point_nesterov(0.07, 0.83),
        lambda theta, state: lookahead_params(theta, state, 0.83),
    )
    np.testing.assert_allclose(points[1:], want[:-1], 1e-12, 1e-13)


def test_grad_fn_is_called_at_the_look_ahead_point():
    def loss(theta):
        return jnp.sum(jnp.asarray(CURVATURE) * (1 - jnp.cos(theta)))

    with jax.enable_x64(True):
        optimizer: Any = two_point_nesterov(rate_at, beta_at)
        one = other = jnp.asarray(START)
        state = optimizer.init(one)
        same = optimizer.init(one)
        for _ in range(5):
            point = lookahead_params(one, state, beta_at)
            updates, state = optimizer.update(jax.grad(loss)(point), state)
            one = one + updates
            updates, same = optimizer.update(None, same, other, grad_fn=jax.grad(loss))
            other = other + updates
        np.testing.assert_array_equal(one, other)


def test_grad_fn_and_gradients_exclude_each_other_and_params_are_needed():
    optimizer: Any = two_point_nesterov(0.1, 0.9)
    theta = jnp.zeros(2)
    state = optimizer.init(theta)
    with pytest.raises(ValueError, match="got gradients and grad_fn, which would") as e:
        optimizer.update(theta, state, theta, grad_fn=jnp.sin)
    assert "Pass None for the gradients, or leave grad_fn out." in str(e.value)
    with pytest.raises(ValueError, match="grad_fn needs params, got None"):
        optimizer.update(None, state, grad_fn=jnp.sin)


def test_two_point_form_works_in_a_chain_beside_other_extra_arguments():
    optimizer: Any = optax.chain(optax.clip(0.5), two_point_nesterov(0.1, 0.9))
    theta = {"a": jnp.ones(2), "b": jnp.ones(3)}
    state = optimizer.init(theta)
    updates, state = optimizer.update(theta, state, theta, value=1.0)
    np.testing.assert_allclose(updates["a"], -0.05, 1e-6)
    ahead: Any = lookahead_params(theta, state, 0.9)
    np.testing.assert_allclose(ahead["b"], 1 - 0.9 * 0.05, 1e-6)


def test_lookahead_leaves_masked_parameters_and_keeps_dtypes():
    optimizer: Any = optax.masked(
        two_point_nesterov(0.5, 0.5), {"moves": True, "still": False}
    )
    params = {"moves": jnp.ones(2, jnp.bfloat16), "still": jnp.arange(3)}
    state = optimizer.init(params)
    _, state = optimizer.update(params, state, params)
    ahead: Any = lookahead_params(params, state, 0.5)
    np.testing.assert_array_equal(ahead["moves"], jnp.full(2, 0.75, jnp.bfloat16))
    assert ahead["moves"].dtype == jnp.bfloat16
    assert ahead["still"] is params["still"]


def test_lookahead_of_complex_parameters():
    optimizer: Any = two_point_nesterov(0.5, 0.5)
    theta = jnp.asarray([1 + 2j], jnp.complex64)
    _, state = optimizer.update(theta, optimizer.init(theta))
    ahead: Any = lookahead_params(theta, state, 0.5)
    np.testing.assert_allclose(ahead, 0.75 * theta)


@pytest.mark.parametrize(
    "state",
    [
        (),
        (ema(0.9).init(jnp.zeros(2)), ema(0.9).init(jnp.zeros(2))),
    ],
)
def test_lookahead_needs_one_velocity(state):
    message = f"state must hold one MomentumState, got {len(state)}. Pass the state of"
    with pytest.raises(ValueError, match=message):
        lookahead_params(jnp.zeros(2), state, 0.9)


def test_lookahead_refuses_parameters_of_another_shape():
    state = two_point_nesterov(0.1, 0.9).init({"a": jnp.ones((3, 1))})
    message = "params['a'] has shape (3,), its velocity (3, 1). Call init on the same"
    with pytest.raises(ValueError, match=re.escape(message)):
        lookahead_params({"a": jnp.ones(3)}, state, 0.9)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nesterov(-0.1, 0.9), "nesterov: learning_rate must lie in [0, inf)"),
        (lambda: nesterov(0.1, 1.0), "nesterov: beta must lie in [0, 1), got 1.0."),
        (lambda: two_point_nesterov(0.1, -0.5), "beta must lie in [0, 1), got -0.5."),
        (
            lambda: two_point_nesterov(float("nan"), 0.5),
            "learning_rate must lie in [0, inf), got nan.",
        ),
        (
            lambda: lookahead_params(1.0, ema(0.9).init(1.0), 1.5),
            "lookahead_params: beta must lie in [0, 1), got 1.5.",
        ),
    ],
)
def test_value_out_of_range_is_refused(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
