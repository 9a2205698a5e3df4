"""AggMo: its special cases, its buffers, and what it refuses."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.counting import CountingJit
from support.trajectory import updates_and_states

from optax_momentum import aggmo, aggmo_betas, ema, heavy_ball
from optax_momentum._methods.momentum import momentum_states

GRADIENTS = np.random.default_rng(23).normal(size=(40, 3, 2)).astype(np.float32)


def updates_of(transformation, gradients=GRADIENTS):
    return updates_and_states(transformation, jnp.asarray(gradients))[0]


def test_one_beta_is_heavy_ball_bit_for_bit():
    want = updates_of(heavy_ball(0.87))
    np.testing.assert_array_equal(updates_of(aggmo([0.87])), want)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_equal_betas_are_heavy_ball_with_separate_buffers(count):
    got = updates_of(aggmo([0.87] * count))
    np.testing.assert_allclose(got, updates_of(heavy_ball(0.87)), 1e-6, 1e-6)


def test_betas_of_zero_are_sgd_without_a_state():
    transformation = aggmo([0, 0.0])
    assert transformation.init(jnp.zeros(3)) == ()
    gradient = jnp.asarray(GRADIENTS[0])
    updates, state = transformation.update(gradient, ())
    np.testing.assert_array_equal(updates, gradient)
    assert state == ()


def test_nesterov_is_the_gradient_plus_beta_times_a_velocity():
    beta = 0.87
    want = updates_of(heavy_ball(beta, nesterov=True))
    velocity = 2 * updates_of(aggmo([0.0, beta])) - GRADIENTS  # The mean is (g + b)/2.
    np.testing.assert_allclose(GRADIENTS + beta * velocity, want, 1e-5, 1e-5)


def test_a_constant_gradient_settles_at_the_mean_gain():
    updates = updates_of(aggmo(), np.full((3000,), 2.0, np.float32))
    assert updates[-1] == pytest.approx(2.0 * 37, rel=1e-4)


def test_the_number_zero_gets_no_buffer_but_a_zero_in_an_array_does():
    params = jnp.zeros(4)
    assert len(momentum_states(aggmo([0.0, 0.9, 0.99]).init(params))) == 2
    assert len(momentum_states(aggmo(jnp.asarray([0.0, 0.9, 0.99])).init(params))) == 3
    assert len(momentum_states(aggmo(np.asarray([0.0, 0.9, 0.99])).init(params))) == 3


def test_a_traced_array_of_betas_compiles_once():
    @CountingJit
    def update(betas, gradient, state):
        return aggmo(betas).update(gradient, state)

    for betas in ([0.0, 0.9], [0.3, 0.7]):
        got, state = jnp.zeros(()), aggmo(jnp.asarray(betas)).init(jnp.zeros((3, 2)))
        for g in GRADIENTS[:5]:
            got, state = update(jnp.asarray(betas), jnp.asarray(g), state)
        want = updates_of(aggmo(betas), GRADIENTS[:5])[-1]
        np.testing.assert_allclose(got, want, 1e-5, 1e-6)
    assert update.traces == 1


def test_betas_can_be_vmapped():
    def first_two(betas):
        transformation: Any = aggmo(betas)
        state = transformation.init(jnp.zeros(()))
        _, state = transformation.update(jnp.asarray(1.0), state)
        return transformation.update(jnp.asarray(1.0), state)[0]

    got = jax.vmap(first_two)(jnp.asarray([[0.0, 0.5], [0.2, 0.9]]))
    np.testing.assert_allclose(got, [1.25, 1.55], 1e-6)


def test_a_scheduled_beta_is_read_at_every_step():
    transformation = aggmo([lambda step: jnp.asarray([0.1, 0.7])[step], 0.5])
    state = transformation.init(jnp.zeros(()))
    for want in (1.0, (1.7 + 1.5) / 2):
        updates, state = transformation.update(jnp.asarray(1.0), state)
        assert updates == pytest.approx(want)


def test_mean_of_bfloat16_gradients_is_rounded_once():
    gradients = jnp.asarray(GRADIENTS[:9, 0, 0], jnp.bfloat16)
    transformation: Any = aggmo([0.9, 0.7, 0.5])
    narrow = wide = transformation.init(jnp.zeros(()))
    for g in gradients:
        got, narrow = transformation.update(g, narrow)
        exact, wide = transformation.update(g.astype(jnp.float32), wide)
        assert got == exact.astype(jnp.bfloat16)


def test_aggmo_betas_are_the_papers_exponential_form():
    assert aggmo_betas() == (0.0, 0.9, 0.99)
    assert aggmo_betas(4, 0.2) == pytest.approx((0.0, 0.8, 0.96, 0.992))


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan")])
def test_a_beta_out_of_range_is_refused_with_its_index(value):
    message = f"aggmo: betas[1]: beta must lie in [0, 1), got {value}."
    with pytest.raises(ValueError, match=re.escape(message)):
        aggmo([0.5, value])


@pytest.mark.parametrize("betas", [0.9, jnp.asarray(0.9), None, lambda step: 0.9])
def test_betas_that_are_not_a_sequence_are_refused(betas):
    with pytest.raises(TypeError, match="aggmo: betas must be a sequence, got") as e:
        aggmo(betas)
    assert "For one beta, use `heavy_ball`." in str(e.value)


def test_an_empty_sequence_of_betas_is_refused():
    message = "aggmo: betas must hold at least one beta, got (). (0.0,) is SGD."
    with pytest.raises(ValueError, match=re.escape(message)):
        aggmo(())


@pytest.mark.parametrize("count", [0, 1.5, -1, float("nan")])
def test_a_count_of_betas_out_of_range_is_refused(count):
    message = f"aggmo_betas: count must be a whole number of at least 1, got {count}."
    with pytest.raises(ValueError, match=message):
        aggmo_betas(count)


@pytest.mark.parametrize("base", [0, 1, -0.1, float("nan")])
def test_a_base_out_of_range_is_refused(base):
    message = f"aggmo_betas: base must lie in (0, 1), got {base}."
    with pytest.raises(ValueError, match=re.escape(message)):
        aggmo_betas(3, base)


def test_a_state_of_another_method_or_another_number_of_betas_is_refused():
    params = jnp.zeros(2)
    others: Any = (ema(0.9).init(params), aggmo([0.9]).init(params), [], None)
    for state in others:
        message = "update: the state must be a tuple of 2 MomentumStates, one for each"
        with pytest.raises(TypeError, match=message):
            aggmo([0.0, 0.9, 0.99]).update(params, state)
