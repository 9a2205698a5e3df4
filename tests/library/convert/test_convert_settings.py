"""Settings and states converted between conventions make the same steps."""

import itertools
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_momentum import MomentumState, ema, heavy_ball, keras, qhm
from optax_momentum.convert import (
    Ema,
    HeavyBall,
    Keras,
    Qhm,
    hyperparameters,
    momentum_state,
)

RATE, BETA = 0.3, 0.85
GAIN = 1 / (1 - BETA)
# All settings in PLAIN make the same steps, and so do all in NESTEROV.
PLAIN = [
    HeavyBall(RATE, BETA),
    Keras(RATE, BETA),
    Ema(RATE * GAIN, BETA),
    Qhm(RATE * GAIN, BETA, 1.0),
]
NESTEROV = [
    HeavyBall(RATE, BETA, nesterov=True),
    Keras(RATE, BETA, nesterov=True),
    Qhm(RATE * GAIN, BETA, BETA),
]
PAIRS = [pair for kind in (PLAIN, NESTEROV) for pair in itertools.product(kind, kind)]
INSIDE = "Keras has the learning rate inside the buffer: equal only if the rate was"


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def optimizer(settings) -> optax.GradientTransformation:
    """The momentum of a setting, without its learning rate unless that is inside."""
    options = settings._asdict()
    keras_at_rate = partial(keras, options.pop("learning_rate"))
    build: Any = {HeavyBall: heavy_ball, Ema: ema, Qhm: qhm, Keras: keras_at_rate}
    return build[type(settings)](**options)


def factor_outside(settings) -> float:
    return 1.0 if isinstance(settings, Keras) else -settings.learning_rate


def gradients(steps: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((steps, 4))


@jax.jit  # settings are traced: one compilation per convention and number of steps
def run(settings, state, gradients):
    """The steps of the parameters, of shape [steps, 4], and the last state."""

    def body(state, gradient):
        updates: Any
        updates, state = optimizer(settings).update(gradient, state)
        return state, factor_outside(settings) * updates

    state, steps = jax.lax.scan(body, state, gradients)
    return steps, state


def fresh(settings) -> MomentumState:
    state = optimizer(settings).init(jnp.zeros(4))
    assert isinstance(state, MomentumState)
    return state


def one_is_inside(source, target) -> bool:
    return isinstance(source, Keras) != isinstance(target, Keras)


def after_three_steps(settings) -> MomentumState:
    return run(settings, fresh(settings), gradients(3))[1]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_converted_hyperparameters_make_the_same_steps(source, target):
    conversion = hyperparameters(source, type(target))
    assert type(conversion.value) is type(target)
    np.testing.assert_allclose(conversion.value, target, rtol=1e-13)
    assert conversion.exact is not one_is_inside(source, target)
    assert conversion.reason.startswith(INSIDE) is not conversion.exact
    expected, _ = run(source, fresh(source), gradients(40))
    got, _ = run(conversion.value, fresh(target), gradients(40))
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("source", "target"),
    [*PAIRS, *((HeavyBall(2 * RATE, BETA, 0.5), s) for s in PLAIN)],
)
def test_momentum_state_continues_in_another_convention(source, target):
    before, after = np.split(gradients(40), [20])
    _, state = run(source, fresh(source), before)
    expected, end = run(source, state, after)
    conversion = momentum_state(state, source, target)
    got, converted_end = run(target, conversion.value, after)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)
    # The weight follows the same recurrence, so it comes back in the same units.
    back: Any = momentum_state(converted_end, target, source).value
    np.testing.assert_allclose(back.weight, end.weight, rtol=1e-5)
    np.testing.assert_allclose(back.buffer, end.buffer, rtol=1e-11, atol=1e-12)
    assert conversion.exact is not one_is_inside(source, target)


def test_momentum_state_does_not_repeat_the_undampened_first_step():
    source, target = Ema(RATE, BETA), HeavyBall(RATE, BETA, dampening=BETA)
    conversion = momentum_state(fresh(source), source, target)
    assert conversion.exact and conversion.value.step == 1
    expected, _ = run(source, fresh(source), gradients(5))
    got, _ = run(target, conversion.value, gradients(5))
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    undampened, _ = run(target, fresh(target), gradients(5))
    assert abs(undampened - expected).max() > 0.1


def test_a_converted_state_can_be_debiased():
    source, target = HeavyBall(RATE, BETA), Ema(RATE * GAIN, BETA, debias=True)
    conversion = momentum_state(after_three_steps(source), *PLAIN[::2])
    got, _ = run(target, conversion.value, np.ones((2, 4)))
    always, _ = run(target, fresh(target), np.vstack([gradients(3), np.ones((2, 4))]))
    np.testing.assert_allclose(got, always[3:], rtol=1e-5)
    reason = "Debiasing enlarges the first steps: equal only once βᵗ is negligible."
    conversion = momentum_state(after_three_steps(source), source, target)
    assert (conversion.exact, conversion.reason) == (False, reason)


