"""`telemetry`, and the stationary noise of a run."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.counting import CountingJit
from support.kernels import descent

from optax_momentum import ema, guard, heavy_ball, keras
from optax_momentum.diagnostics import telemetry


def noisy_run(optimizer: Any, curvature, steps, lanes=200, drop=0):
    """Descends with gradients curvature·x + noise; returns iterates and last state."""
    keys = jax.random.split(jax.random.key(0), steps)

    def body(carry, key):
        x, state = carry
        gradient = curvature * x + jax.random.normal(key, x.shape)
        updates, state = optimizer.update(gradient, state, x)
        return (x + updates, state), x + updates

    x = jnp.full(lanes, 0.1)
    (_, state), path = jax.lax.scan(body, (x, optimizer.init(x)), keys)
    return path[drop:], state


@pytest.mark.parametrize(("beta", "h"), [(0.6, 0.5), (0.83, 0.3)])
def test_the_stationary_variance_of_heavy_ball_is_the_closed_form(beta, h):
    learning_rate, lanes = 0.1, 400
    optimizer = descent(heavy_ball(beta), learning_rate)
    path, _ = noisy_run(optimizer, h / learning_rate, 700, lanes, drop=200)
    top = learning_rate**2 * (1 + beta)
    variance = top / ((1 - beta) * h * (2 * (1 + beta) - h))
    # The lanes are independent, so their spread estimates the error of their mean.
    squares = np.square(path).mean(axis=0)
    error = squares.std(ddof=1) / math.sqrt(lanes)
    assert error < 0.02 * variance
    assert abs(squares.mean() - variance) < 4 * error


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [lambda rate: descent(heavy_ball(0.83), rate), lambda rate: keras(rate, 0.83)],
    ids=["heavy_ball", "keras"],
)
def test_overshoot_on_a_plateau_is_the_settled_rate_times_the_curvature(build):
    products = jnp.asarray([0.2, 3.5])  # SGD at the settled rate diverges above 2
    curvature, settled = 2.5, 1 / 0.17

    def overshoot(product):
        tx = telemetry(build(product / (settled * curvature)), beta=0.998)
        return optax.tree.get(noisy_run(tx, curvature, 2000)[1], "overshoot")

    np.testing.assert_allclose(jax.vmap(overshoot)(products), products, 0.1)


def test_measurements_with_beta_zero_are_those_of_one_step():
    optimizer: Any = telemetry(descent(heavy_ball(0.83), 0.1), beta=0.0)
    params = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray(2.0)}
    first = {"a": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(0.5)}
    second = {"a": jnp.asarray([3.0, 1.0]), "b": jnp.asarray(1.0)}
    state = optimizer.init(params)
    _, state = optimizer.update(first, state, params)
    assert optax.tree.get(state, "cosine") == 0.0  # no past gradients yet
    update, state = optimizer.update(second, state, params)
    overlap, average, gradient = 3 - 2 + 0.5, 1 + 4 + 0.25, 9 + 1 + 1
    step = np.sqrt(sum(float(jnp.sum(u**2)) for u in jax.tree.leaves(update)))
    for name, want in {
        "cosine": overlap / math.sqrt(average * gradient),
        "sign_agreement": 2 / 3,
        "update_ratio": step / 3,
        "overshoot": -2 * overlap / average,
    }.items():
        assert optax.tree.get(state, name) == pytest.approx(want, rel=1e-5)


def test_measurements_average_numerators_and_denominators_separately():
    optimizer: Any = telemetry(descent(heavy_ball(0.5), 0.1), beta=0.75)
    one = jnp.ones(())
    state = optimizer.init(one)
    for gradient in (1.0, 2.0, -3.0):
        _, state = optimizer.update(jnp.asarray(gradient), state, one)
    averages = np.asarray([1.0, 2.5 / 1.5])  # of 1, and of 1 and 2
    gradients, ages = np.asarray([2.0, -3.0]), np.asarray([0.75, 1.0])
    want = -2 * np.sum(ages * averages * gradients) / np.sum(ages * averages**2)
    assert optax.tree.get(state, "overshoot") == pytest.approx(want, rel=1e-5)


def test_telemetry_changes_no_update_and_keeps_one_structure():
    plain, watched = heavy_ball(0.83), telemetry(heavy_ball(0.83))
    params = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2, jnp.complex64)}
    gradients = {"a": params["a"], "b": params["b"] * (1 + 2j)}
    state: Any = watched.init(params)
    described, other = jax.tree.map(jax.typeof, state), plain.init(params)

    @CountingJit
    def update(gradients, state):
        return watched.update(gradients, state, params)

    for _ in range(3):
        got, state = update(gradients, state)
        want, other = jax.jit(plain.update)(gradients, other)
        assert jax.tree.map(jax.typeof, state) == described
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_array_equal(a, b)
    assert update.traces == 1
    assert optax.tree.get(state, "cosine") == pytest.approx(1.0, rel=1e-3)


def test_telemetry_measures_partitions_and_skips_absent_leaves():
    params = {"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.ones(4)}
    parts: Any = {"m": heavy_ball(0.5), "none": optax.scale(1.0)}
    labels = {"a": "m", "b": "m", "c": "none"}
    optimizer: Any = telemetry(optax.partition(parts, labels), beta=0.0)
    _, state = optimizer.update(params, optimizer.init(params), params)
    gradients = {"a": -params["a"], "b": None, "c": params["c"]}
    _, state = optimizer.update(gradients, state, params)
    assert optax.tree.get(state, "cosine") == pytest.approx(-1.0)
    assert optax.tree.get(state, "overshoot") == pytest.approx(2.0)


def test_guard_keeps_non_finite_steps_out_of_the_measurements():
    optimizer: Any = guard(telemetry(descent(heavy_ball(0.83), 0.1)))
    params = jnp.ones(3)
    state = optimizer.init(params)
    for gradient in (params, 2 * params, params * jnp.nan, params):
        _, state = optimizer.update(gradient, state, params)
    assert state.skipped == 1
    assert optax.tree.get(state, "cosine") == pytest.approx(1.0, rel=1e-5)


def test_telemetry_refuses_wrong_arguments_and_states():
    with pytest.raises(ValueError, match="telemetry: there is no MomentumState in the"):
        telemetry(optax.sgd(0.1, momentum=0.9)).init(jnp.ones(2))
    optimizer: Any = telemetry(ema(0.83))
    with pytest.raises(ValueError, match="telemetry: update needs params, got None"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
    with pytest.raises(TypeError, match="the state must be a TelemetryState, got Mom"):
        state = optimizer.init(jnp.ones(2)).inner_state
        optimizer.update(jnp.ones(2), state, jnp.ones(2))
    message = re.escape("telemetry: beta must lie in [0, 1)")
    with pytest.raises(ValueError, match=message):
        telemetry(ema(0.83), beta=1.0)
