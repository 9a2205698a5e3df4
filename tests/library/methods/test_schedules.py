"""Schedules of beta: their formulas, their types, and their effect on the step."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.trajectory import updates_and_states

from optax_momentum import (
    delayed,
    ema,
    heavy_ball,
    keras,
    nesterov,
    sawtooth,
    schedules,
    sgd,
)

NAN, INF = float("nan"), float("inf")


def demon(t):
    left = 1 - min(t / 30, 1)
    return 0.9 * left / (1 - 0.9 + 0.9 * left)


def sutskever(t):
    return min(1 - 2 ** (-1 - np.log2(t // 7 + 1)), 0.88)


def one_cycle(t):
    return np.interp(t, [0, 15, 30], [0.93, 0.81, 0.93])


def cosine(t):
    return 0.5 + 0.4 * (1 - np.cos(np.pi * min(t / 20, 1))) / 2


FISTA = schedules.fista()
LINEAR = schedules.linear(0.5, 0.9, 20)
SCHEDULES = {
    "demon": (schedules.demon(0.9, 30), demon),
    "sutskever": (schedules.sutskever(0.88, every=7), sutskever),
    "fista": (FISTA, lambda t: t / (t + 3)),
    "one_cycle": (schedules.one_cycle(30, 0.93, 0.81), one_cycle),
    "linear": (LINEAR, lambda t: 0.5 + 0.4 * min(t / 20, 1)),
    "cosine": (schedules.cosine(0.5, 0.9, 20), cosine),
    "delayed": (delayed(LINEAR, 6), lambda t: np.interp(t, [6, 26], [0.5, 0.9])),
    "sawtooth": (sawtooth(FISTA, 8), lambda t: (t % 8) / (t % 8 + 3)),
    "sawtooth of a schedule": (
        sawtooth(FISTA, lambda t: jnp.where(jnp.less(t, 16), 8, 12)),
        lambda t: t % 8 / (t % 8 + 3) if t < 16 else t % 12 / (t % 12 + 3),
    ),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


@every_schedule
def test_schedule_follows_its_formula_at_python_and_traced_steps(name):
    schedule, formula = SCHEDULES[name]
    want = [formula(t) for t in range(40)]
    np.testing.assert_allclose([schedule(t) for t in range(40)], want, 1e-5, 1e-6)
    traced = jax.jit(jax.vmap(schedule))(jnp.arange(40, dtype=jnp.int32))
    np.testing.assert_allclose(traced, want, 1e-5, 1e-6)
    assert traced.dtype == jnp.float32 and not traced.weak_type


@every_schedule
def test_schedule_returns_float64_if_that_is_enabled(name):
    schedule, formula = SCHEDULES[name]
    with jax.enable_x64(True):
        value = schedule(jnp.asarray(13, jnp.int32))
        assert value.dtype == jnp.float64
        assert float(value) == pytest.approx(formula(13), rel=1e-14)


@every_schedule
def test_schedule_stays_in_range_until_the_last_step(name):
    schedule, _ = SCHEDULES[name]
    for step in (0, 1, 10**6, 2**31 - 1):
        assert 0 <= schedule(step) <= 1
        assert 0 <= schedule(jnp.asarray(step, jnp.int32)) <= 1


def test_defaults_are_the_papers():
    assert schedules.sutskever()(249) == 0.5
    assert schedules.sutskever()(250) == 0.75
    assert schedules.sutskever()(10**6) == pytest.approx(0.99)
    at = [float(schedules.one_cycle(100)(t)) for t in (0, 25, 50, 100, 200)]
    assert at == pytest.approx([0.95, 0.9, 0.85, 0.95, 0.95])


def test_arguments_can_be_traced():
    at_three = [
        (lambda a, n: schedules.demon(a, n)(3), 0.9),
        (lambda a, n: schedules.sutskever(a, n)(3), 0.6),
        (lambda a, n: schedules.one_cycle(n, a, 0.5)(3), 0.9),
        (lambda a, n: schedules.linear(a, 0.5, n)(3), 0.9),
        (lambda a, n: schedules.cosine(a, 0.5, n)(3), 0.9),
        (lambda a, n: sawtooth(FISTA, n)(3) + a, 0.9),
        (lambda a, n: delayed(FISTA, n)(8) + a, 0.9),
    ]
    for build, beta in at_three:
        assert jax.jit(build)(beta, 5) == pytest.approx(float(build(beta, 5)))


def last_update(transformation, steps):
    return updates_and_states(transformation, jnp.ones(steps))[0][-1]


def test_a_schedule_changes_the_gain_of_heavy_ball_but_not_of_ema():
    falling = schedules.linear(0.9, 0.5, 200)
    assert last_update(ema(falling), 260) == pytest.approx(1.0, rel=1e-5)
    assert last_update(heavy_ball(falling), 260) == pytest.approx(2.0, rel=1e-5)
    assert last_update(heavy_ball(0.9), 260) == pytest.approx(10.0, rel=1e-5)


def test_demon_decays_the_weight_of_the_past_linearly():
    schedule = schedules.demon(0.9, 8)
    weights = [float(schedule(t) / (1 - schedule(t))) for t in range(9)]
    np.testing.assert_allclose(weights, 9.0 * (1 - np.arange(9) / 8), 1e-5, 1e-6)


BETA = "It is the fraction of the buffer kept at each step."
STEPS = "It is a number of update calls."
PERIOD = "after which the schedule restarts."
DELAY = "It is the number of steps before the schedule starts."
BAD = [
    (lambda v: schedules.demon(v, 10), "demon: beta", "[0, 1)", BETA),
    (lambda v: schedules.sutskever(v), "sutskever: beta_max", "[0, 1)", BETA),
    (lambda v: schedules.one_cycle(10, v), "one_cycle: high", "[0, 1)", BETA),
    (lambda v: schedules.one_cycle(10, 0.9, v), "one_cycle: low", "[0, 1)", BETA),
    (lambda v: schedules.linear(v, 0.5, 10), "linear: start", "[0, 1)", BETA),
    (lambda v: schedules.linear(0.5, v, 10), "linear: end", "[0, 1)", BETA),
    (lambda v: schedules.cosine(v, 0.5, 10), "cosine: start", "[0, 1)", BETA),
    (lambda v: schedules.cosine(0.5, v, 10), "cosine: end", "[0, 1)", BETA),
    (lambda v: schedules.demon(0.9, v - 1), "demon: steps", "(0, inf)", STEPS),
    (lambda v: schedules.sutskever(0.9, v - 1), "sutskever: every", "(0, inf)", STEPS),
    (lambda v: schedules.one_cycle(v - 1), "one_cycle: steps", "(0, inf)", STEPS),
    (lambda v: schedules.linear(0.5, 0.9, v - 1), "linear: steps", "(0, inf)", STEPS),
    (lambda v: schedules.cosine(0.5, 0.9, v - 1), "cosine: steps", "(0, inf)", STEPS),
    (lambda v: sawtooth(FISTA, v - 0.5), "sawtooth: every", "[1, inf)", PERIOD),
    (lambda v: delayed(FISTA, v - 1.5), "delayed: steps", "[0, inf)", DELAY),
]


@pytest.mark.parametrize(("build", "name", "bound", "remedy"), BAD)
def test_bad_argument_is_refused(build, name, bound, remedy):
    for value in (1.0, NAN, INF):
        message = f"{name} must lie in {bound}, got "
        with pytest.raises(ValueError, match=re.escape(message)) as raised:
            build(value)
        assert remedy in str(raised.value)
    with pytest.raises(ValueError, match=f"{name} must be a scalar"):
        build(np.ones(2))


def test_a_scheduled_period_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"sawtooth: every must lie in \[1, inf\)"):
        sawtooth(FISTA, lambda step: 0)(3)


@pytest.mark.usefixtures("float64")
def test_optax_schedules_keep_the_digits_of_float64():
    """At an int32 step, Optax's would be 3e-8 off."""
    rate = optax.exponential_decay(0.1, 100, 0.7)
    beta = optax.polynomial_schedule(0.5, 0.9, 1.5, 170)
    steps = np.arange(150)
    rates = 0.1 * 0.7 ** (steps / 100)
    betas = 0.9 + (0.5 - 0.9) * (1 - np.arange(151) / 170) ** 1.5
    gradients = np.random.default_rng(4).normal(size=(150, 3))

    def v_of(betas, gains):
        v, path = np.zeros(3), []
        for beta_t, gain_t, g in zip(betas, gains, gradients, strict=False):
            v = beta_t * v + gain_t * g
            path.append(v)
        return np.asarray(path)

    r, b = rates[:, None], betas[:, None]
    settings = {
        "sgd": (sgd(rate, beta), -r * v_of(betas, np.ones(150))),
        "keras": (keras(rate, beta), v_of(betas, -rates)),
        "ema": (ema(beta), v_of(betas, 1 - betas)),
        "nesterov": (
            nesterov(rate, beta),
            b[1:] * v_of(betas, -rates) - r * gradients,
        ),
        "sawtooth": (sgd(sawtooth(rate, 40)), -r[steps % 40] * gradients),
        "delayed": (sgd(delayed(rate, 9)), -r[np.maximum(steps - 9, 0)] * gradients),
    }
    for name, (transformation, want) in settings.items():
        with jax.numpy_dtype_promotion("standard"):  # Optax's schedules promote
            got = updates_and_states(transformation, gradients)[0]
        np.testing.assert_allclose(got, want, 1e-12, 1e-12, err_msg=name)
