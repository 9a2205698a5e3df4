"""QHM: its special cases, where it settles, and what it refuses."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.noisy_quadratic import NOISY
from support.noisy_quadratic import train as train_noisy
from support.trajectory import updates_and_states

from optax_momentum import ema, heavy_ball, qhm

NAN, INF = float("nan"), float("inf")


def train(optimizer):
    return train_noisy(optimizer, NOISY[:60])[0]


def test_nu_zero_is_sgd_and_nu_one_is_ema():
    rate = optax.scale(-0.3)
    plain = train(rate)
    np.testing.assert_array_equal(train(optax.chain(qhm(0.8, 0.0), rate)), plain)
    averaged = train(optax.chain(ema(0.8), rate))
    np.testing.assert_array_equal(train(optax.chain(qhm(0.8, 1.0), rate)), averaged)


def test_nu_equal_to_beta_is_pytorch_nesterov():
    beta, alpha = 0.83, 0.07
    ours = train(optax.chain(qhm(beta, beta), optax.scale(-alpha / (1 - beta))))
    nesterov = train(optax.chain(heavy_ball(beta, nesterov=True), optax.scale(-alpha)))
    np.testing.assert_allclose(ours, nesterov, 1e-12, 1e-13)


def test_constant_gradient_settles_at_itself():
    transformation: Any = qhm(0.9, 0.6)
    updates, _ = updates_and_states(transformation, jnp.full((200, 2), 1.7))
    np.testing.assert_allclose(updates[-1], 1.7, 1e-6)


def test_nu_can_be_scheduled():
    transformation: Any = qhm(0.9, lambda step: jnp.asarray([0.0, 0.5])[step])
    state = transformation.init(jnp.zeros(()))
    first, state = transformation.update(jnp.asarray(2.0), state)
    second, _ = transformation.update(jnp.asarray(2.0), state)
    np.testing.assert_allclose([first, second], [2.0, 1.0 + 0.5 * 0.38], 1e-6)


def test_defaults_are_the_papers():
    tx: Any = qhm()
    updates, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    assert updates == pytest.approx(0.3 + 0.7 * 0.001)
    assert state.buffer == pytest.approx(0.001)


@pytest.mark.parametrize("value", [-0.1, 1.1, NAN, INF, jnp.asarray(1.5)])
def test_nu_out_of_range_is_refused(value):
    message = f"qhm: nu must lie in [0, 1], got {value!s}. It is the weight of "
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        qhm(0.9, value)
    assert "`linear_momentum` accepts any coefficients." in str(raised.value)


@pytest.mark.parametrize("value", [-0.1, 1.0, NAN])
def test_beta_out_of_range_is_refused(value):
    message = f"qhm: beta must lie in [0, 1), got {value}."
    with pytest.raises(ValueError, match=re.escape(message)):
        qhm(value, 0.7)
