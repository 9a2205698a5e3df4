"""Momentum correction: a rate inside the buffer acts as one outside."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.varying_schedules import NOISE, RATES, STEPS, beta_at, train

from optax_momentum import heavy_ball, keras


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_correction_makes_a_rate_inside_act_as_one_outside(nesterov):
    # The rate changes at every step, with a warm-up and a hundredfold drop.
    rates = RATES * np.where(np.arange(STEPS) < 20, 1.0, 0.01)
    rates[:5] *= np.arange(1, 6) / 5

    def rate_at(step):
        return jnp.asarray(np.array(rates))[step]

    def inside(corrected):
        return keras(rate_at, beta_at, nesterov=nesterov, momentum_correction=corrected)

    rate = optax.scale_by_schedule(lambda step: -rate_at(step))
    outside = optax.chain(heavy_ball(beta_at, nesterov=nesterov), rate)
    want = train(outside).params
    np.testing.assert_allclose(train(inside(True)).params, want, 1e-12, 1e-12)
    assert np.abs(train(inside(False)).params - want).max() > 1e-2


def test_momentum_correction_restarts_the_velocity_after_a_rate_of_zero():
    rates = jnp.asarray([0.0, 0.1, 0.2, 0.0, 0.3, 0.1])
    tx: Any = keras(lambda step: rates[step], 0.9, momentum_correction=True)
    state, emitted = tx.init(jnp.zeros(())), []
    for g in NOISE[:6, 0]:
        updates, state = tx.update(jnp.asarray(g, jnp.float32), state)
        emitted.append(float(updates))
    g = NOISE[:6, 0]
    want = [0.0, -0.1 * g[1], -0.2 * (0.9 * g[1] + g[2])]
    want += [0.0, -0.3 * g[4], -0.1 * (0.9 * g[4] + g[5])]
    np.testing.assert_allclose(emitted, want, 1e-5, 1e-7)


def test_momentum_correction_may_be_traced():
    def last(correction):
        rates = jnp.asarray([0.1, 0.05])
        tx: Any = keras(lambda step: rates[step], 0.8, momentum_correction=correction)
        state = tx.init(jnp.zeros(()))
        _, state = tx.update(jnp.ones(()), state)
        return tx.update(jnp.ones(()), state)[0]

    for switch, want in [(1.0, -0.05 * 1.8), (0.0, -0.08 - 0.05)]:
        assert jax.jit(last)(switch) == pytest.approx(want)
        assert last(bool(switch)) == pytest.approx(want)


@pytest.mark.parametrize("traced", [False, True])
def test_momentum_correction_may_spare_small_changes_of_the_rate(traced):
    """Detectron's rule: only changes by more than 1.1 times rescale the velocity."""
    rates = [0.1, 0.105, 0.2, 0.19, 0.05, 0.054, 0.06]  # three larger changes
    want, v = [], 0.0
    for t, g in enumerate(NOISE[:7, 0]):
        before = rates[max(t - 1, 0)]
        if max(rates[t] / before, before / rates[t]) > 1.1:
            v *= rates[t] / before
        v = 0.8 * v - rates[t] * g
        want.append(v)

    def emitted(threshold):
        tx: Any = keras(
            lambda step: jnp.asarray(rates)[step],
            0.8,
            momentum_correction=True,
            correction_threshold=threshold,
        )
        state, updates = tx.init(jnp.zeros(())), []
        for g in NOISE[:7, 0]:
            update, state = tx.update(jnp.asarray(g, jnp.float32), state)
            updates.append(update)
        return jnp.stack(updates)

    found = jax.jit(emitted)(1.1) if traced else emitted(1.1)
    np.testing.assert_allclose(found, want, 1e-5)
    assert not np.allclose(emitted(1.0), want, 1e-2)


def test_momentum_correction_of_a_constant_rate_changes_nothing():
    plain = train(keras(0.1, 0.8)).params
    same = train(keras(0.1, 0.8, momentum_correction=True)).params
    np.testing.assert_array_equal(plain, same)


def test_momentum_correction_of_a_rate_set_at_run_time_is_refused():
    message = "keras: momentum_correction=True needs learning_rate as a schedule, got "
    rates: Any = (jnp.asarray(0.1), np.float32(0.1))
    for rate in rates:
        with pytest.raises(ValueError, match=message) as raised:
            keras(rate, 0.9, momentum_correction=True)
        assert "Pass a schedule, or apply the rate outside" in str(raised.value)
    with pytest.raises(ValueError, match="momentum_correction must be True or False"):
        keras(0.1, 0.9, momentum_correction=0.5)
