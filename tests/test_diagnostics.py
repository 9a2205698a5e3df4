"""What is measured agrees with what the equations say."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_momentum import (
    Coefficients,
    aggmo,
    ema,
    ema_coefficients,
    guard,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    linear_momentum,
)
from optax_momentum.diagnostics import (
    convergence_rate,
    gain,
    half_life,
    impulse_response,
    measured_convergence_rate,
    noise_gain,
    stability_limit,
    telemetry,
)

KERNELS = {
    "heavy_ball": heavy_ball_coefficients(0.83)(jnp.asarray(1)),
    "dampened": heavy_ball_coefficients(0.83, dampening=0.3)(jnp.asarray(1)),
    "nesterov": heavy_ball_coefficients(0.83, nesterov=True)(jnp.asarray(1)),
    "ema": ema_coefficients(0.83)(jnp.asarray(1)),
    "any": Coefficients(0.71, 0.6, from_buffer=1.3, from_gradient=0.45),
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def of(kernel: Coefficients) -> Any:
    return linear_momentum(lambda step: kernel)


def descent(transformation, learning_rate) -> Any:
    return optax.chain(transformation, optax.scale_by_learning_rate(learning_rate))


# The impulse response


@every_kernel
def test_the_measured_response_is_the_closed_form(kernel):
    beta, a, b, c = kernel
    want = a * b * beta ** np.arange(100) + c * (np.arange(100) == 0)
    response = impulse_response(of(kernel), 100)
    np.testing.assert_allclose(response, want, 1e-5, 1e-9)
    assert gain(response) == pytest.approx(a * b / (1 - beta) + c, rel=1e-5)
    noise = (a * b + c) ** 2 + (a * b * beta) ** 2 / (1 - beta**2)
    assert noise_gain(response) == pytest.approx(noise, rel=1e-5)


def test_an_average_has_less_noise_than_a_gradient():
    response = impulse_response(ema(0.83), 200)
    assert noise_gain(response) == pytest.approx(0.17 / 1.83, rel=1e-5)


def test_half_life_is_that_of_the_buffer_and_one_step_less_with_nesterov():
    betas = jnp.asarray([0.6, 0.83, 0.97])
    known = math.log(2) / -np.log(betas)
    for build, want in [
        (heavy_ball, known),
        (ema, known),
        (lambda beta: keras(0.3, beta), known),  # whose response is negative
        (lambda beta: heavy_ball(beta, nesterov=True), known - 1),
    ]:
        got = jax.vmap(lambda beta, b=build: half_life(impulse_response(b(beta), 400)))
        np.testing.assert_allclose(got(betas)[want > 1], want[want > 1], 1e-3)


def test_half_life_of_sgd_is_no_step_at_all():
    assert half_life(impulse_response(optax.scale(-0.1), 3)) == 0.0


def test_gain_of_aggmo_is_the_mean_of_its_kernels():
    response = impulse_response(aggmo([0.0, 0.5, 0.9]), 200)
    assert gain(response) == pytest.approx((1 + 2 + 10) / 3, rel=1e-5)


def test_a_response_is_measured_after_as_many_steps_as_asked():
    dampened = heavy_ball(0.83, dampening=0.3)
    assert impulse_response(dampened, 2)[0] == 1.0
    assert impulse_response(dampened, 2, after=1)[0] == pytest.approx(0.7)
    debiased = ema(0.83, debias=True)
    assert impulse_response(debiased, 2)[0] == pytest.approx(1.0)
    assert impulse_response(debiased, 2, after=400)[0] == pytest.approx(0.17)


def test_optax_is_measured_alike():
    ours = impulse_response(heavy_ball(0.83, nesterov=True), 50)
    theirs = impulse_response(optax.trace(0.83, nesterov=True), 50)
    np.testing.assert_allclose(ours, theirs, 1e-6)


def test_measures_are_traced_and_vmapped():
    betas = jnp.asarray([0.5, 0.83])
    gains = jax.vmap(lambda beta: gain(impulse_response(heavy_ball(beta), 99)))(betas)
    np.testing.assert_allclose(gains, [2, 1 / 0.17], 1e-5)


@pytest.mark.parametrize("measure", [gain, noise_gain, half_life])
def test_a_response_that_is_cut_off_is_refused(measure):
    message = f"{measure.__name__}: the response must have died out, but its last entry"
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        measure(impulse_response(heavy_ball(0.99), 100))
    assert "Measure it for more than 100 steps." in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "impulse_response: steps must be a whole number of at least 1"),
        ({"steps": 2.5}, "impulse_response: steps must be a whole number of at least"),
        ({"steps": 3, "after": -1}, "after must be a whole number of at least 0, got"),
    ],
)
def test_steps_are_whole_numbers(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        impulse_response(ema(0.83), **arguments)


# The quadratic


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
    both = distances(descent(of(kernel), 1.0), [0.99 * limit, 1.01 * limit], 600)
    growth = np.asarray(both[-50:].max(axis=0) / both[:50].max(axis=0))
    assert growth[0] < 0.5 and growth[1] > 2


def test_stability_limits_are_those_of_the_textbook():
    beta = 0.83
    for coefficients, limit in [
        (heavy_ball_coefficients(0), 2.0),
        (heavy_ball_coefficients(beta), 2 * (1 + beta)),
        (
            heavy_ball_coefficients(beta, nesterov=True),
            (2 + 2 * beta) / (1 + 2 * beta),
        ),
        (ema_coefficients(beta), 2 * (1 + beta) / (1 - beta)),
    ]:
        assert stability_limit(coefficients(jnp.asarray(1))) == pytest.approx(limit)


def test_heavy_ball_converges_at_the_root_of_beta_wherever_it_oscillates():
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
    optimizer = descent(of(kernel), 0.4)
    for curvature in (0.01, 2.1):
        want = convergence_rate(kernel, 0.4 * curvature)
        got = measured_convergence_rate(optimizer, curvature)
        assert got == pytest.approx(float(want), rel=1e-4)


def test_the_measured_rate_leaves_out_what_x_takes_no_part_in():
    # The weight of the state decays by 0.83, slower than x.
    nesterov = descent(heavy_ball(0.83, nesterov=True), 1.0)
    want = convergence_rate(KERNELS["nesterov"], 0.9)
    assert measured_convergence_rate(nesterov, 0.9) == pytest.approx(
        float(want), rel=1e-4
    )
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
    coupled: Any = optax.chain(
        optax.add_decayed_weights(0.25), descent(heavy_ball(0.83), 0.1)
    )
    plain = descent(heavy_ball(0.83), 0.1)
    got = measured_convergence_rate(coupled, 0.05)
    assert got == pytest.approx(measured_convergence_rate(plain, 0.3), rel=1e-5)


# Noise, and live readings


def noisy_run(optimizer: Any, curvature, steps, lanes=200, drop=0):
    """The iterates of noisy gradients curvature·x + noise, and the last state."""
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
    # The lanes are independent: their mean squares tell the error of their mean.
    squares = np.square(path).mean(axis=0)
    error = squares.std(ddof=1) / math.sqrt(lanes)
    assert error < 0.02 * variance
    assert abs(squares.mean() - variance) < 4 * error


@pytest.mark.parametrize(
    ("build", "settled"),
    [
        (lambda rate: descent(heavy_ball(0.83), rate), 1 / 0.17),
        (lambda rate: keras(rate, 0.83), 1 / 0.17),
    ],
    ids=["heavy_ball", "keras"],
)
def test_overshoot_on_a_plateau_is_the_settled_rate_times_the_curvature(build, settled):
    wanted = jnp.asarray([0.2, 3.5])  # SGD at the settled rate converges below 2
    curvature = 2.5

    def overshoot(wanted):
        tx = telemetry(build(wanted / (settled * curvature)), beta=0.998)
        return optax.tree.get(noisy_run(tx, curvature, 2000)[1], "overshoot")

    np.testing.assert_allclose(jax.vmap(overshoot)(wanted), wanted, 0.1)


def test_readings_are_the_ratios_of_one_step_where_beta_is_zero():
    optimizer: Any = telemetry(descent(heavy_ball(0.83), 0.1), beta=0.0)
    params = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray(2.0)}
    first = {"a": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(0.5)}
    second = {"a": jnp.asarray([3.0, 1.0]), "b": jnp.asarray(1.0)}
    state = optimizer.init(params)
    _, state = optimizer.update(first, state, params)
    assert optax.tree.get(state, "cosine") == 0.0  # there is no past
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


def test_readings_average_the_sums_of_the_last_steps():
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
    traces = []

    @jax.jit
    def update(gradients, state):
        traces.append(None)
        return watched.update(gradients, state, params)

    for _ in range(3):
        got, state = update(gradients, state)
        want, other = jax.jit(plain.update)(gradients, other)
        assert jax.tree.map(jax.typeof, state) == described
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(traces) == 1
    assert optax.tree.get(state, "cosine") == pytest.approx(1.0, rel=1e-3)


def test_telemetry_reads_partitions_and_skips_absent_leaves():
    params = {"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.ones(4)}
    parts: Any = {"m": heavy_ball(0.5), "none": optax.scale(1.0)}
    labels = {"a": "m", "b": "m", "c": "none"}
    optimizer: Any = telemetry(optax.partition(parts, labels), beta=0.0)
    _, state = optimizer.update(params, optimizer.init(params), params)
    gradients = {"a": -params["a"], "b": None, "c": params["c"]}
    _, state = optimizer.update(gradients, state, params)
    assert optax.tree.get(state, "cosine") == pytest.approx(-1.0)
    assert optax.tree.get(state, "overshoot") == pytest.approx(2.0)


def test_guard_keeps_what_is_not_finite_out_of_the_readings():
    optimizer: Any = guard(telemetry(descent(heavy_ball(0.83), 0.1)))
    params = jnp.ones(3)
    state = optimizer.init(params)
    for gradient in (params, 2 * params, params * jnp.nan, params):
        _, state = optimizer.update(gradient, state, params)
    assert state.skipped == 1
    assert optax.tree.get(state, "cosine") == pytest.approx(1.0, rel=1e-5)


def test_telemetry_of_no_momentum_is_refused():
    with pytest.raises(ValueError, match="telemetry: there is no MomentumState in the"):
        telemetry(optax.sgd(0.1, momentum=0.9)).init(jnp.ones(2))
    optimizer: Any = telemetry(ema(0.83))
    with pytest.raises(ValueError, match="telemetry: update needs params, got None"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))
    with pytest.raises(TypeError, match="the state must be a TelemetryState, got Mom"):
        state = optimizer.init(jnp.ones(2)).inner_state
        optimizer.update(jnp.ones(2), state, jnp.ones(2))
    with pytest.raises(
        ValueError, match=re.escape("telemetry: beta must lie in [0, 1)")
    ):
        telemetry(ema(0.83), beta=1.0)
