"""Learning-rate schedules against their equations in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.optimizers.schedules import SCHEDULES

STEPS, PEAK = 1_390, 0.37  # neither 5% nor 30% of the steps is a whole number of steps
SHARES = 0.0137, 0.0431, 0.0619, 0.2713, 0.3307, 0.4877, 0.5371, 0.7433, 0.97


def cosine(t):
    return 0.5 + 0.5 * np.cos(np.pi * t)


def one_cycle(t):
    if t < 0.3:
        return 0.04 + 0.96 * np.sin(np.pi / 2 * t / 0.3) ** 2
    left = np.cos(np.pi / 2 * (t - 0.3) / 0.7) ** 2
    return 4e-6 + (1 - 4e-6) * left


REFERENCES = {
    "step": lambda t: 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01,
    "cosine": cosine,
    "warmup_cosine": lambda t: 20 * t if t < 0.05 else cosine((t - 0.05) / 0.95),
    "one_cycle": one_cycle,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_schedule_follows_its_equation(name):
    steps = np.rint(np.array(SHARES) * STEPS).astype(np.int32)
    rate = SCHEDULES[name].rate(PEAK, STEPS)
    got = jax.vmap(rate)(jnp.asarray(steps))
    want = [PEAK * REFERENCES[name](step / STEPS) for step in steps]
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-7)
    assert got.dtype == jnp.float32


@pytest.mark.parametrize("name", REFERENCES)
def test_schedule_of_a_traced_rate_equals_that_of_a_number(name):
    def rate(learning_rate, step):
        return SCHEDULES[name].rate(learning_rate, STEPS)(step)

    for step in (101, 997):
        want = SCHEDULES[name].rate(PEAK, STEPS)(step)
        assert float(jax.jit(rate)(PEAK, step)) == pytest.approx(float(want), rel=1e-6)


@pytest.mark.parametrize("name", REFERENCES)
def test_schedule_stays_between_zero_and_the_peak_and_reaches_it(name):
    rates = jax.vmap(SCHEDULES[name].rate(PEAK, STEPS))(jnp.arange(STEPS + 1))
    assert float(rates.min()) >= 0
    assert float(rates.max()) == pytest.approx(PEAK, rel=1e-5)
    assert float(rates[-1]) <= PEAK / 99


def test_constant_schedule_is_the_number():
    assert SCHEDULES["constant"].rate(PEAK, STEPS) == PEAK


def test_every_schedule_has_a_reference():
    assert REFERENCES.keys() | {"constant"} == SCHEDULES.keys()
