"""`sgd` is `torch.optim.SGD`, with weight decay at one of three places."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.problem import load
from golden.replay import assert_follows, replay
from support import reference
from support.counting import CountingJit
from support.trajectory import NOISE, START, trajectory

from optax_momentum import heavy_ball, keras, sgd

PYTORCH = load("pytorch")
RATES = 0.2 / (1 + 0.2 * np.arange(25))
MODES = ["coupled", "decoupled", "independent"]


def rate(step):
    return jnp.asarray(RATES)[step]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "name", [name for name, s in PYTORCH.settings.items() if not s.missing]
)
def test_sgd_follows_pytorch(name):
    setting = PYTORCH.settings[name]
    options = dict(setting.options)
    beta = options.pop("momentum")
    rates = jnp.asarray(PYTORCH.problem["learning_rates"])
    betas = jnp.asarray(PYTORCH.problem["betas"])
    beta_at = (lambda step: betas[step]) if setting.varying_beta else beta
    optimizer = sgd(lambda step: rates[step], beta_at, **options)
    assert_follows(replay(optimizer, PYTORCH, name), PYTORCH, name)


@pytest.mark.parametrize("nesterov", [False, True])
def test_decoupled_decay_equals_that_of_keras_at_a_constant_learning_rate(nesterov):
    ours = sgd(0.07, 0.8, nesterov=nesterov, weight_decay=0.3, decay="decoupled")
    theirs = optax.chain(
        keras(0.07, 0.8, nesterov=nesterov), optax.add_decayed_weights(-0.07 * 0.3)
    )
    np.testing.assert_allclose(trajectory(ours)[0], trajectory(theirs)[0], 1e-5, 1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("decay", MODES)
@pytest.mark.parametrize(
    ("beta", "options"),
    [
        (None, {}),
        (0.8, {}),
        (0.8, {"nesterov": True}),
        (0.8, {"dampening": 0.3, "maximize": True}),
    ],
)
@pytest.mark.parametrize("scheduled", [False, True])
def test_weight_decay_follows_its_formula(decay, beta, options, scheduled):
    shrink = 0.05 * RATES / RATES[0] if scheduled else 0.05
    weight_decay = (lambda step: jnp.asarray(shrink)[step]) if scheduled else 0.05
    optimizer = sgd(rate, beta, weight_decay=weight_decay, decay=decay, **options)
    wide = np.float64(START), np.float64(NOISE)
    want = reference.sgd_with_decay(*wide, RATES, beta, shrink, decay, **options)
    np.testing.assert_allclose(trajectory(optimizer, *wide)[0], want, 1e-12, 1e-13)


@pytest.mark.parametrize(
    ("decay", "fraction"),
    [("coupled", 0.02), ("decoupled", 0.004), ("independent", 0.04)],
)
def test_settled_parameter_shrinks_by_the_documented_fraction(decay, fraction):
    # The fraction must be small for the buffer to settle.
    optimizer = sgd(0.1, 0.8, weight_decay=0.04, decay=decay)
    thetas, _ = trajectory(optimizer, np.ones(1, np.float32), np.zeros((200, 1)))
    assert 1 - thetas[-1, 0] / thetas[-2, 0] == pytest.approx(fraction, rel=0.12)


def test_sgd_without_beta_keeps_no_buffer():
    for optimizer in (sgd(0.1), sgd(0.1, None, weight_decay=0.3)):
        state: Any = optimizer.init(jnp.asarray(START))
        assert state.buffer is None
        described = jax.tree.map(jax.typeof, state)
        _, state = optimizer.update(jnp.ones((2, 3)), state, jnp.asarray(START))
        assert jax.tree.map(jax.typeof, state) == described
        assert state.step == 1


def test_sgd_is_optax_sgd_bit_for_bit_at_powers_of_two():
    for beta, nesterov in [(None, False), (0.5, False), (0.5, True)]:
        got = trajectory(sgd(0.25, beta, nesterov=nesterov))[0]
        want = trajectory(optax.sgd(0.25, beta, nesterov=nesterov))[0]
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("param", ["bfloat16", "float32"])
@pytest.mark.parametrize("gradient", ["bfloat16", "float32"])
@pytest.mark.parametrize("decay", MODES)
def test_sums_are_float32_and_updates_have_the_gradients_dtype(param, gradient, decay):
    params = jnp.asarray([1.1, -0.7], param)
    gradients = jnp.asarray([0.3, 0.9], gradient)
    optimizer: Any = sgd(0.3, 0.8, weight_decay=0.07, decay=decay)
    updates, state = optimizer.update(gradients, optimizer.init(params), params)
    theta, g = np.asarray(params, np.float32), np.asarray(gradients, np.float32)
    want = reference.sgd_with_decay(theta, g[None], 0.3, 0.8, 0.07, decay) - theta
    assert updates.dtype == gradient
    assert optax.tree.get(state, "buffer").dtype == param
    one_rounding = 2e-7 if gradient == "float32" else 2.0**-8
    np.testing.assert_allclose(np.asarray(updates, np.float64), want[0], one_rounding)


@pytest.mark.parametrize("decay", MODES)
def test_leaves_without_a_gradient_keep_their_buffer(decay):
    optimizer = sgd(0.3, 0.8, weight_decay=0.07, decay=decay)
    params = {"a": jnp.ones(2), "b": jnp.ones(3), "c": None}
    gradients = {"a": jnp.ones(2), "b": jnp.ones(3), "c": None}
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    for absent in (None, optax.MaskedNode()):
        given = {**gradients, "b": absent}
        updates, after = jax.jit(optimizer.update)(given, state, params)
        assert (updates["b"], updates["c"]) == (absent, None)
        before, buffer = (optax.tree.get(s, "buffer")["b"] for s in (state, after))
        np.testing.assert_array_equal(buffer, before)


@pytest.mark.parametrize("decay", MODES)
@pytest.mark.parametrize("switch", [False, True])
def test_injected_hyperparameters_change_without_recompiling(decay, switch):
    inject = optax.inject_hyperparams(sgd, hyperparam_dtype=jnp.float32)
    options: Any = (
        {"nesterov": True, "maximize": True} if switch else {"dampening": 0.2}
    )
    with jax.numpy_dtype_promotion("standard"):  # for Optax's own arithmetic
        optimizer: Any = inject(0.7, 0.5, weight_decay=0.1, decay=decay, **options)
        params: Any = jnp.asarray(START)
        state = optimizer.init(params)
        update = CountingJit(optimizer.update)
        for t, g in enumerate(NOISE[:6]):
            state.hyperparams["learning_rate"] = jnp.asarray(RATES[t], jnp.float32)
            state.hyperparams["beta"] = jnp.asarray(0.8, jnp.float32)
            state.hyperparams["weight_decay"] = jnp.asarray(0.05, jnp.float32)
            updates, state = update(jnp.asarray(g), state, params)
            params = optax.apply_updates(params, updates)
    wide = np.float64(START), np.float64(NOISE[:6])
    want = reference.sgd_with_decay(*wide, RATES[:6], 0.8, 0.05, decay, **options)
    np.testing.assert_allclose(params, want[-1], 1e-5, 1e-6)
    assert update.traces == 1


@pytest.mark.parametrize("maximize", [0.0, 1.0])
def test_all_hyperparameters_may_be_traced(maximize):
    def after(alpha, beta, decay, maximize):
        optimizer = sgd(alpha, beta, weight_decay=decay, maximize=maximize)
        return trajectory(optimizer)[0][-1]

    got = jax.jit(after)(0.1, 0.8, 0.03, maximize)
    np.testing.assert_allclose(got, after(0.1, 0.8, 0.03, bool(maximize)), 1e-5, 1e-6)
    slope = jax.grad(lambda decay: after(0.1, 0.8, decay, maximize).sum())(0.03)
    low, high = (after(0.1, 0.8, decay, maximize).sum() for decay in (0.025, 0.035))
    np.testing.assert_allclose(slope, (high - low) / 0.01, 0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -0.1}, "sgd: learning_rate must lie in [0, inf), got -0.1."),
        ({"learning_rate": np.nan}, "sgd: learning_rate must lie in [0, inf), got nan"),
        ({"beta": 1.0}, "sgd: beta must lie in [0, 1), got 1.0."),
        ({"dampening": 1.5}, "sgd: dampening must lie in [0, 1], got 1.5."),
        ({"weight_decay": -0.1}, "sgd: weight_decay must lie in [0, inf), got -0.1."),
        ({"weight_decay": np.nan}, "sgd: weight_decay must lie in [0, inf), got nan."),
        ({"weight_decay": jnp.asarray(-2.5)}, "[0, inf), got -2.5. It shrinks the"),
        (
            {"decay": "l2"},
            "sgd: decay must be 'coupled' (PyTorch's), 'decoupled' (Keras's, AdamW's) "
            "or 'independent' (of the learning rate), got 'l2'.",
        ),
        ({"nesterov": 0.5}, "sgd: nesterov must be True or False, got 0.5."),
        ({"maximize": 2}, "sgd: maximize must be True or False, got 2."),
        (
            {"nesterov": True, "dampening": 0.3},
            "sgd: nesterov=True needs dampening=0, got 0.3;",
        ),
        (
            {"beta": None, "nesterov": True},
            "sgd: nesterov=True needs a beta, got None. Pass beta=0.9.",
        ),
        (
            {"beta": None, "dampening": 0.3},
            "sgd: dampening=0.3 needs beta > 0, got None; PyTorch ignores it without ",
        ),
        ({"beta": 0, "dampening": 0.3}, "sgd: dampening=0.3 needs beta > 0, got 0;"),
    ],
)
def test_sgd_refuses_bad_arguments(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sgd(**{"learning_rate": 0.1, "beta": 0.9, **options})


def test_sgd_refuses_a_bad_schedule_at_the_first_update():
    params = jnp.zeros(2)
    for name in ("learning_rate", "beta", "weight_decay"):
        arguments: Any = {"learning_rate": 0.1, name: lambda step: -1.5}
        optimizer = sgd(**arguments)
        with pytest.raises(ValueError, match=f"sgd: {name} must lie in .* got -1.5"):
            optimizer.update(params, optimizer.init(params), params)


def test_sgd_needs_the_parameters_to_decay_them():
    optimizer = sgd(0.1, 0.9, weight_decay=0.01)
    message = "sgd with weight_decay: update needs the parameters, got params=None."
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))


def test_sgd_refuses_the_state_of_another_transformation():
    with pytest.raises(TypeError, match="must be a MomentumState, got dict"):
        sgd(0.1).update(jnp.ones(2), {"step": 0})
    chained: Any = optax.chain(heavy_ball(0.9)).init(jnp.ones(2))
    with pytest.raises(TypeError, match="must be a MomentumState, got tuple"):
        sgd(0.1, 0.9).update(jnp.ones(2), chained)


@pytest.mark.parametrize("beta", [None, 0.9])
def test_sgd_refuses_gradients_that_do_not_fit_its_parameters(beta):
    optimizer = sgd(0.1, beta, weight_decay=0.1)
    params = {"w": jnp.ones((3, 1))}
    state = optimizer.init(params)
    for gradient, error, message in [
        (jnp.ones(3), ValueError, "updates['w'] has shape (3,)"),
        (jnp.ones((3, 1), jnp.int32), TypeError, "updates['w'] is of type int32"),
        (jnp.ones((3, 1), jnp.complex64), TypeError, "an imaginary part would be lost"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            optimizer.update({"w": gradient}, state, params)
    with pytest.raises(TypeError, match=re.escape("updates['w'] is of type int32")):
        plain = sgd(0.1, beta)
        plain.update({"w": jnp.ones((3, 1), jnp.int32)}, plain.init(params))
