"""Every method computes its equation at every step, as a NumPy loop in float64 does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.methods import METHODS, buffers, momentum_states
from support.trajectory import updates_and_states

from optax_momentum import (
    Coefficients,
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    keras_coefficients,
    linear_momentum,
    qhm,
)

STEPS = 40
GRADIENTS = np.random.default_rng(7).normal(size=(STEPS, 3, 2))
BETAS = 0.95 - 0.6 * np.arange(STEPS) / STEPS  # A schedule without a constant part.


def trajectory(transformation, gradients):
    """Returns the updates and buffers after every step, as NumPy arrays."""
    updates, states = updates_and_states(transformation, gradients)
    per_buffer = buffers(states)
    stacked = per_buffer[0] if len(per_buffer) == 1 else jnp.stack(per_buffer, axis=1)
    return jax.device_get((updates, stacked))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_method_computes_its_equation_at_every_step(name, scheduled, dtype):
    method = METHODS[name]
    # The weight that debiases is in float32 even for float64 leaves.
    tolerance = 1e-12 if dtype == np.float64 and "debiased" not in name else 2e-6
    with jax.enable_x64(dtype == np.float64):
        beta = (lambda step: jnp.asarray(BETAS)[step]) if scheduled else 0.83
        got = trajectory(method.build(beta), jnp.asarray(GRADIENTS, dtype))
    want = method.reference(GRADIENTS, BETAS if scheduled else 0.83)
    for computed, expected in zip(got, want, strict=True):
        assert computed.dtype == dtype
        np.testing.assert_allclose(computed, expected, tolerance, tolerance)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scheduled", [False, True])
def test_buffer_divided_by_weight_is_the_constant_gradient(name, scheduled):
    beta = (lambda step: jnp.asarray(BETAS)[step]) if scheduled else 0.83
    transformation = METHODS[name].build(beta)
    state: Any = transformation.init(jnp.zeros(()))
    for _ in range(9):
        _, state = transformation.update(jnp.asarray(-3.5), state)
        for momentum in momentum_states(state):
            average = momentum.buffer / momentum.weight
            assert average == pytest.approx(-3.5, rel=1e-6)


@pytest.mark.parametrize(
    ("transformation", "settled"),
    [
        (ema(0.8), 1.0),
        (ema(0.8, debias=True), 1.0),
        (heavy_ball(0.8), 5.0),
        (heavy_ball(0.8, dampening=0.3), 3.5),
        (heavy_ball(0.8, nesterov=True), 5.0),
        (keras(0.03, 0.8), -0.15),
        (keras(0.03, 0.8, nesterov=True), -0.15),
    ],
)
def test_constant_gradient_settles_at_the_documented_value(transformation, settled):
    updates, _ = trajectory(transformation, jnp.full(100, 2.0))
    assert updates[-1] == pytest.approx(2.0 * settled, rel=1e-5)
    assert abs(updates[0]) == pytest.approx(abs(updates[-1]), rel=0.9)


def test_debiased_ema_returns_a_constant_gradient_at_every_step():
    updates, _ = trajectory(ema(0.97, debias=True), jnp.full(50, 1.7))
    np.testing.assert_allclose(updates, 1.7, 1e-6)


@pytest.mark.parametrize("beta", [0.5, 0.75, 0.875, 0.984375])
def test_ema_is_heavy_ball_scaled_bit_for_bit_where_one_minus_beta_is_exact(beta):
    gradients = jnp.asarray(GRADIENTS, jnp.float32)
    averages, _ = trajectory(ema(beta), gradients)
    sums, _ = trajectory(heavy_ball(beta), gradients)
    np.testing.assert_array_equal(averages, (1 - beta) * sums)


def test_an_impulse_decays_by_beta_per_step():
    impulse = jnp.zeros(20).at[0].set(1.0)
    updates, _ = trajectory(heavy_ball(0.7), impulse)
    np.testing.assert_allclose(updates, 0.7 ** np.arange(20), 1e-5)
    updates, _ = trajectory(heavy_ball(0.7, nesterov=True), impulse)
    np.testing.assert_allclose(updates[0], 1.7, 1e-6)
    np.testing.assert_allclose(updates[1:], 0.7 ** np.arange(2, 21), 1e-5)


def test_beta_zero_is_sgd_bit_for_bit():
    gradients = jnp.asarray(GRADIENTS, jnp.float32)
    for transformation in (ema(0), heavy_ball(0), heavy_ball(0, nesterov=True)):
        updates, _ = trajectory(transformation, gradients)
        np.testing.assert_array_equal(updates, gradients)


@pytest.mark.parametrize(
    ("coefficients", "method"),
    [
        (ema_coefficients(0.7), ema(0.7)),
        (heavy_ball_coefficients(0.7, dampening=0.2), heavy_ball(0.7, dampening=0.2)),
        (keras_coefficients(0.1, 0.7, nesterov=True), keras(0.1, 0.7, nesterov=True)),
    ],
)
def test_linear_momentum_with_the_coefficients_is_the_method(coefficients, method):
    gradients = jnp.asarray(GRADIENTS, jnp.float32)
    got = trajectory(linear_momentum(coefficients), gradients)
    np.testing.assert_array_equal(got, trajectory(method, gradients))


def test_linear_momentum_accepts_any_beta():
    ones = jnp.ones(4)
    integrated, _ = trajectory(linear_momentum(lambda _: Coefficients(1, 1)), ones)
    np.testing.assert_array_equal(integrated, [1, 2, 3, 4])
    negative, _ = trajectory(linear_momentum(lambda _: Coefficients(-0.5, 1)), ones)
    np.testing.assert_array_equal(negative, [1, 0.5, 0.75, 0.625])


@pytest.mark.parametrize(
    "transformation",
    [ema(0.9), heavy_ball(0.9), heavy_ball(0.9, nesterov=True), qhm(0.9, 0.7)],
)
def test_an_infinite_gradient_stays_infinite(transformation):
    updates, _ = trajectory(transformation, jnp.asarray([1.0, -jnp.inf, 1.0]))
    np.testing.assert_array_equal(updates[1:], [-np.inf, -np.inf])


def test_beta_keeps_its_digits_when_it_arrives_in_bfloat16():
    # 0.9 in bfloat16 is 0.8984375, and 1 − β is 0.1015625 only if computed wider.
    beta = jnp.asarray(0.9, jnp.bfloat16)
    updates, _ = trajectory(ema(beta), jnp.ones(1))
    assert updates[0] == 0.1015625
