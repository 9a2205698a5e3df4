"""Stochastic rounding never stalls; rounding to nearest does, with a warning."""

import re
import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.storages import INT8, every_storage

from optax_momentum import (
    Coefficients,
    accumulate,
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    keras_coefficients,
    linear_momentum,
    qhm,
    sgd,
    storage,
)


@every_storage
def test_no_constant_gradient_stalls_at_beta_0_999(encoding):
    """All settle at 1000 times their gradient, even small ones next to large ones."""
    sizes = np.resize(np.array([1.0, -0.5, 0.1, 0.02], np.float32), (16, 64))
    transformation = heavy_ball(0.999, storage=encoding)

    def step(_, state):
        return transformation.update(sizes, state)[1]

    start = transformation.init(jnp.zeros((16, 64)))
    state: Any = jax.jit(lambda s: jax.lax.fori_loop(0, 3000, step, s))(start)
    m = np.asarray(storage.value(state.buffer), np.float64)
    want = (1 - 0.999**3000) / 0.001  # 950
    for size in np.unique(sizes):
        unit = abs(want * size) / 128 if encoding is not INT8 else want * 0.0158
        deviation = unit / 2 / (1 - 0.999**2) ** 0.5  # of one element, at most
        error = m[sizes == size].mean() - want * size
        assert abs(error) < 5 * deviation / 256**0.5
    assert abs(m[sizes == 1].mean() - 950) < 10


def test_plain_bfloat16_stalls_at_256_and_warns():
    with pytest.warns(UserWarning, match="would stall") as warned:
        state: Any = heavy_ball(0.999).init({"w": jnp.zeros(3, jnp.bfloat16)})
    assert len(warned) == 1
    assert str(warned[0].message) == (
        "init: the buffer of params['w'] would stall: in bfloat16, rounding to nearest "
        "undoes steps that move it by 0.1%, as beta=0.999 and gain=1 do at step 0. "
        "Pass `storage=storage.bfloat16()`, which rounds at random, or "
        "`storage=storage.float32()`."
    )
    one = {"w": jnp.ones(3, jnp.bfloat16)}
    update = jax.jit(lambda state: heavy_ball(0.999).update(one, state)[1])
    for _ in range(600):
        state = update(state)
    np.testing.assert_array_equal(state.buffer["w"], 256)


