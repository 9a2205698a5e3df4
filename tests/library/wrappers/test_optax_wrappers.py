"""The methods inside Optax's wrappers compute what they compute outside."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.typing import ArrayLike
from support import reference
from support.counting import CountingJit

from optax_momentum import ema, heavy_ball, keras, storage

GRADIENTS = np.random.default_rng(3).normal(size=(12, 4)).astype(np.float32)
START = jnp.asarray([0.5, -1.0, 2.0, 0.1])

# Optax 0.2.8 promotes inside MultiSteps, its schedules and inject_hyperparams.
promotes = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


def train(optimizer: Any, gradients=GRADIENTS) -> np.ndarray:
    """Returns the parameters after every step."""
    params, state = START, optimizer.init(START)
    update, visited = jax.jit(optimizer.update), []
    for g in gradients:
        updates, state = update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
        visited.append(params)
    return np.stack(visited)


def expected(gradients, beta: ArrayLike = 0.8, rates: ArrayLike = 0.05):
    updates, _ = reference.heavy_ball(gradients, beta)
    return reference.sgd(np.asarray(START, np.float64), updates, rates)


def test_chain_with_a_learning_rate_is_sgd_with_momentum():
    optimizer: Any = optax.chain(heavy_ball(0.8), optax.scale_by_learning_rate(0.05))
    np.testing.assert_allclose(train(optimizer), expected(GRADIENTS), 2e-6, 1e-6)


@promotes
def test_chain_takes_optax_schedules_of_rate_and_beta():
    rate = optax.cosine_decay_schedule(0.05, 12)
    beta = optax.linear_schedule(0.5, 0.9, 12)
    optimizer: Any = optax.chain(heavy_ball(beta), optax.scale_by_learning_rate(rate))
    betas = np.stack([np.asarray(beta(t)) for t in range(12)])
    rates = np.stack([np.asarray(rate(t)) for t in range(12)])
    want = expected(GRADIENTS, betas, rates)
    np.testing.assert_allclose(train(optimizer), want, 2e-6, 1e-6)


def test_masked_leaves_other_leaves_unchanged():
    params = {"moves": jnp.ones(2), "count": jnp.arange(3)}
    gradients = {"moves": jnp.ones(2), "count": jnp.arange(3)}
    optimizer: Any = optax.masked(ema(0.8), {"moves": True, "count": False})
    state = optimizer.init(params)
    for weight in (0.2, 0.36):
        updates, state = optimizer.update(gradients, state, params)
        np.testing.assert_allclose(updates["moves"], weight, 1e-6)
        np.testing.assert_array_equal(updates["count"], [0, 1, 2])


def test_partition_gives_each_leaf_its_own_method():
    optimizer: Any = optax.partition(
        {"slow": ema(0.8), "zero": optax.set_to_zero()}, {"a": "slow", "b": "zero"}
    )
    ones = {"a": jnp.ones(2), "b": jnp.ones(3)}
    state = optimizer.init(ones)
    for weight in (0.2, 0.36):
        updates, state = optimizer.update(ones, state, ones)
        np.testing.assert_allclose(updates["a"], weight, 1e-6)
        np.testing.assert_array_equal(updates["b"], np.zeros(3))


@promotes
def test_multi_steps_equals_one_step_on_the_mean_gradient():
    inner = optax.chain(heavy_ball(0.8), optax.scale_by_learning_rate(0.05))
    optimizer: Any = optax.MultiSteps(inner, every_k_schedule=3)
    means = GRADIENTS.reshape(4, 3, -1).mean(axis=1)
    np.testing.assert_allclose(train(optimizer)[2::3], expected(means), 1e-5, 1e-6)


@promotes
@pytest.mark.parametrize("nesterov", [False, True])
def test_injected_hyperparameters_are_read_at_every_step(nesterov):
    inject = optax.inject_hyperparams(heavy_ball, hyperparam_dtype=jnp.float32)
    optimizer: Any = inject(0.5, nesterov=nesterov)
    update = CountingJit(optimizer.update)
    state = optimizer.init(START)
    betas = np.linspace(0.5, 0.9, 12)
    want, _ = reference.heavy_ball(GRADIENTS, betas, nesterov=nesterov)
    for g, beta, u in zip(GRADIENTS, betas, want, strict=True):
        state.hyperparams["beta"] = jnp.asarray(beta, jnp.float32)
        updates, state = update(jnp.asarray(g), state)
        np.testing.assert_allclose(updates, u, 2e-5, 1e-6)
    assert update.traces == 1


@promotes
@pytest.mark.parametrize("debias", [False, True])
def test_injected_ema_computes_in_float32_for_bfloat16_parameters(debias):
    inject = optax.inject_hyperparams(ema, hyperparam_dtype=jnp.float32)
    optimizer: Any = inject(0.999, debias=debias, storage=storage.float32())
    state = optimizer.init(START.astype(jnp.bfloat16))
    updates, state = jax.jit(optimizer.update)(jnp.ones(4, jnp.float32), state)
    np.testing.assert_allclose(updates, 1.0 if debias else 0.001, 1e-4)


@pytest.mark.parametrize("switch", [0.0, 1.0])
def test_switches_may_be_traced(switch):
    def first_two(nesterov):
        tx: Any = keras(0.1, 0.8, nesterov=nesterov)
        first, state = tx.update(START, tx.init(START))
        return first, tx.update(START, state)[0]

    def debiased(debias):
        tx: Any = ema(0.8, debias=debias)
        return tx.update(START, tx.init(START))[0]

    got = jax.jit(first_two)(switch)
    for traced, known in zip(got, first_two(bool(switch)), strict=True):
        np.testing.assert_allclose(traced, known, 1e-6)
    np.testing.assert_allclose(jax.jit(debiased)(switch), debiased(bool(switch)), 1e-6)


def test_apply_if_finite_skips_a_poisoned_gradient():
    inner = optax.chain(heavy_ball(0.8), optax.scale_by_learning_rate(0.05))
    optimizer: Any = optax.apply_if_finite(inner, max_consecutive_errors=5)
    poisoned = np.insert(GRADIENTS, 4, np.nan, axis=0)
    visited = np.delete(train(optimizer, poisoned), 4, axis=0)
    np.testing.assert_allclose(visited, expected(GRADIENTS), 2e-6, 1e-6)
