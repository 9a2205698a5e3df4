"""`accumulate`: k micro-steps equal one step on the mean gradient."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_momentum import (
    Coefficients,
    accumulate,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras_coefficients,
    linear_momentum,
)

STEPS, K = 7, 3
GRADIENTS = np.random.default_rng(5).normal(size=(STEPS, K, 4))
MICRO_STEPS = GRADIENTS.reshape(STEPS * K, -1)


def beta_at(step):
    return jnp.asarray(0.9 - 0.07 * np.arange(STEPS))[step]


def rate_at(step):
    return jnp.asarray(0.3 / (1 + np.arange(STEPS)))[step]


METHODS = {
    "ema": ema_coefficients(0.83),
    "ema, scheduled": ema_coefficients(beta_at),
    "heavy_ball": heavy_ball_coefficients(0.83),
    "heavy_ball, dampened": heavy_ball_coefficients(0.83, dampening=0.3),
    "keras": keras_coefficients(rate_at, 0.83),
    "half of the buffer": lambda step: Coefficients(0.83, gain=0.4, from_buffer=0.5),
}

every_method = pytest.mark.parametrize("name", METHODS)


def train(transformation: Any, gradients, dtype=jnp.float32):
    """The updates of every call, stacked, and the last state."""

    def body(state, g):
        updates, state = transformation.update(g, state)
        return state, updates

    gradients = jnp.asarray(gradients, dtype)
    start = transformation.init(jnp.zeros_like(gradients[0]))
    state, updates = jax.jit(lambda s, g: jax.lax.scan(body, s, g))(start, gradients)
    return updates, state


@every_method
@pytest.mark.parametrize("debias", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_k_micro_steps_equal_one_step_on_the_mean(name, debias, dtype):
    # Debiasing divides by a weight in float32, even for float64 leaves.
    exact = dtype == np.float64 and not debias
    with jax.enable_x64(dtype == np.float64):
        inner = METHODS[name]
        whole = linear_momentum(inner, debias=debias)
        parts = linear_momentum(accumulate(inner, K), debias=debias)
        want, after = train(whole, GRADIENTS.mean(axis=1), dtype)
        got, state = train(parts, MICRO_STEPS, dtype)
    tolerance = 1e-13 if exact else 2e-6
    np.testing.assert_allclose(got[K - 1 :: K], want, tolerance, tolerance)
    np.testing.assert_allclose(state.buffer, after.buffer, tolerance, tolerance)
    np.testing.assert_allclose(state.weight, after.weight, 1e-6)
    assert (state.step, after.step) == (STEPS * K, STEPS)


@every_method
def test_micro_steps_before_the_last_emit_zeros(name):
    got, _ = train(linear_momentum(accumulate(METHODS[name], K)), MICRO_STEPS)
    moves = (got != 0).all(axis=1)
    np.testing.assert_array_equal(moves, [False, False, True] * STEPS)
    assert not (got[::K] != 0).any() and not (got[1::K] != 0).any()


def test_the_inner_schedule_sees_whole_steps():
    steps = []

    def coefficients(step):
        steps.append(int(step))
        return Coefficients(0.5, 1.0)

    accumulated = accumulate(coefficients, K)
    steps.clear()
    for micro_step in range(2 * K):
        accumulated(jnp.asarray(micro_step, jnp.int32))
    assert steps == [0, 0, 0, 1, 1, 1]


def test_optax_multi_steps_computes_the_same_with_twice_the_memory():
    parts = linear_momentum(accumulate(heavy_ball_coefficients(0.83), K))
    whole: Any = optax.MultiSteps(heavy_ball(0.83), K)
    with jax.numpy_dtype_promotion("standard"):  # MultiSteps promotes
        want, _ = train(whole, MICRO_STEPS)
    got, _ = train(parts, MICRO_STEPS)
    np.testing.assert_allclose(got, want, 2e-6, 2e-6)

    def array_bytes(transformation):
        leaves = jax.tree.leaves(transformation.init(jnp.zeros(1000)))
        return sum(leaf.nbytes for leaf in leaves if leaf.ndim)

    assert (array_bytes(parts), array_bytes(whole)) == (4000, 8000)


def test_every_k_of_one_is_the_method_itself_bit_for_bit():
    inner = heavy_ball_coefficients(0.83, dampening=0.3)
    want, _ = train(linear_momentum(inner), MICRO_STEPS)
    got, _ = train(linear_momentum(accumulate(inner, 1)), MICRO_STEPS)
    np.testing.assert_array_equal(got, want)


def test_a_schedule_of_k_may_be_traced_and_vmapped():
    def updates(every_k):
        accumulated = accumulate(ema_coefficients(0.83), lambda step: every_k)
        return train(linear_momentum(accumulated), MICRO_STEPS)[0]

    lanes = jax.vmap(updates)(jnp.asarray([1, 3]))
    for lane, every_k in enumerate([1, 3]):
        constant = linear_momentum(accumulate(ema_coefficients(0.83), every_k))
        want = train(constant, MICRO_STEPS)[0]
        np.testing.assert_allclose(lanes[lane], want, 1e-6, 1e-7)


@pytest.mark.parametrize(
    "every_k",
    [
        lambda step: jnp.where(step < 2, 1, 3),
        optax.piecewise_constant_schedule(1, {2: 3}),
    ],
)
def test_k_may_change_between_steps(every_k):
    with jax.numpy_dtype_promotion("standard"):  # Optax's schedule promotes
        tx = linear_momentum(accumulate(heavy_ball_coefficients(0.5), every_k))
        got, state = train(tx, np.arange(1.0, 9.0))
    np.testing.assert_array_equal(got, [1, 2.5, 0, 0, 5.25, 0, 0, 9.625])
    assert jax.tree.structure(state) == jax.tree.structure(heavy_ball(0.5).init(1.0))


@every_method
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_of_different_lengths_equal_steps_on_their_means(name, dtype):
    lengths = np.array([2, 1, 4, 3, 1, 5, 3])
    ends = np.cumsum(lengths)
    gradients = np.random.default_rng(6).normal(size=(ends[-1], 4))
    means = [part.mean(axis=0) for part in np.split(gradients, ends[:-1])]
    with jax.enable_x64(dtype == np.float64):
        every_k = jnp.asarray(lengths)
        accumulated = accumulate(METHODS[name], lambda step: every_k[step])
        want, _ = train(linear_momentum(METHODS[name]), np.asarray(means), dtype)
        got, _ = train(linear_momentum(accumulated), gradients, dtype)
    tolerance = 2e-6 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(got[ends - 1], want, tolerance, tolerance)
    np.testing.assert_array_equal(np.delete(got, ends - 1, axis=0), 0)


@pytest.mark.parametrize("step, within, k", [(0, 0, 1), (3001, 1, 2), (12344, 2, 5)])
def test_a_late_micro_step_is_found(step, within, k):
    """k is 1, 2, ... 5, 1, ...; beyond the steps that are evaluated at once."""

    def coefficients(step):
        return Coefficients(0.5, jnp.asarray(step + 1, jnp.float32))

    accumulated = accumulate(coefficients, lambda step: jnp.asarray(step) % 5 + 1)
    before = 15 * (step // 5) + sum(range(1, step % 5 + 1))
    now = jax.jit(accumulated)(jnp.asarray(before + within, jnp.int32))
    want = (0.5 if within == 0 else 1.0, (step + 1) / k, float(within == k - 1))
    np.testing.assert_allclose(now[:3], want, 1e-6)


def test_a_traced_k_is_refused_because_it_could_change():
    def update(every_k, state):
        tx = linear_momentum(accumulate(heavy_ball_coefficients(0.5), every_k))
        return tx.update(jnp.ones(()), state)

    message = "accumulate: every_k must be a number or a schedule, got a tracer. The st"
    with pytest.raises(TypeError, match=re.escape(message)) as raised:
        jax.jit(update)(3, heavy_ball(0.5).init(jnp.zeros(())))
    assert "`lambda step: k`" in str(raised.value)


def test_a_rate_schedule_outside_counts_micro_steps():
    def chained(schedule):
        tx = linear_momentum(accumulate(heavy_ball_coefficients(0.83), K))
        return optax.chain(tx, optax.scale_by_schedule(schedule))

    got, _ = train(chained(lambda count: rate_at(count // K)), MICRO_STEPS)
    whole = optax.chain(
        linear_momentum(heavy_ball_coefficients(0.83)), optax.scale_by_schedule(rate_at)
    )
    want, _ = train(whole, GRADIENTS.mean(axis=1))
    np.testing.assert_allclose(got[K - 1 :: K], want, 2e-6, 2e-6)


def test_clipping_before_it_clips_micro_gradients():
    bound = 0.5

    def clipped(transformation):
        return optax.chain(optax.clip(bound), transformation)

    tx = linear_momentum(accumulate(heavy_ball_coefficients(0.83), K))
    got, _ = train(clipped(tx), MICRO_STEPS)
    means = np.clip(GRADIENTS, -bound, bound).mean(axis=1)
    want, _ = train(heavy_ball(0.83), means)
    np.testing.assert_allclose(got[K - 1 :: K], want, 2e-6, 2e-6)
    other, _ = train(clipped(heavy_ball(0.83)), GRADIENTS.mean(axis=1))
    assert np.abs(other - want).max() > 0.1


@pytest.mark.parametrize("every_k", [1, 3])
def test_accumulate_refuses_nesterov_at_construction(every_k):
    message = "accumulate: from_gradient must be 0, got 1.0. Such an update reads"
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        accumulate(heavy_ball_coefficients(0.83, nesterov=True), every_k)
    assert "wrap the method in `optax.MultiSteps`" in str(raised.value)


def test_from_gradient_that_becomes_nonzero_is_refused_at_that_step():
    def coefficients(step):
        return Coefficients(0.9, 1.0, from_gradient=0.0 if step < 2 else 0.25)

    accumulated = accumulate(coefficients, K)
    accumulated(jnp.asarray(5))
    with pytest.raises(ValueError, match=re.escape("must be 0, got 0.25")):
        accumulated(jnp.asarray(6))


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_traced_nesterov_gives_nan_instead_of_wrong_numbers(nesterov):
    def updates(nesterov):
        coefficients = heavy_ball_coefficients(0.83, nesterov=nesterov)
        return train(linear_momentum(accumulate(coefficients, K)), MICRO_STEPS)[0]

    got = jax.jit(updates)(nesterov)[K - 1 :: K]
    assert jnp.isnan(got).all() if nesterov else jnp.isfinite(got).all()


@pytest.mark.parametrize("wrong", [0, -2, 2.5, float("nan"), float("inf")])
def test_every_k_out_of_range_is_refused(wrong):
    message = f"accumulate: every_k must be a whole number of at least 1, got {wrong}. "
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        accumulate(ema_coefficients(0.9), wrong)
    assert "the number of update calls that make up one step." in str(raised.value)


@pytest.mark.parametrize("wrong", [0, 2.5, float("nan"), 2**20 + 1])
def test_a_schedule_of_k_out_of_range_is_refused(wrong):
    def every_k(step):
        return jnp.where(step == 7, jnp.float32(wrong), 4.0)

    message = "accumulate: every_k must be "
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        accumulate(ema_coefficients(0.9), every_k)
    assert f"got {np.float32(wrong)!s}." in str(raised.value)


@pytest.mark.parametrize("wrong", ["4", None])
def test_every_k_that_is_not_a_number_is_refused(wrong):
    build: Any = partial(accumulate, ema_coefficients(0.9))
    with pytest.raises(TypeError, match="accumulate: every_k must be a number"):
        build(wrong)