@pytest.mark.parametrize("dtype, least", [("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
@pytest.mark.parametrize("method", [ema, heavy_ball, qhm, partial(sgd, 0.1)])
def test_warning_starts_where_a_step_moves_half_a_unit(method, dtype, least):
    params = {"bias": jnp.zeros(()), "kernel": jnp.zeros(3, dtype)}
    with pytest.warns(UserWarning, match=rf"params\['kernel'\] .* in {dtype}"):
        method(1 - least).init(params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(1 - 1.25 * least).init(params)
        method(1 - least).init({"w": jnp.zeros(3)})
        method(1 - least, storage=storage.bfloat16()).init(params)
        jax.vmap(lambda beta: method(beta).init(params))(jnp.full(2, 1 - least))


def test_warning_reads_schedules_and_injected_betas():
    params = jnp.zeros(3, jnp.bfloat16)
    inject = optax.inject_hyperparams(ema, hyperparam_dtype=jnp.float32)
    for transformation in (inject(0.999), ema(lambda step: 0.999)):
        with pytest.warns(UserWarning, match="the buffer of params would stall"):
            transformation.init(params)


def settled(coefficients, steps, encoding=None):
    """The bfloat16 buffer that constant gradients of 1 lead to."""
    transformation = linear_momentum(coefficients, storage=encoding)

    def step(_, state):
        return transformation.update(jnp.ones(64), state)[1]

    state: Any = transformation.init(jnp.zeros(64, jnp.bfloat16))
    state = jax.jit(lambda state: jax.lax.fori_loop(0, steps, step, state))(state)
    return np.asarray(state.buffer, np.float64).mean()


@pytest.mark.parametrize(
    ("coefficients", "k", "stalled", "due"),
    [
        # Half a unit is 2⁻⁹ from 0.5 on, more than 0.1/64.
        (ema_coefficients(0.9), 64, 0.5, 1.0),
        (ema_coefficients(0.9), 256, 0.125, 1.0),
        # 1/256 is half a unit at 1, and the tie goes to 1.
        (heavy_ball_coefficients(0.9), 256, 1.0, 10 * (1 - 0.9**60)),
    ],
)
def test_accumulation_that_stalls_warns_and_the_named_storage_cures_it(
    coefficients, k, stalled, due
):
    accumulated = accumulate(coefficients, k)
    with pytest.warns(UserWarning, match="the buffer of params would stall") as warned:
        assert settled(accumulated, 60 * k) == stalled
    said = re.search(r"by (.+)%, as beta=1 and gain=(\S+) do", str(warned[0].message))
    assert said is not None
    gain = coefficients(jnp.asarray(0)).gain / k
    assert [float(number) for number in said.groups()] == pytest.approx(
        [100 * 0.1 / k, gain], rel=0.05
    )
    assert "Pass `storage=storage.bfloat16()`" in str(warned[0].message)
    assert settled(accumulated, 60 * k, storage.float32()) == pytest.approx(due, 2e-3)
    # A unit is 2⁻⁸·due or less; β·m alone would forget half of its noise in 7 steps.
    unit = due / 128
    deviation = unit / 2 * (k / (1 - 0.9**2)) ** 0.5 / 8  # of the mean of 64
    got = settled(accumulated, 60 * k, storage.bfloat16())
    assert abs(got - due) < 5 * deviation


def test_the_warning_counts_gain_and_retention_together():
    """(1 − β)/k must exceed 2⁻⁸, which 0.1/25 does and 0.1/26 doesn't."""
    params = jnp.zeros(3, jnp.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear_momentum(accumulate(ema_coefficients(0.9), 25)).init(params)
        linear_momentum(accumulate(keras_coefficients(0.3, 0.9), 25)).init(params)
        # The gain falls to nothing, but β·m follows it.
        keras(lambda step: 0.3 * 0.5 ** (step / 10), 0.9).init(params)
        jax.jit(lambda rate: keras(rate, 0.9).init(params))(0.1)
    for coefficients in ema_coefficients(0.9), keras_coefficients(0.3, 0.9):
        with pytest.warns(UserWarning, match=r"move it by 0.38%"):
            linear_momentum(accumulate(coefficients, 26)).init(params)
    with pytest.warns(UserWarning, match=r"move it by 0.38%"):
        jax.jit(lambda rate: init_accumulated(keras_coefficients(rate, 0.9)))(0.1)
    with pytest.warns(UserWarning, match="beta=1 and gain=1 do at step 99"):
        linear_momentum(lambda step: Coefficients(1.0, 1.0)).init(params)


def init_accumulated(coefficients):
    accumulated = accumulate(coefficients, 26)
    return linear_momentum(accumulated).init(jnp.zeros(3, jnp.bfloat16))


def test_the_warning_reads_10_000_steps_of_a_schedule():
    params = jnp.zeros(3, jnp.bfloat16)

    def untraceable(step: Any):
        return 0.9 if step < 9000 else 0.999

    def jump_at(start):
        return ema(lambda step: jnp.where(step < start, 0.9, 0.999))

    with pytest.warns(UserWarning, match=r"beta=0.999 and gain=0.001 do at step 9000"):
        jump_at(9000).init(params)
    every_k = optax.join_schedules([lambda _: 1, lambda _: 64], [50])
    accumulated = accumulate(ema_coefficients(0.9), every_k)
    with pytest.warns(UserWarning, match=r"beta=1 and gain=0.001563 do at step"):
        linear_momentum(accumulated).init(params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jump_at(10_000).init(params)
        ema(untraceable).init(params)  # read at step 0 only


@pytest.mark.parametrize("beta", [0.6, 0.9])
def test_accumulated_error_stays_within_its_bound(beta):
    """The bound is β·ε/(1 − β), for an error of ε per step and a fixed scale."""
    gradients = np.random.default_rng(8).normal(size=(30, 4, 16)).astype(np.float32)
    gradients[:, :, ::8] = 20 * np.sign(np.ones_like(gradients[:, :, ::8]))
    stepping = heavy_ball(beta, storage=INT8)
    state: Any = stepping.init(jnp.zeros((4, 16)))
    exact, scale = np.zeros((4, 16)), 20 / (1 - beta)
    exact[:, ::8] = scale
    encoded = INT8.encode(jnp.float32(exact), jnp.zeros((), jnp.int32), "")
    state = state._replace(buffer=encoded)
    update = jax.jit(stepping.update)
    worst = 0.0
    for gradient in gradients:
        _, state = update(gradient, state)
        exact = beta * exact + gradient
        error = np.asarray(storage.value(state.buffer)) - exact
        worst = max(worst, np.abs(error).max())
    unit = 254 / (128 * 127) * scale
    assert 0.001 * scale < worst < beta * unit / (1 - beta) + unit
