"""Nesterov's momentum in its two forms, which are one method at different points."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.varying_schedules import (
    BETAS,
    CURVATURE,
    GRADIENTS,
    RATES,
    START,
    STEPS,
    beta_at,
    rate_at,
    train,
)

from optax_momentum import (
    ema,
    heavy_ball,
    keras,
    lookahead_params,
    nesterov,
    two_point_nesterov,
)


def sutskever_nesterov():
    """Returns the paper's θ after every step, and the point of every gradient."""
    theta, v, thetas, points = START, np.zeros_like(START), [], []
    for step in range(STEPS):
        point = theta + BETAS[step] * v
        v = BETAS[step] * v - RATES[step] * GRADIENTS[step](point)
        theta = theta + v
        thetas.append(theta)
        points.append(point)
    return np.stack(thetas), np.stack(points)


def test_two_point_form_equals_sutskevers_under_any_schedules():
    got = train(
        two_point_nesterov(rate_at, beta_at),
        point_at=lambda theta, state: lookahead_params(theta, state, beta_at),
    )
    thetas, points = sutskever_nesterov()
    np.testing.assert_allclose(got.params, thetas, 1e-12, 1e-13)
    np.testing.assert_allclose(got.points, points, 1e-12, 1e-13)


def test_next_beta_form_visits_the_look_ahead_points_under_any_schedules():
    got = train(nesterov(rate_at, beta_at)).points
    np.testing.assert_allclose(got, sutskever_nesterov()[1], 1e-12, 1e-13)


def test_current_beta_form_leaves_the_look_ahead_points_once_beta_changes():
    got, want = train(keras(rate_at, beta_at, nesterov=True)), sutskever_nesterov()[1]
    np.testing.assert_array_equal(got.points[0], want[0])
    assert np.abs(got.points - want).max() > 1e-2


def test_all_forms_equal_pytorch_at_constant_rate_and_beta():
    pytorch = heavy_ball(0.83, nesterov=True)
    want = train(optax.chain(pytorch, optax.scale_by_learning_rate(0.07))).params
    got = train(nesterov(0.07, 0.83)).params
    np.testing.assert_allclose(got, want, 1e-12, 1e-13)
    points = train(
        two_point_nesterov(0.07, 0.83),
        point_at=lambda theta, state: lookahead_params(theta, state, 0.83),
    ).points
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


def test_grad_fn_needs_params_and_excludes_gradients():
    optimizer: Any = two_point_nesterov(0.1, 0.9)
    theta = jnp.zeros(2)
    state = optimizer.init(theta)
    with pytest.raises(ValueError, match="got gradients and grad_fn, which would") as e:
        optimizer.update(theta, state, theta, grad_fn=jnp.sin)
    assert "Pass None for the gradients, or leave grad_fn out." in str(e.value)
    with pytest.raises(ValueError, match="grad_fn needs params, got None"):
        optimizer.update(None, state, grad_fn=jnp.sin)


def test_two_point_form_works_in_a_chain_with_other_extra_arguments():
    optimizer: Any = optax.chain(optax.clip(0.5), two_point_nesterov(0.1, 0.9))
    theta = {"a": jnp.ones(2), "b": jnp.ones(3)}
    state = optimizer.init(theta)
    updates, state = optimizer.update(theta, state, theta, value=1.0)
    np.testing.assert_allclose(updates["a"], -0.05, 1e-6)
    ahead: Any = lookahead_params(theta, state, 0.9)
    np.testing.assert_allclose(ahead["b"], 1 - 0.9 * 0.05, 1e-6)


def test_lookahead_skips_masked_parameters_and_keeps_dtypes():
    optimizer: Any = optax.masked(
        two_point_nesterov(0.5, 0.5), {"trained": True, "frozen": False}
    )
    params = {"trained": jnp.ones(2, jnp.bfloat16), "frozen": jnp.arange(3)}
    state = optimizer.init(params)
    _, state = optimizer.update(params, state, params)
    ahead: Any = lookahead_params(params, state, 0.5)
    np.testing.assert_array_equal(ahead["trained"], jnp.full(2, 0.75, jnp.bfloat16))
    assert ahead["trained"].dtype == jnp.bfloat16
    assert ahead["frozen"] is params["frozen"]


def test_lookahead_of_complex_parameters():
    optimizer: Any = two_point_nesterov(0.5, 0.5)
    theta = jnp.asarray([1 + 2j], jnp.complex64)
    _, state = optimizer.update(theta, optimizer.init(theta))
    ahead: Any = lookahead_params(theta, state, 0.5)
    np.testing.assert_allclose(ahead, 0.75 * theta)


@pytest.mark.parametrize(
    "state", [(), (ema(0.9).init(jnp.zeros(2)), ema(0.9).init(jnp.zeros(2)))]
)
def test_lookahead_needs_exactly_one_velocity(state):
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
