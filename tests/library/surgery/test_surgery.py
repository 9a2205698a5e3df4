"""State surgery: resetting, rescaling and converting the momentum of a run."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.counting import CountingJit

from optax_momentum import (
    change_convention,
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    keras_coefficients,
    linear_momentum,
    rescale_momentum,
    reset_momentum,
)
from optax_momentum.testing import expect_same_bits

PARAMS = {"body": [jnp.ones((2, 3)), jnp.ones(4)], "head": jnp.ones(5)}


def gradients(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.float32(rng.normal(size=p.shape)), PARAMS)


def run(transformation: Any, state: Any = None, seeds: Any = range(5)) -> Any:
    """The updates of every step and the last state."""
    state, emitted = transformation.init(PARAMS) if state is None else state, []
    for seed in seeds:
        updates, state = transformation.update(gradients(seed), state, PARAMS)
        emitted.append(updates)
    return emitted, state


def in_head(path) -> bool:
    return path[0].key == "head"


def assert_close(got, want, tolerance=2e-6):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, tolerance, tolerance)


assert_bits_equal = partial(expect_same_bits, "after surgery")


@pytest.mark.parametrize("transformation", [ema(0.83, debias=True), heavy_ball(0.83)])
def test_a_reset_run_continues_like_a_new_one(transformation):
    _, state = run(transformation)
    again, state = run(transformation, reset_momentum(state), seeds=(7, 8, 9))
    new, _ = run(transformation, seeds=(7, 8, 9))
    assert_bits_equal(again, new)
    assert state.step == 8  # schedules go on


def test_a_reset_clears_nan():
    _, state = run(heavy_ball(0.83))
    poisoned = state._replace(buffer=jax.tree.map(lambda m: m * jnp.nan, state.buffer))
    for where in (None, lambda path: True, True, jnp.asarray(True)):
        buffer = jax.jit(reset_momentum)(poisoned).buffer
        assert_bits_equal(buffer, jax.tree.map(jnp.zeros_like, PARAMS))
        buffer = reset_momentum(poisoned, where).buffer
        assert_bits_equal(buffer, jax.tree.map(jnp.zeros_like, PARAMS))


@pytest.mark.parametrize(
    "where",
    [
        in_head,
        {"body": False, "head": True},
        {"body": [False, False], "head": True},
        {"body": jnp.asarray(False), "head": jnp.asarray(True)},
    ],
)
def test_only_the_selected_leaves_are_reset(where):
    _, state = run(ema(0.83))
    after = reset_momentum(state, where)
    assert_bits_equal(after.buffer["head"], jnp.zeros(5))
    assert_bits_equal(after.buffer["body"], state.buffer["body"])
    assert_bits_equal((after.weight, after.step), (state.weight, state.step))


def test_the_selection_may_be_traced():
    _, state = run(ema(0.83))
    poisoned = state._replace(buffer={**state.buffer, "head": jnp.full(5, jnp.inf)})

    @jax.jit
    def reset(state, head):
        return reset_momentum(state, {"body": False, "head": head})

    assert_bits_equal(reset(poisoned, True).buffer["head"], jnp.zeros(5))
    assert_bits_equal(reset(poisoned, False), poisoned)
    lanes = jax.vmap(reset, in_axes=(None, 0))(state, jnp.asarray([True, False]))
    assert_bits_equal(lanes.buffer["head"][0], jnp.zeros(5))
    assert_bits_equal(lanes.buffer["head"][1], state.buffer["head"])


def test_momentum_is_found_in_chain_partition_masked_and_injected_states():
    with jax.numpy_dtype_promotion("standard"):  # inject_hyperparams promotes
        labels_of: Any = optax.partition(
            {"sum": optax.chain(heavy_ball(0.83), optax.scale(-0.1)), "rest": ema(0.7)},
            {"body": "rest", "head": "sum"},
        )
        inject: Any = optax.inject_hyperparams(keras, hyperparam_dtype=jnp.float32)
        optimizer = optax.chain(optax.clip(9.0), labels_of, inject(0.2, 0.6))
        _, state = run(optimizer)
        after = jax.jit(reset_momentum, static_argnums=1)(state, in_head)
        assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)
        of_chain, of_rest = (
            after[1].inner_states[label].inner_state for label in ("sum", "rest")
        )
        before = state[1].inner_states["rest"].inner_state
        assert_bits_equal(of_chain[0].buffer["head"], jnp.zeros(5))
        assert_bits_equal(of_rest.buffer["body"], before.buffer["body"])
        assert_bits_equal(after[2].inner_state.buffer["head"], jnp.zeros(5))
        assert_bits_equal(after[2].hyperparams, state[2].hyperparams)
        run(optimizer, after, seeds=[6])


def test_a_tree_of_bools_may_cover_masked_leaves():
    optimizer: Any = optax.masked(ema(0.83), {"body": True, "head": False})
    _, state = run(optimizer)
    after = reset_momentum(state, {"body": [False, True], "head": True})
    assert_bits_equal(after.inner_state.buffer["body"][1], jnp.zeros(4))
    kept = after.inner_state.buffer["body"][0]
    assert_bits_equal(kept, state.inner_state.buffer["body"][0])


@pytest.mark.slow
def test_surgery_keeps_shardings(rows):
    params = {"a": jax.device_put(jnp.ones((4, 2)), rows)}
    transformation: Any = ema(0.83)
    _, state = transformation.update(params, transformation.init(params))
    old, new = ema_coefficients(0.83), heavy_ball_coefficients(0.83)
    for operate in (
        reset_momentum,
        lambda state: reset_momentum(state, {"a": jnp.asarray(True)}),
        lambda state: rescale_momentum(state, 0.3),
        lambda state: change_convention(state, old, new),
    ):
        for after in (operate(state), jax.jit(operate)(state)):
            assert after.buffer["a"].sharding.is_equivalent_to(rows, 2)
            assert after.weight.sharding.is_equivalent_to(state.weight.sharding, 0)
            assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)


def test_rescaling_by_the_ratio_of_rates_is_momentum_correction():
    old, new, beta = 0.3, 0.05, 0.83
    _, state = run(keras(old, beta))
    inside, _ = run(keras(new, beta), rescale_momentum(state, new / old), (5, 6, 7))
    _, state = run(heavy_ball(beta))
    outside, _ = run(heavy_ball(beta), state, (5, 6, 7))
    assert_close(inside, jax.tree.map(lambda u: -new * u, outside))


def test_rescaling_all_leaves_keeps_the_debiased_average():
    transformation: Any = ema(0.83, debias=True)
    _, state = run(transformation)
    after = rescale_momentum(state, 0.3)
    average = jax.tree.map(lambda m: m / state.weight, state.buffer)
    assert_close(jax.tree.map(lambda m: m / after.weight, after.buffer), average)
    assert_close(after.weight, 0.3 * state.weight)


@pytest.mark.parametrize("where", [in_head, {"body": False, "head": True}])
def test_rescaling_some_leaves_changes_neither_others_nor_the_weight(where):
    _, state = run(ema(0.83))
    after = rescale_momentum(state, -0.3, where)
    assert_close(after.buffer["head"], -0.3 * state.buffer["head"])
    assert_bits_equal(after.buffer["body"], state.buffer["body"])
    assert_bits_equal(after.weight, state.weight)


def test_the_factor_may_be_traced_and_is_applied_in_float32():
    transformation: Any = ema(0.83)
    state = transformation.init(jnp.ones(3, jnp.bfloat16))
    state = state._replace(buffer=jnp.full(3, 3.0, jnp.bfloat16))
    rescale = CountingJit(lambda state, factor: rescale_momentum(state, factor))
    for factor in (0.9, 0.999):
        got = rescale(state, jnp.asarray(factor, jnp.float32)).buffer
        assert_bits_equal(got, jnp.full(3, 3 * factor, jnp.bfloat16))
    assert rescale.traces == 1
    np.testing.assert_array_equal(rescale_momentum(state, 0.5).buffer, 1.5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ema_coefficients(0.83), heavy_ball_coefficients(0.83)),
        (heavy_ball_coefficients(0.83), ema_coefficients(0.83)),
        (heavy_ball_coefficients(0.83, dampening=0.3), keras_coefficients(0.2, 0.83)),
        (
            keras_coefficients(0.2, 0.83, nesterov=True),
            heavy_ball_coefficients(0.83, nesterov=True),
        ),
    ],
)
def test_a_converted_run_continues_as_if_in_the_new_convention_all_along(old, new):
    def steady(coefficients):  # without the undampened first step
        return linear_momentum(lambda step: coefficients(step + 1))

    _, state = run(steady(old))
    jitted = jax.jit(lambda state: change_convention(state, old, new))(state)
    got, after = run(steady(new), change_convention(state, old, new), seeds=(5, 6))
    want, always = run(steady(new), run(steady(new))[1], seeds=(5, 6))
    assert_close(got, want)
    assert_close(after, always)
    assert_close(jitted, change_convention(state, old, new))


def test_a_converted_heavy_ball_does_not_repeat_its_first_step():
    _, state = run(ema(0.83))
    new = heavy_ball_coefficients(0.83, dampening=0.3)
    state = change_convention(state, ema_coefficients(0.83), new)
    (updates,), _ = run(heavy_ball(0.83, dampening=0.3), state, seeds=[6])
    want = 0.83 * state.buffer["head"] + 0.7 * gradients(6)["head"]
    assert_close(updates["head"], want)


STATE: Any = ema(0.83).init({"body": jnp.ones(3), "head": jnp.ones(5)})


def test_a_state_without_momentum_is_refused():
    state = optax.sgd(0.1, momentum=0.9).init(jnp.ones(3))
    both = ema_coefficients(0.9)
    for call, operate in [
        ("reset_momentum", reset_momentum),
        ("rescale_momentum", lambda state: rescale_momentum(state, 0.5)),
        ("change_convention", lambda state: change_convention(state, both, both)),
    ]:
        message = f"{call}: there is no MomentumState in the state, a tuple. Pass the"
        with pytest.raises(ValueError, match=re.escape(message)):
            operate(state)


def test_a_tree_of_bools_that_does_not_fit_is_refused():
    message = "one bool for each leaf or subtree of the"
    for operate in (reset_momentum, lambda s, w: rescale_momentum(s, 0.5, w)):
        with pytest.raises(ValueError, match=message):
            operate(STATE, {"body": True, "feet": False})


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_factor_that_is_not_finite_is_refused(wrong):
    message = f"rescale_momentum: factor must be finite, got {wrong}. To clear m, use "
    with pytest.raises(ValueError, match=re.escape(message)):
        rescale_momentum(STATE, wrong)
    with pytest.raises(TypeError, match="rescale_momentum: factor must be a number"):
        rescale_momentum(STATE, "0.5")  # pyright: ignore[reportArgumentType]


def test_another_beta_is_refused():
    message = (
        "change_convention: beta must be equal in `old` and `new`, got 0.83 and 0.9"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        change_convention(STATE, ema_coefficients(0.83), heavy_ball_coefficients(0.9))


def test_a_gain_of_zero_is_refused():
    message = "change_convention: the gain of `old` must not be 0, got 0.0."
    with pytest.raises(ValueError, match=re.escape(message)):
        change_convention(STATE, keras_coefficients(0, 0.83), ema_coefficients(0.83))
