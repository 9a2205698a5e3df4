"""Claims of docs/recipes.md that its code blocks do not check."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.trajectory import updates_and_states

from optax_momentum import ema, heavy_ball, keras, qhm, sgd, storage

GRADIENTS = np.random.default_rng(9).normal(size=(7, 5, 3)).astype(np.float32)
START = np.random.default_rng(10).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


def emitted(optimizer: Any, params=START) -> Any:
    """The updates of every step, at constant parameters."""

    def body(state, g):
        updates, state = optimizer.update(g, state, params)
        return state, updates

    return jax.lax.scan(body, optimizer.init(params), GRADIENTS)[1]


def scale_by_muon(beta):
    return optax.contrib.scale_by_muon(
        beta=beta,
        nesterov=False,
        weight_dimension_numbers=lambda _: optax.contrib.MuonDimensionNumbers(),
    )


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("momentum", [ema(0.8), ema(0.8, debias=True), heavy_ball(0.8)])
def test_orthogonalized_momentum_of_every_convention_is_muon(momentum):
    got = emitted(optax.chain(momentum, scale_by_muon(0.0)))
    np.testing.assert_allclose(got, emitted(scale_by_muon(0.8)), 1e-3, 1e-4)
    raw = emitted(scale_by_muon(0.0))
    assert np.abs(got - raw)[1:].max() > 0.1


@pytest.mark.usefixtures("standard_promotion")
def test_sign_of_every_convention_is_signum():
    for momentum in (ema(0.8), heavy_ball(0.8)):
        optimizer = optax.chain(
            momentum, optax.scale_by_sign(), optax.scale_by_learning_rate(0.3)
        )
        want = emitted(optax.signum(0.3, 0.8))
        np.testing.assert_allclose(emitted(optimizer), want, 1e-6)


def test_keras_after_the_local_rate_is_lars_when_the_learning_rate_changes():
    # Algorithm 1 of the paper: v ← β·v + α·λ·(g + decay·w), w ← w − v.
    rates = jnp.asarray(0.5 / (1 + np.arange(7)), jnp.float32)
    trust, decay, beta = 0.3, 0.2, 0.8

    def local(g, w):
        size = jnp.linalg.norm(w)
        rate = trust * size / (jnp.linalg.norm(g) + decay * size)
        return rate * (g + decay * w)

    optimizer = optax.chain(
        optax.stateless_with_tree_map(local), keras(lambda step: rates[step], beta)
    )
    v, want = np.zeros((5, 3)), []
    for g, alpha in zip(GRADIENTS, rates, strict=True):
        size = np.linalg.norm(START)
        rate = trust * size / (np.linalg.norm(g) + decay * size)
        v = beta * v + float(alpha) * rate * (g + decay * START)
        want.append(-v)
    np.testing.assert_allclose(emitted(optimizer), want, 1e-5, 1e-6)


@pytest.mark.usefixtures("standard_promotion")
def test_beta_injected_in_bfloat16_becomes_1_unless_a_dtype_is_given():
    """Under jit the rounded beta is a tracer, so it is not refused."""
    params = jnp.zeros(1, jnp.bfloat16)

    def after(steps, **options):
        optimizer: Any = optax.inject_hyperparams(heavy_ball, **options)(0.999)
        state = jax.jit(optimizer.init)(params)
        for _ in range(steps):
            _, state = jax.jit(optimizer.update)(jnp.ones(1), state)
        return state.hyperparams["beta"], float(state.inner_state.weight)

    beta, weight = after(40)
    assert (beta, weight) == (1, 40)
    beta, weight = after(40, hyperparam_dtype=jnp.float32)
    assert weight == pytest.approx((1 - 0.999**40) / 0.001, rel=1e-4)


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_in_multi_steps_steps_on_the_mean_gradient(nesterov):
    inner: Any = sgd(0.3, 0.8, nesterov=nesterov)
    got = emitted(optax.MultiSteps(inner, 3))
    mean = GRADIENTS[:6].reshape(2, 3, 5, 3).mean(axis=1)
    _, state = inner.update(mean[0], inner.init(START))
    np.testing.assert_allclose(got[5], inner.update(mean[1], state)[0], 1e-5, 1e-6)
    np.testing.assert_array_equal(got[4], np.zeros((5, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "share"), [(1, 0.004), (100, 0.09), (1000, 0.32)])
def test_int8_turns_as_many_signs_as_the_recipe_says(ratio, share):
    """The same numbers are in the docstring of `storage.int8`."""
    gradients = np.random.default_rng(11).normal(size=(100, 64, 64)).astype(np.float32)
    gradients[:, :, 0] *= ratio  # one element of each block

    def signs(kept):
        updates, _ = updates_and_states(ema(0.9, storage=kept), gradients)
        return np.sign(updates[20:, :, 1:])

    exact = signs(None)
    turned = (signs(storage.int8()) != exact).mean()
    assert turned == pytest.approx(share, rel=0.15)
    turned = (signs(storage.bfloat16()) != exact).mean()
    assert turned == pytest.approx(0.001, rel=0.2)


@pytest.mark.parametrize("beta, away", [(0.9, 2e-7), (0.999, 1e-5)])
@pytest.mark.parametrize("method", [ema, partial(qhm, nu=1.0)])
def test_an_injected_beta_is_exact_in_its_own_digits(method, beta, away):
    gradient = np.ones(1, np.float32)
    inject = optax.inject_hyperparams(method, hyperparam_dtype=jnp.float32)
    injected = inject(beta).update(gradient, inject(beta).init(gradient))[0]
    plain = method(beta).update(gradient, method(beta).init(gradient))[0]
    rounded = float(np.float32(beta))
    np.testing.assert_array_equal(injected, np.float32(1 - rounded))
    np.testing.assert_array_equal(plain, np.float32(1 - beta))
    difference = abs(1 - (1 - rounded) / (1 - beta))
    assert difference == pytest.approx(away, rel=0.35)
