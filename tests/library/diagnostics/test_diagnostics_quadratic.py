"""Stability and convergence on a quadratic agree between runs and equations."""

import math
import re
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.kernels import KERNELS, descent, every_kernel, method_of

from optax_momentum import (
    aggmo,
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
)
from optax_momentum.diagnostics import (
    convergence_rate,
    measured_convergence_rate,
    stability_limit,
)


def distances(optimizer: Any, curvature, steps, start=1.0):
    """|x| after every step of minimizing curvature·x²/2."""
    curvature = jnp.asarray(curvature)

    def body(carry, _):
        x, state = carry
        updates, state = optimizer.update(curvature * x, state, x)
        return (x + updates, state), jnp.abs(x + updates)

    x = jnp.full(curvature.shape, start)
    return jax.lax.scan(body, (x, optimizer.init(x)), None, steps)[1]


@every_kernel
def test_descent_converges_below_the_stability_limit_and_not_above(kernel):
    limit = stability_limit(kernel)
    rates = convergence_rate(kernel, limit * jnp.asarray([0.99, 1.01]))
    assert rates[0] < 1 < rates[1]
    both = distances(descent(method_of(kernel), 1.0), [0.99 * limit, 1.01 * limit], 600)
    growth = np.asarray(both[-50:].max(axis=0) / both[:50].max(axis=0))
    assert growth[0] < 0.5 and growth[1] > 2


def test_stability_limits_are_those_of_the_textbook():
    beta = 0.83
    for coefficients, limit in [
        (heavy_ball_coefficients(0), 2.0),
        (heavy_ball_coefficients(beta), 2 * (1 + beta)),
        (heavy_ball_coefficients(beta, nesterov=True), (2 + 2 * beta) / (1 + 2 * beta)),
        (ema_coefficients(beta), 2 * (1 + beta) / (1 - beta)),
    ]:
        assert stability_limit(coefficients(jnp.asarray(1))) == pytest.approx(limit)


def test_heavy_ball_converges_at_the_root_of_beta_while_it_oscillates():
    beta = 0.83
    edges = (1 - np.sqrt(beta)) ** 2, (1 + np.sqrt(beta)) ** 2
    inside = jnp.linspace(edges[0] + 1e-3, edges[1] - 1e-3, 7)
    rates = convergence_rate(KERNELS["heavy_ball"], inside)
    np.testing.assert_allclose(rates, np.sqrt(beta), 1e-5)
    outside = jnp.asarray([edges[0] / 2, edges[1] + 0.02])
    assert (convergence_rate(KERNELS["heavy_ball"], outside) > 0.92).all()


@pytest.mark.parametrize("ratio", [10.0, 100.0])
def test_optimal_tunings_converge_at_their_rates_within_two_percent(ratio):
    root, wide = math.sqrt(ratio), math.sqrt(3 * ratio + 1)  # curvatures 1 … ratio
    tunings = [  # learning rate, beta, nesterov, rate
        (2 / (ratio + 1), 0.0, False, (ratio - 1) / (ratio + 1)),
        (4 / (root + 1) ** 2, ((root - 1) / (root + 1)) ** 2, False, None),
        (1 / ratio, (root - 1) / (root + 1), True, 1 - 1 / root),
        (4 / (3 * ratio + 1), (wide - 2) / (wide + 2), True, 1 - 2 / wide),
    ]
    curvatures = jnp.linspace(1.0, ratio, 25)
    for learning_rate, beta, nesterov, rate in tunings:
        rate = (root - 1) / (root + 1) if rate is None else rate
        kernel = heavy_ball_coefficients(beta, nesterov=nesterov)(jnp.asarray(1))
        known = convergence_rate(kernel, learning_rate * curvatures).max()
        assert known == pytest.approx(rate, rel=2e-3)  # a double root, in float32
        steps = int(200 / -math.log(rate))
        with jax.enable_x64(True):
            tx = descent(heavy_ball(beta, nesterov=nesterov), learning_rate)
            path = np.asarray(distances(tx, np.asarray(curvatures, np.float64), steps))
        norms = np.log(np.linalg.norm(path, axis=1))[steps // 2 :]
        slope = np.polyfit(np.arange(len(norms)), norms, 1)[0]
        assert math.exp(slope) == pytest.approx(rate, rel=0.02)


@every_kernel
def test_the_measured_rate_is_the_closed_form(kernel):
    optimizer = descent(method_of(kernel), 0.4)
    for curvature in (0.01, 2.1):
        want = convergence_rate(kernel, 0.4 * curvature)
        got = measured_convergence_rate(optimizer, curvature)
        assert got == pytest.approx(float(want), rel=1e-4)


def test_the_measured_rate_ignores_modes_without_x():
    # The weight of the state decays by 0.83, slower than x.
    nesterov = descent(heavy_ball(0.83, nesterov=True), 1.0)
    want = convergence_rate(KERNELS["nesterov"], 0.9)
    got = measured_convergence_rate(nesterov, 0.9)
    assert got == pytest.approx(float(want), rel=1e-4)
    assert want < 0.3
    debiased = descent(ema(0.83, debias=True), 1.0)
    want = convergence_rate(KERNELS["ema"], 2.0)
    got = measured_convergence_rate(debiased, 2.0, after=300)
    assert got == pytest.approx(float(want), rel=1e-3)


def test_the_measured_rate_of_several_buffers_is_that_of_the_run():
    optimizer = descent(aggmo([0.0, 0.5, 0.9]), 0.2)
    rate = measured_convergence_rate(optimizer, curvature=0.6)
    with jax.enable_x64(True):
        path = np.asarray(distances(optimizer, np.float64(0.6), 400))
    envelope = path[300:].max() / path[100:200].max()
    assert envelope ** (1 / 200) == pytest.approx(rate, rel=0.005)


def test_weight_decay_adds_to_the_curvature():
    plain = descent(heavy_ball(0.83), 0.1)
    coupled: Any = optax.chain(optax.add_decayed_weights(0.25), plain)
    got = measured_convergence_rate(coupled, 0.05)
    assert got == pytest.approx(measured_convergence_rate(plain, 0.3), rel=1e-5)


@pytest.mark.parametrize("wrong", [0.9, heavy_ball_coefficients(0.9), heavy_ball(0.9)])
def test_what_are_no_coefficients_is_refused(wrong):
    for call, measure in [
        ("stability_limit", stability_limit),
        ("convergence_rate", lambda given: convergence_rate(given, 1.0)),
    ]:
        message = f"{call}: coefficients must be Coefficients(beta, gain, from_buffer, "
        with pytest.raises(TypeError, match=re.escape(message)) as raised:
            measure(wrong)
        assert "`heavy_ball_coefficients(0.9)(0)`" in str(raised.value)
    with pytest.raises(TypeError, match="curvature must be a number"):
        measured_convergence_rate(heavy_ball(0.9), cast(Any, None))
