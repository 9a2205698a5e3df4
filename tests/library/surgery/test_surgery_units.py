"""Momentum rescaled and read in other units: the run goes on as if it had been so."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.resumed_runs import (
    assert_bits_equal,
    assert_close,
    gradients,
    in_head,
    run,
)

from optax_momentum import (
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    keras_coefficients,
    linear_momentum,
)
from optax_momentum._surgery.surgery import change_convention, rescale_momentum


def test_rescaling_with_the_rate_is_the_momentum_correction_of_goyal():
    old, new, beta = 0.3, 0.05, 0.83
    _, state = run(keras(old, beta))
    inside, _ = run(
        keras(new, beta), rescale_momentum(state, new / old), seeds=(5, 6, 7)
    )
    _, state = run(heavy_ball(beta))
    outside, _ = run(heavy_ball(beta), state, seeds=(5, 6, 7))
    assert_close(inside, jax.tree.map(lambda u: -new * u, outside))


def test_rescaling_all_keeps_the_debiased_read_out():
    transformation: Any = ema(0.83, debias=True)
    _, state = run(transformation)
    after = rescale_momentum(state, 0.3)
    average = jax.tree.map(lambda m: m / state.weight, state.buffer)
    assert_close(jax.tree.map(lambda m: m / after.weight, after.buffer), average)
    assert_close(after.weight, 0.3 * state.weight)


@pytest.mark.parametrize("where", [in_head, {"body": False, "head": True}])
def test_rescaling_some_leaves_keeps_the_others_and_the_weight(where):
    _, state = run(ema(0.83))
    after = rescale_momentum(state, -0.3, where)
    assert_close(after.buffer["head"], -0.3 * state.buffer["head"])
    assert_bits_equal(after.buffer["body"], state.buffer["body"])
    assert_bits_equal(after.weight, state.weight)


def test_the_factor_may_be_traced_and_is_applied_in_float32():
    transformation: Any = ema(0.83)
    state = transformation.init(jnp.ones(3, jnp.bfloat16))
    state = state._replace(buffer=jnp.full(3, 3.0, jnp.bfloat16))
    traces = []

    @jax.jit
    def rescale(state, factor):
        traces.append(None)
        return rescale_momentum(state, factor)

    for factor in (0.9, 0.999):
        got = rescale(state, jnp.asarray(factor, jnp.float32)).buffer
        assert_bits_equal(got, jnp.full(3, 3 * factor, jnp.bfloat16))
    assert len(traces) == 1
    np.testing.assert_array_equal(rescale_momentum(state, 0.5).buffer, 1.5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ema_coefficients(0.83), heavy_ball_coefficients(0.83)),
        (heavy_ball_coefficients(0.83), ema_coefficients(0.83)),
        (heavy_ball_coefficients(0.83, dampening=0.3), keras_coefficients(0.2, 0.83)),
        (
            keras_coefficients(0.2, 0.83, nesterov=True),
            heavy_ball_coefficients(0.83, nesterov=True),
        ),
    ],
)
def test_a_changed_convention_goes_on_as_if_it_had_been_the_one_all_along(old, new):
    def steady(coefficients):  # without the undampened first step
        return linear_momentum(lambda step: coefficients(step + 1))

    _, state = run(steady(old))
    jitted = jax.jit(lambda state: change_convention(state, old, new))(state)
    got, after = run(steady(new), change_convention(state, old, new), seeds=(5, 6))
    want, always = run(steady(new), run(steady(new))[1], seeds=(5, 6))
    assert_close(got, want)
    assert_close(after, always)
    assert_close(jitted, change_convention(state, old, new))


def test_a_converted_heavy_ball_does_not_replay_its_first_step():
    _, state = run(ema(0.83))
    state = change_convention(
        state, ema_coefficients(0.83), heavy_ball_coefficients(0.83, dampening=0.3)
    )
    (updates,), _ = run(heavy_ball(0.83, dampening=0.3), state, seeds=[6])
    want = 0.83 * state.buffer["head"] + 0.7 * gradients(6)["head"]
    assert_close(updates["head"], want)
