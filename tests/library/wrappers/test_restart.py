"""`adaptive_restart`: the FISTA of the papers, and restarts of other methods."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.noisy_quadratic import CURVATURE, EXACT, NOISE, START, train

from optax_momentum import (
    RestartState,
    adaptive_restart,
    aggmo,
    delayed,
    ema,
    heavy_ball,
    keras,
    nesterov,
    schedules,
)
from optax_momentum._methods.momentum import momentum_states

FISTA = delayed(schedules.fista(), 1)


def loss(theta):
    return 0.5 * np.sum(CURVATURE * theta**2)


def fista(criterion, rate, min_steps=0):
    """FISTA as in O'Donoghue and Candès: the points y, and the number of restarts."""
    x = x_before = y = START
    k = steps = restarts = 0
    points: list[Any] = []
    speeds: list[Any] = [np.inf]
    losses: list[Any] = [np.inf]
    for _ in range(300):
        points.append(y)
        g = CURVATURE * y
        x_before, x = x, y - rate * g
        harmful = {
            "gradient": g @ (x - x_before) > 0,
            "speed": steps > 0 and np.linalg.norm(x - x_before) < speeds[-1],
            "value": loss(y) > losses[-1],
        }[criterion]
        speeds.append(np.linalg.norm(x - x_before))
        losses.append(loss(y))
        restarted = harmful and steps >= min_steps
        restarts += restarted
        k, steps = (0, 1) if restarted else (k, steps + 1)
        y = x + k / (k + 3) * (x - x_before)
        k += 1
    return np.stack(points), restarts


@pytest.mark.parametrize("criterion", ["gradient", "value", "speed"])
@pytest.mark.parametrize("min_steps", [3, 10])
def test_restarted_nesterov_is_the_fista_of_the_papers(criterion, min_steps):
    want, restarts = fista(criterion, 0.9, min_steps)
    optimizer = adaptive_restart(nesterov(0.9, FISTA), criterion, min_steps=min_steps)
    got, state = train(optimizer, EXACT, value=loss)
    assert state.restarts == restarts > 2
    np.testing.assert_allclose(got, want, 1e-9, 1e-11)


@pytest.mark.parametrize("criterion", ["gradient", "value", "speed"])
def test_restarts_reach_a_much_lower_loss_than_momentum_alone(criterion):
    alone, _ = train(nesterov(0.9, FISTA), EXACT)
    restarted = adaptive_restart(nesterov(0.9, FISTA), criterion, min_steps=10)
    got, _ = train(restarted, EXACT, value=loss)
    assert loss(got[-1]) < 1e-3 * loss(alone[-1])


@pytest.mark.parametrize(
    "inner",
    [
        ema(0.9),
        heavy_ball(0.9),
        keras(0.1, 0.9),
        aggmo([0.0, 0.9, 0.95]),
        optax.chain(optax.clip(100.0), heavy_ball(0.9), optax.scale(-0.1)),
    ],
)
def test_gradient_criterion_drops_momentum_that_points_uphill(inner):
    optimizer: Any = adaptive_restart(inner)
    ahead, back = jnp.full(3, 10.0), jnp.full(3, -1.0)
    _, state = optimizer.update(ahead, optimizer.init(ahead))
    assert state.restarts == 0
    updates, state = optimizer.update(back, state)
    want, _ = inner.update(back, inner.init(ahead))
    np.testing.assert_array_equal(updates, want)
    assert (state.restarts, state.steps) == (1, 1)
    assert all(momentum.step == 1 for momentum in momentum_states(state))


def test_gradients_along_the_momentum_cause_no_restart():
    optimizer: Any = adaptive_restart(heavy_ball(0.9))
    plain: Any = heavy_ball(0.9)
    gradients = np.abs(NOISE[:20]).astype(np.float32)
    state, other = optimizer.init(gradients[0]), plain.init(gradients[0])
    for g in gradients:
        updates, state = optimizer.update(g, state)
        want, other = plain.update(g, other)
        np.testing.assert_array_equal(updates, want)
    assert state.restarts == 0


def test_a_restart_clears_infinity_from_the_buffer_and_nan_causes_none():
    optimizer: Any = adaptive_restart(heavy_ball(0.9), "value")
    state = optimizer.init(jnp.zeros(2))
    _, state = optimizer.update(jnp.asarray([jnp.inf, 1.0]), state, value=1.0)
    updates, state = optimizer.update(jnp.ones(2), state, value=2.0)
    np.testing.assert_array_equal(updates, [1.0, 1.0])
    _, state = optimizer.update(jnp.ones(2), state, value=jnp.nan)
    _, state = optimizer.update(jnp.ones(2), state, value=3.0)
    assert state.restarts == 1


