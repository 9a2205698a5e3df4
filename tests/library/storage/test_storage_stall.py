"""Stochastic rounding never stalls; rounding to nearest does, with a warning."""

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.storages import INT8, every_storage

from optax_momentum import ema, heavy_ball, qhm, sgd, storage


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
        "undoes the small steps of beta=0.999. Pass `storage=storage.bfloat16()` or "
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
