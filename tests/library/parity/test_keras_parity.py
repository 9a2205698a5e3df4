"""`keras` follows `keras.optimizers.SGD` for 200 recorded steps of changing rates.

Keras has the learning rate inside the velocity; `ema` and `heavy_ball` have it outside.
These tests show that both agree while the rate is constant, and how they differ once it
changes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.problem import Setting, learning_rates, load
from golden.replay import assert_follows, replay
from support.trajectory import updates_and_states

from optax_momentum import ema, heavy_ball, keras

GOLDEN = load("keras")


def keras_sgd(setting: Setting) -> optax.GradientTransformation:
    """Returns `keras.optimizers.SGD(**setting.options)`; its decay is decoupled."""
    rates = jnp.asarray(learning_rates(GOLDEN.problem, setting))
    options = dict(setting.options)
    weight_decay = options.pop("weight_decay", 0.0)
    return optax.chain(
        keras(lambda step: rates[step], options.pop("momentum"), **options),
        optax.add_decayed_weights(lambda step: -weight_decay * rates[step]),
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", GOLDEN.settings)
def test_keras_follows_keras(name):
    got = replay(keras_sgd(GOLDEN.settings[name]), GOLDEN, name)
    assert_follows(got, GOLDEN, name)


@pytest.mark.usefixtures("float64")
def test_ema_at_lr_over_one_minus_beta_follows_recorded_keras_at_constant_rate():
    rate, beta = float(GOLDEN.problem["learning_rates"].max()), 0.9
    optimizer = optax.chain(ema(beta), optax.scale_by_learning_rate(rate / (1 - beta)))
    got = replay(optimizer, GOLDEN, "constant")
    velocity = {leaf: -rate / (1 - beta) * m for leaf, m in got["buffers"].items()}
    assert_follows({**got, "buffers": velocity}, GOLDEN, "constant")


def updates_of(optimizer: optax.GradientTransformation, gradients) -> jax.Array:
    return updates_and_states(optimizer, gradients)[0]


def inside_and_outside(rates, beta) -> list[optax.GradientTransformation]:
    """Returns one optimizer with the rates inside the velocity and two with outside."""
    rates = jnp.asarray(rates, jnp.float32)
    return [
        keras(lambda t: rates[t], beta),
        optax.chain(
            ema(beta), optax.scale_by_learning_rate(lambda t: rates[t] / (1 - beta))
        ),
        optax.chain(heavy_ball(beta), optax.scale_by_learning_rate(lambda t: rates[t])),
    ]


@pytest.mark.parametrize("beta", [0.6, 0.9, 0.97])
def test_ema_at_lr_over_one_minus_beta_equals_keras_at_constant_rate(beta):
    gradients = np.random.default_rng(1).standard_normal((200, 5)).astype(np.float32)
    inside, *outside = inside_and_outside(np.full(200, 0.07), beta)
    expected = updates_of(inside, gradients)
    for optimizer in outside:
        got = updates_of(optimizer, gradients)
        # The sums are larger than some of their results, so the error is absolute.
        np.testing.assert_allclose(got, expected, 0, 1e-6 * np.abs(expected).max())


def test_ema_and_keras_differ_once_the_learning_rate_changes():
    inside, *outside = inside_and_outside([0.1, 0.01], 0.9)
    ones = np.ones((2, 1), np.float32)
    moved = updates_of(inside, ones).sum()
    np.testing.assert_allclose(moved, -0.1 - (0.9 * 0.1 + 0.01), rtol=1e-6)  # −0.200
    for optimizer in outside:
        moved = updates_of(optimizer, ones).sum()
        np.testing.assert_allclose(moved, -0.1 - 0.01 * 1.9, rtol=1e-6)  # −0.119


def test_keras_differs_from_heavy_ball_by_its_old_learning_rates():
    """The difference is −Σ β^{t−k}·(αₖ − αₜ)·gₖ, which is zero only at constant α."""
    beta, steps = 0.8, 40
    random = np.random.default_rng(2)
    gradients = random.standard_normal((steps, 3)).astype(np.float32)
    rates = random.uniform(0.01, 0.1, steps)
    inside, _, heavy = inside_and_outside(rates, beta)
    got = updates_of(inside, gradients) - updates_of(heavy, gradients)
    expected = [
        -sum(beta ** (t - k) * (rates[k] - rates[t]) * gradients[k] for k in range(t))
        for t in range(1, steps)
    ]
    np.testing.assert_allclose(got[1:], expected, rtol=0, atol=1e-6)
    assert np.abs(expected).max() > 0.05
