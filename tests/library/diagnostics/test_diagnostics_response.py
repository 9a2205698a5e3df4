"""The impulse response, and its gain, noise gain and half-life."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.kernels import every_kernel, method_of

from optax_momentum import aggmo, ema, heavy_ball, keras
from optax_momentum.diagnostics import gain, half_life, impulse_response, noise_gain


@every_kernel
def test_the_measured_response_is_the_closed_form(kernel):
    beta, a, b, c = kernel
    want = a * b * beta ** np.arange(100) + c * (np.arange(100) == 0)
    response = impulse_response(method_of(kernel), 100)
    np.testing.assert_allclose(response, want, 1e-5, 1e-9)
    assert gain(response) == pytest.approx(a * b / (1 - beta) + c, rel=1e-5)
    noise = (a * b + c) ** 2 + (a * b * beta) ** 2 / (1 - beta**2)
    assert noise_gain(response) == pytest.approx(noise, rel=1e-5)


def test_an_average_has_less_noise_than_a_gradient():
    response = impulse_response(ema(0.83), 200)
    assert noise_gain(response) == pytest.approx(0.17 / 1.83, rel=1e-5)


def test_half_life_is_that_of_the_buffer_and_one_step_less_with_nesterov():
    betas = jnp.asarray([0.6, 0.83, 0.97])
    known = math.log(2) / -np.log(betas)
    for build, want in [
        (heavy_ball, known),
        (ema, known),
        (lambda beta: keras(0.3, beta), known),  # whose response is negative
        (lambda beta: heavy_ball(beta, nesterov=True), known - 1),
    ]:
        got = jax.vmap(lambda beta, b=build: half_life(impulse_response(b(beta), 400)))
        np.testing.assert_allclose(got(betas)[want > 1], want[want > 1], 1e-3)


def test_half_life_of_sgd_is_zero():
    assert half_life(impulse_response(optax.scale(-0.1), 3)) == 0.0


def test_gain_of_aggmo_is_the_mean_gain_of_its_kernels():
    response = impulse_response(aggmo([0.0, 0.5, 0.9]), 200)
    assert gain(response) == pytest.approx((1 + 2 + 10) / 3, rel=1e-5)


def test_a_response_may_be_measured_after_some_steps():
    dampened = heavy_ball(0.83, dampening=0.3)
    assert impulse_response(dampened, 2)[0] == 1.0
    assert impulse_response(dampened, 2, after=1)[0] == pytest.approx(0.7)
    debiased = ema(0.83, debias=True)
    assert impulse_response(debiased, 2)[0] == pytest.approx(1.0)
    assert impulse_response(debiased, 2, after=400)[0] == pytest.approx(0.17)


def test_the_response_of_optax_equals_ours():
    ours = impulse_response(heavy_ball(0.83, nesterov=True), 50)
    theirs = impulse_response(optax.trace(0.83, nesterov=True), 50)
    np.testing.assert_allclose(ours, theirs, 1e-6)


def test_gain_may_be_traced_and_vmapped():
    betas = jnp.asarray([0.5, 0.83])
    gains = jax.vmap(lambda beta: gain(impulse_response(heavy_ball(beta), 99)))(betas)
    np.testing.assert_allclose(gains, [2, 1 / 0.17], 1e-5)


@pytest.mark.parametrize("measure", [gain, noise_gain, half_life])
def test_a_truncated_response_is_refused(measure):
    message = f"{measure.__name__}: the response must have decayed, but its last entry"
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        measure(impulse_response(heavy_ball(0.99), 100))
    assert "Measure more than 100 steps." in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "impulse_response: steps must be a whole number of at least 1"),
        ({"steps": 2.5}, "impulse_response: steps must be a whole number of at least"),
        ({"steps": 3, "after": -1}, "after must be a whole number of at least 0, got"),
    ],
)
def test_counts_of_steps_must_be_whole_numbers(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        impulse_response(ema(0.83), **arguments)
