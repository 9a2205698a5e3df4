"""The conversions for memory, step size and batch size are exact."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.trajectory import updates_and_states

from optax_momentum import (
    Coefficients,
    beta_from_half_life,
    beta_from_time_constant,
    effective_learning_rate,
    heavy_ball,
    heavy_ball_coefficients,
    keras_coefficients,
    linear_momentum,
)


def last_update(transformation, gradients):
    return updates_and_states(transformation, gradients)[0][-1].item()


def test_half_of_a_gradient_remains_after_the_half_life():
    impulse = jnp.zeros(8).at[0].set(1.0)
    remaining = last_update(heavy_ball(beta_from_half_life(7)), impulse)
    assert remaining == pytest.approx(0.5)
    remaining = last_update(heavy_ball(beta_from_time_constant(5)), impulse[:6])
    assert remaining == pytest.approx(math.exp(-1))


def test_time_constant_is_the_half_life_divided_by_ln_two():
    assert beta_from_time_constant(3.7) == pytest.approx(
        beta_from_half_life(3.7 * math.log(2)), rel=1e-15
    )


@pytest.mark.parametrize("beta_from", [beta_from_half_life, beta_from_time_constant])
def test_memory_in_samples_spans_the_same_data_at_every_batch_size(beta_from):
    small, large = (beta_from(900, batch_size=size) for size in (60, 180))
    assert large == pytest.approx(small**3, rel=1e-15)
    assert small == beta_from(15)


@pytest.mark.parametrize("beta_from", [beta_from_half_life, beta_from_time_constant])
def test_memory_can_be_traced_and_differentiated(beta_from):
    got = jax.jit(beta_from)(6.5, batch_size=3)
    np.testing.assert_allclose(got, beta_from(6.5, batch_size=3), 1e-6)
    assert got.dtype == jnp.float32
    slope = jax.grad(beta_from)(6.5)
    np.testing.assert_allclose(slope, (beta_from(6.6) - beta_from(6.4)) / 0.2, 1e-3)
    lanes = jax.vmap(beta_from)(jnp.asarray([2.0, 9.0]))
    np.testing.assert_allclose(lanes, [beta_from(2), beta_from(9)], 1e-6)


def test_infinite_memory_never_forgets():
    assert beta_from_half_life(math.inf) == beta_from_time_constant(math.inf) == 1


@pytest.mark.parametrize(
    ("coefficients", "rate"),
    [
        (heavy_ball_coefficients(0.8), 0.3),
        (heavy_ball_coefficients(0.8, nesterov=True), 0.3),
        (heavy_ball_coefficients(0.8, dampening=0.3), 0.3),
        (keras_coefficients(0.03, 0.8, nesterov=True), 1.0),
        (lambda step: Coefficients(-0.6, 0.7, 1.3, -0.4), 0.3),
    ],
)
def test_a_constant_gradient_settles_at_the_effective_learning_rate(coefficients, rate):
    settled = rate * last_update(linear_momentum(coefficients), jnp.ones(90))
    stated = effective_learning_rate(rate, *coefficients(1))
    assert settled == pytest.approx(stated, rel=1e-5)


def test_effective_learning_rate_can_be_held_while_beta_changes():
    for beta in (0.3, 0.9, 0.99):
        rate = 0.7 / effective_learning_rate(1.0, beta)
        assert rate == pytest.approx(0.7 * (1 - beta), rel=1e-14)


def test_effective_learning_rate_can_be_traced_and_differentiated():
    got = jax.jit(effective_learning_rate)(0.1, 0.8, 0.5, 0.8, 1.0)
    np.testing.assert_allclose(got, 0.1 * (0.5 * 0.8 / 0.2 + 1), 1e-6)
    slope = jax.grad(effective_learning_rate, argnums=1)(0.1, 0.8)
    np.testing.assert_allclose(slope, 0.1 / 0.2**2, 1e-5)


@pytest.mark.parametrize(
    "name", ["beta_from_half_life: half_life", "beta_from_time_constant: time_constant"]
)
@pytest.mark.parametrize("bad", [0, -2.0, float("nan"), jnp.asarray(-1.5)])
def test_a_memory_that_is_not_positive_is_refused(name, bad):
    function = globals()[name.split(":")[0]]
    remedy = "It counts steps, or samples if batch_size is given."
    message = f"{name} must be positive, got {bad!s}. {remedy}"
    with pytest.raises(ValueError, match=re.escape(message)):
        function(bad)
    message = f"{name.split(':')[0]}: batch_size must be positive, got {bad!s}. It is "
    with pytest.raises(ValueError, match=re.escape(message)):
        function(5, batch_size=bad)
    with pytest.raises(TypeError, match=re.escape(f"{name} must be a number or a")):
        function("5")