def test_after_a_change_of_rate_a_keras_state_is_only_approximated():
    """The velocity contains old gradients at their old rate, as the reason says."""
    old, new = Keras(10 * RATE, BETA), Keras(RATE, BETA)
    first, then, later = np.split(gradients(8), [3, 5])
    state = run(new, run(old, fresh(old), first)[1], then)[1]
    conversion = momentum_state(state, new, HeavyBall(RATE, BETA))
    assert not conversion.exact
    assert conversion.reason == f"{INSIDE} constant over about the last 7 steps."
    expected, _ = run(new, state, later)
    got, _ = run(HeavyBall(RATE, BETA), conversion.value, later)
    # At a constant rate, later steps agree; only the past differs.
    np.testing.assert_allclose(got, expected, rtol=1e-11)
    heavy = run(PLAIN[0], fresh(PLAIN[0]), np.vstack([first, then]))[1]
    assert abs(heavy.buffer - conversion.value.buffer).max() > 1


def test_momentum_state_converts_under_jit():
    def convert(state):
        return momentum_state(state, *PLAIN[:2]).value

    state = after_three_steps(PLAIN[0])
    got, expected = jax.jit(convert)(state), convert(state)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_momentum_state_finds_the_momentum_inside_a_chain():
    def chained(settings):
        rate = optax.scale_by_learning_rate(settings.learning_rate)
        return optax.chain(optimizer(settings), rate)

    source, target = PLAIN[::2]
    before, after = gradients(2)
    _, state = chained(source).update(before, chained(source).init(jnp.zeros(4)))
    expected, _ = chained(source).update(after, state)
    got, _ = chained(target).update(after, momentum_state(state, source, target).value)
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=1e-12)


def test_conversion_keeps_dtypes_and_absent_leaves():
    params = {"a": jnp.zeros(2, jnp.bfloat16), "b": None, "c": jnp.zeros(1, complex)}
    state: Any = heavy_ball(BETA).init(params)
    updates = {"a": jnp.ones(2, jnp.bfloat16), "b": None, "c": jnp.full(1, 2j)}
    _, state = heavy_ball(BETA).update(updates, state)
    value: Any = momentum_state(state, PLAIN[0], PLAIN[2]).value
    assert jax.tree.map(jnp.result_type, value) == jax.tree.map(jnp.result_type, state)
    assert value.buffer["b"] is None
    np.testing.assert_allclose(value.buffer["c"], [2j * (1 - BETA)])


def test_unequal_steps_are_reported_as_inexact():
    conversion = momentum_state(fresh(PLAIN[0]), PLAIN[0], Ema(RATE, BETA))
    message = "Equal steps need equal A and C, which are (0.3, 0.0) in the "
    assert not conversion.exact and conversion.reason.startswith(message)


def test_dampening_is_exact_for_states_but_not_from_the_start():
    source = HeavyBall(RATE, BETA, dampening=0.4)
    conversion = hyperparameters(source, Ema)
    np.testing.assert_allclose(conversion.value, (RATE * 0.6 * GAIN, BETA, False))
    assert not conversion.exact
    assert "PyTorch does not dampen the first gradient" in conversion.reason
    assert momentum_state(after_three_steps(source), source, conversion.value).exact


def test_without_memory_all_conventions_are_sgd():
    sources = [HeavyBall(RATE, 0.0, nesterov=True), Qhm(RATE, 0.0, 0.4)]
    for source, target in itertools.product(sources, [HeavyBall, Keras, Ema]):
        assert hyperparameters(source, target).value[:2] == (RATE, 0.0)


REFUSED = {
    "unequal beta": (
        lambda: momentum_state(fresh(PLAIN[0]), HeavyBall(0.1, 0.9), Ema(0.1, 0.95)),
        "momentum_state: beta is 0.9 in the source and 0.95 in the target. No buffer "
        "serves both: convert at the beta of the run, then change beta.",
    ),
    "no gain": (
        lambda: momentum_state(fresh(PLAIN[1]), Keras(0.0, BETA), PLAIN[0]),
        "momentum_state: the buffer of Keras(learning_rate=0.0, beta=0.85, "
        "nesterov=False) contains no gradients, so there is nothing to convert.",
    ),
    "EMA with Nesterov": (
        lambda: hyperparameters(NESTEROV[0], Ema),
        "hyperparameters: no Ema makes the steps of HeavyBall(learning_rate=0.3, "
        "beta=0.85, dampening=0.0, nesterov=True). Only `Qhm` can mix the gradient",
    ),
    "nu": (
        lambda: hyperparameters(Qhm(0.1, 0.9, 0.7), HeavyBall),
        "hyperparameters: no HeavyBall makes the steps of Qhm(learning_rate=0.1, ",
    ),
    "beta": (
        lambda: hyperparameters(Keras(0.1, 1.0), Ema),
        "heavy_ball: beta must lie in [0, 1), got 1.0.",
    ),
    "learning_rate": (
        lambda: hyperparameters(Ema(-0.1, 0.9), Keras),
        "Ema: learning_rate must lie in [0, inf), got -0.1.",
    ),
}


@pytest.mark.parametrize(("convert", "message"), REFUSED.values(), ids=REFUSED)
def test_impossible_conversions_are_refused(convert, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        convert()