def test_leaves_without_a_gradient_do_not_enter_the_criterion():
    optimizer: Any = adaptive_restart(heavy_ball(0.9))
    state = optimizer.init({"a": jnp.ones(2), "b": jnp.ones(2)})
    both = {"a": jnp.full(2, 5.0), "b": jnp.full(2, -9.0)}
    _, state = optimizer.update(both, state)
    updates, state = optimizer.update({"a": jnp.ones(2), "b": None}, state)
    assert updates["b"] is None
    assert state.restarts == 0
    np.testing.assert_array_equal(updates["a"], [5.5, 5.5])


def test_complex_gradients_count_as_pairs_of_real_ones():
    optimizer: Any = adaptive_restart(heavy_ball(0.9))
    one = jnp.asarray([3 + 4j], jnp.complex64)
    _, state = optimizer.update(one, optimizer.init(one))
    _, turned = optimizer.update(one * 1j, state)
    _, reversed_ = optimizer.update(-one / 2, state)
    assert (turned.restarts, reversed_.restarts) == (0, 1)


# Without a restart, the beta of FISTA would be too close to 1 for bfloat16.
@pytest.mark.filterwarnings("ignore:init. the buffer of .* would stall:UserWarning")
@pytest.mark.parametrize("criterion", ["gradient", "value", "speed"])
def test_state_keeps_its_types_under_jit_scan_and_vmap(criterion):
    inner = nesterov(0.5, FISTA)
    optimizer: Any = adaptive_restart(inner, criterion, min_steps=jnp.asarray(2))
    params = {"w": jnp.ones(4, jnp.bfloat16), "b": jnp.ones(())}
    gradients = {"w": jnp.bfloat16(NOISE[:12, :4]), "b": jnp.float32(NOISE[:12, 0])}
    values = jnp.asarray(NOISE[:12, 1], jnp.float32)

    def body(state, given):
        updates, state = optimizer.update(given[0], state, value=given[1])
        return state, updates

    state = optimizer.init(params)
    last, scanned = jax.lax.scan(body, state, (gradients, values))
    assert jax.tree.map(jax.typeof, last) == jax.tree.map(jax.typeof, state)
    assert scanned["w"].dtype == jnp.bfloat16
    assert last.restarts > 0
    lanes = jax.vmap(lambda g, v: jax.lax.scan(body, state, (g, v))[1])
    twice = jax.tree.map(lambda x: jnp.stack([x, -x]), (gradients, values))
    np.testing.assert_array_equal(lanes(*twice)["b"][0], scanned["b"])


def test_a_restart_resets_the_schedule_of_beta_but_not_the_rate_outside():
    rate = optax.scale_by_schedule(lambda t: jnp.asarray([1.0, 0.5, 0.25])[t])
    optimizer: Any = optax.chain(adaptive_restart(nesterov(1.0, FISTA)), rate)
    state = optimizer.init(jnp.zeros(()))
    emitted = []
    for g in (1.0, 1.0, -0.1):
        updates, state = optimizer.update(jnp.asarray(g), state)
        emitted.append(float(updates))
    assert emitted == pytest.approx([-1.0, -1.25 * 0.5, 0.1 * 0.25])


def test_bad_arguments_are_refused():
    message = "criterion must be 'gradient', 'value' or 'speed', got 'loss'. For res"
    criterion: Any = "loss"
    with pytest.raises(ValueError, match=message):
        adaptive_restart(heavy_ball(0.9), criterion)
    for value in (-1, float("nan"), float("inf")):
        message = f"adaptive_restart: min_steps must lie in [0, inf), got {value}."
        with pytest.raises(ValueError, match=re.escape(message)):
            adaptive_restart(heavy_ball(0.9), min_steps=value)


def test_an_inner_transformation_without_momentum_is_refused():
    message = "adaptive_restart: inner must hold momentum, got a state without a Mo"
    with pytest.raises(ValueError, match=message):
        adaptive_restart(optax.sgd(0.1)).init(jnp.zeros(2))


def test_value_criterion_needs_a_scalar_value():
    optimizer: Any = adaptive_restart(heavy_ball(0.9), "value")
    state = optimizer.init(jnp.zeros(2))
    with pytest.raises(ValueError, match="needs the loss at params, got None"):
        optimizer.update(jnp.zeros(2), state)
    with pytest.raises(ValueError, match="update: value must be a scalar, got shape"):
        optimizer.update(jnp.zeros(2), state, value=jnp.ones(2))


def test_a_state_of_another_type_is_refused():
    with pytest.raises(TypeError, match=f"must be a {RestartState.__name__}, got tup"):
        adaptive_restart(heavy_ball(0.9)).update(jnp.zeros(2), ())
