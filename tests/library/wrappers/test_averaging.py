"""Averages of the parameters: their equations, dtypes, shardings and wrappers."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.counting import CountingJit
from support.trajectory import NOISE, START, last_of_donated_steps, trajectory

from optax_momentum import (
    averaged_params,
    beta_from_half_life,
    lawa,
    parameter_ema,
    polyak_average,
    sgd,
)

UPDATES = NOISE[:17]


def averages(averaging: Any, params: Any = START, updates: Any = UPDATES) -> Any:
    """The averaged parameters after every step."""
    _, states = trajectory(averaging, params, updates)
    return jax.jit(jax.vmap(averaged_params))(states)


ITERATES = START + np.cumsum(np.float64(UPDATES), axis=0)
WARM = np.minimum(0.8, 1 - 1 / np.arange(1, 18))  # ρ of every step, with warm-up


def expected_ema(rhos):
    average, want = np.float64(START), []
    for rho, theta in zip(rhos, ITERATES, strict=True):
        average = rho * average + (1 - rho) * theta
        want.append(average)
    return want


def test_ema_follows_its_equation_at_every_step():
    cold = averages(parameter_ema(0.8, warm_up=False))
    np.testing.assert_allclose(cold, expected_ema(np.full(17, 0.8)), 1e-5, 1e-5)
    warm = averages(parameter_ema(0.8))
    np.testing.assert_allclose(warm, expected_ema(WARM), 1e-5, 1e-5)
    rhos = 0.9 - 0.03 * np.arange(17)
    at = jnp.asarray(rhos, jnp.float32)
    scheduled = averages(parameter_ema(lambda step: at[step], warm_up=False))
    np.testing.assert_allclose(scheduled, expected_ema(rhos), 1e-5, 1e-5)


def test_ema_with_warm_up_starts_as_the_mean_of_all_iterates():
    got = averages(parameter_ema(0.8))
    for t in range(5):
        np.testing.assert_allclose(got[t], ITERATES[: t + 1].mean(axis=0), 1e-5, 1e-5)
    assert np.abs(got[5] - ITERATES[:6].mean(axis=0)).max() > 0.01


@pytest.mark.parametrize("start", [0, 5])
def test_polyak_average_is_the_mean_since_its_start(start):
    got = averages(polyak_average(start))
    for t in range(17):
        since = ITERATES[min(start, t) : t + 1]
        np.testing.assert_allclose(got[t], since.mean(axis=0), 1e-5, 1e-5)


def test_ema_with_rho_one_and_warm_up_is_polyak_average():
    got, want = averages(parameter_ema(1.0)), averages(polyak_average())
    np.testing.assert_allclose(got, want, 1e-6, 1e-6)


@pytest.mark.parametrize(("k", "every"), [(1, 1), (4, 1), (3, 2)])
def test_lawa_is_the_mean_of_the_latest_stored_iterates(k, every):
    got = averages(lawa(k, every=every))
    for t in range(17):
        kept = ITERATES[every - 1 : t + 1 : every][-k:]
        want = kept.mean(axis=0) if len(kept) else START
        np.testing.assert_allclose(got[t], want, 1e-5, 1e-5)


def test_ema_of_a_larger_batch_spans_the_same_samples():
    # Of three steps with the small batch, only the first changes the parameters.
    rho, large = (beta_from_half_life(600, batch_size=size) for size in (100, 300))
    updates = UPDATES[:15] * (np.arange(15) % 3 == 0).reshape(15, 1, 1)
    small = averages(parameter_ema(rho, warm_up=False), updates=updates)[2::3]
    got = averages(parameter_ema(large, warm_up=False), updates=updates[::3])
    np.testing.assert_allclose(got, small, 1e-5, 1e-5)


def test_float64_parameters_are_averaged_in_float64():
    with jax.enable_x64(True):
        got = averages(parameter_ema(0.8), np.float64(START), np.float64(UPDATES))
        np.testing.assert_allclose(got, expected_ema(WARM), 1e-13, 1e-13)


@pytest.mark.parametrize("rho", [0.7, 0.999, 1.0])
def test_average_of_constant_parameters_is_exactly_constant(rho):
    # ρ·θ̄ + (1 − ρ)·θ would change at every step, by the rounding of 1 − ρ.
    got = averages(parameter_ema(rho), updates=np.zeros_like(UPDATES))
    np.testing.assert_array_equal(got, np.broadcast_to(START, got.shape))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(parameter_ema, 1.5), "rho must lie in [0, 1], got 1.5."),
        (partial(parameter_ema, np.nan), "rho must lie in [0, 1], got n"),
        (partial(parameter_ema, warm_up=3), "warm_up must be True or F"),
        (partial(polyak_average, -1), "start must be at least 0, got -1"),
        (partial(lawa, 0), "k must be an int of at least 1, got 0. It is the num"),
        (partial(lawa, -3), "k must be an int of at least 1, got -3."),
        (partial(lawa, 2, every=1.5), "every must be a whole number of at least 1"),
    ],
)
def test_averages_refuse_arguments_out_of_range(build, message):
    message = re.escape(f"{build.func.__name__}: {message}")
    with pytest.raises(ValueError, match=message):
        build()


AVERAGES = {
    "parameter_ema": partial(parameter_ema, 0.8),
    "parameter_ema, cold": partial(parameter_ema, 0.8, warm_up=False),
    "polyak_average": partial(polyak_average, 3),
    "lawa": partial(lawa, 3, every=2),
}
every_average = pytest.mark.parametrize(
    "averaging", [pytest.param(build(), id=name) for name, build in AVERAGES.items()]
)


@every_average
def test_updates_pass_unchanged_and_the_first_average_is_init(averaging):
    params, updates = jnp.asarray(START), jnp.asarray(UPDATES[0])
    state = averaging.init(params)
    np.testing.assert_allclose(averaged_params(state), params, 1e-6)
    emitted, _ = averaging.update(updates, state, params)
    assert emitted is updates


@every_average
@pytest.mark.parametrize("update", ["bfloat16", "float32"])
def test_averages_of_bfloat16_parameters_are_float32(averaging, update):
    params: Any = jnp.asarray(START, jnp.bfloat16)
    state, iterates = averaging.init(params), []
    described = jax.tree.map(jax.typeof, state)
    for u in jnp.asarray(UPDATES[:4], update):
        _, state = averaging.update(u, state, params)
        with jax.numpy_dtype_promotion("standard"):
            params = optax.apply_updates(params, u)
        iterates.append(params.astype(jnp.float32))
        assert jax.tree.map(jax.typeof, state) == described
    # The averaged parameters are those after rounding to bfloat16.
    rounded = np.diff(np.stack([START.astype(jnp.bfloat16), *iterates]), axis=0)
    want = averages(averaging, np.float32(START.astype(jnp.bfloat16)), rounded)[-1]
    np.testing.assert_allclose(averaged_params(state), want, 1e-5, 1e-5)
    assert averaged_params(state).dtype == jnp.float32
    assert averaged_params(state, params).dtype == jnp.bfloat16


@every_average
@pytest.mark.parametrize("absent", [None, optax.MaskedNode()])
def test_a_parameter_without_update_is_averaged_as_constant(averaging, absent):
    params = {"a": jnp.ones(2), "b": jnp.full(2, 3.0), "c": None}
    state = averaging.init(params)
    updates = emitted = {"a": jnp.ones(2), "b": absent, "c": None}
    for _ in range(2):
        emitted, state = jax.jit(averaging.update)(updates, state, params)
    assert (emitted["b"], emitted["c"]) == (absent, None)
    average = averaged_params(state)
    np.testing.assert_allclose(average["b"], 3.0, 1e-6)
    assert average["c"] is None and (average["a"] > 1.2).all()


def test_average_is_found_inside_other_transformations():
    params = {"w": jnp.ones(2), "count": jnp.arange(3)}
    averaged = optax.masked(lawa(2), {"w": True, "count": False})
    with jax.numpy_dtype_promotion("standard"):  # for MultiSteps
        optimizer: Any = optax.MultiSteps(optax.chain(optax.identity(), averaged), 1)
        state = optimizer.init(params)
        gradients = {"w": jnp.ones(2), "count": jnp.zeros(3)}
        _, state = optimizer.update(gradients, state, params)
    average = averaged_params(state, params)
    np.testing.assert_allclose(average["w"], 2.0)
    np.testing.assert_array_equal(average["count"], [0, 1, 2])
    assert isinstance(averaged_params(state)["count"], optax.MaskedNode)


def test_average_sees_the_updates_of_the_whole_chain_before_it():
    optimizer: Any = optax.chain(sgd(0.1, 0.8), parameter_ema(0.6))
    params: Any = jnp.asarray(START)
    state, average = optimizer.init(params), 0.0
    for t, g in enumerate(UPDATES[:5], start=1):
        updates, state = optimizer.update(g, state, params)
        params = params + updates
        rho = min(0.6, (t - 1) / t)
        average = rho * average + (1 - rho) * params
    np.testing.assert_allclose(averaged_params(state), average, 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("build", "values"),
    [
        (parameter_ema, [0.5, 0.9]),
        (lambda warm_up: parameter_ema(0.8, warm_up=warm_up), [0.0, 1.0]),
        (polyak_average, [0, 4]),
        (lambda every: lawa(3, every=every), [1, 2]),
    ],
)
def test_one_compilation_serves_every_traced_hyperparameter(build, values):
    last = CountingJit(lambda value: averages(build(value))[-1])
    for value in values:
        want = averages(build(value))[-1]
        np.testing.assert_allclose(last(value), want, 1e-5, 1e-6)
    assert last.traces == 1
    assert not np.array_equal(*map(last, values))


@every_average
def test_averages_are_sharded_like_the_parameters(averaging, rows):
    params = jax.device_put(START, rows)
    state = averaging.init(params)
    shardings = [leaf.sharding for leaf in jax.tree.leaves(state)]
    update = CountingJit(averaging.update)
    for u in UPDATES[:4]:
        updates, state = update(jax.device_put(u, rows), state, params)
        params = params + updates
    assert update.traces == 1
    for leaf, first in zip(jax.tree.leaves(state), shardings, strict=True):
        assert leaf.sharding.is_equivalent_to(first, leaf.ndim)
        assert leaf.ndim == 0 or not leaf.sharding.is_fully_replicated
    np.testing.assert_allclose(averaged_params(state), averages(averaging)[3], 1e-6)


@every_average
def test_parameters_and_state_can_be_donated(averaging):
    _, state = last_of_donated_steps(averaging, UPDATES[:4])
    np.testing.assert_allclose(averaged_params(state), averages(averaging)[3], 1e-6)


@every_average
def test_init_accepts_shapes_instead_of_arrays(averaging):
    shapes = {"w": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)}
    made = averaging.init({"w": jnp.asarray(START, jnp.bfloat16)})
    for abstract in (averaging.init(shapes), jax.eval_shape(averaging.init, shapes)):
        assert jax.tree.structure(abstract) == jax.tree.structure(made)
        for a, b in zip(*map(jax.tree.leaves, (abstract, made)), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)


@every_average
def test_real_and_imaginary_parts_are_averaged_separately(averaging):
    got = averages(averaging, START + 1j * START[::-1], UPDATES + 1j * UPDATES[::-1])
    assert got.dtype == jnp.complex64
    imaginary = averages(averaging, START[::-1], UPDATES[::-1])
    np.testing.assert_allclose(got.real, averages(averaging), 1e-5, 1e-6)
    np.testing.assert_allclose(got.imag, imaginary, 1e-5, 1e-6)


@every_average
def test_update_refuses_missing_parameters_and_foreign_states(averaging):
    state = averaging.init(jnp.ones(2))
    message = ": update needs the parameters, got params=None. Call `update(updates, "
    with pytest.raises(ValueError, match=re.escape(message)):
        averaging.update(jnp.ones(2), state)
    with pytest.raises(TypeError, match=f"must be a {type(state).__name__}, got tuple"):
        averaging.update(jnp.ones(2), (), jnp.ones(2))


def test_averaged_params_refuses_a_state_with_no_average_or_two():
    message = "averaged_params: the state must hold one average, got {}. Put `parameter"
    with pytest.raises(ValueError, match=re.escape(message.format(0))):
        averaged_params(sgd(0.1).init(jnp.ones(2)))
    both: Any = optax.chain(lawa(2), parameter_ema()).init(jnp.ones(2))
    with pytest.raises(ValueError, match=re.escape(message.format(2))):
        averaged_params(both)
    np.testing.assert_array_equal(averaged_params(both[1]), [1, 1])
