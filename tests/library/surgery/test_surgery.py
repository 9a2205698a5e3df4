"""What is done to the momentum of a run: which leaves, wherever they are in a state."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from support.resumed_runs import PARAMS, assert_bits_equal, in_head, run

from optax_momentum import (
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
)
from optax_momentum._surgery.surgery import (
    change_convention,
    rescale_momentum,
    reset_momentum,
)


@pytest.mark.parametrize("transformation", [ema(0.83, debias=True), heavy_ball(0.83)])
def test_a_reset_run_goes_on_as_a_new_one(transformation):
    _, state = run(transformation)
    again, state = run(transformation, reset_momentum(state), seeds=(7, 8, 9))
    new, _ = run(transformation, seeds=(7, 8, 9))
    assert_bits_equal(again, new)
    assert state.step == 8  # schedules go on


def test_a_reset_takes_out_what_is_not_finite():
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
def test_the_leaves_meant_are_reset_and_no_other(where):
    _, state = run(ema(0.83))
    after = reset_momentum(state, where)
    assert_bits_equal(after.buffer["head"], jnp.zeros(5))
    assert_bits_equal(after.buffer["body"], state.buffer["body"])
    assert_bits_equal((after.weight, after.step), (state.weight, state.step))


def test_which_leaves_may_be_traced():
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
            {
                "chain": optax.chain(heavy_ball(0.83), optax.scale(-0.1)),
                "rest": ema(0.7),
            },
            {"body": "rest", "head": "chain"},
        )
        inject: Any = optax.inject_hyperparams(keras, hyperparam_dtype=jnp.float32)
        optimizer = optax.chain(optax.clip(9.0), labels_of, inject(0.2, 0.6))
        _, state = run(optimizer)
        after = jax.jit(reset_momentum, static_argnums=1)(state, in_head)
        assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)
        of_chain, of_rest = (
            after[1].inner_states[label].inner_state for label in ("chain", "rest")
        )
        before = state[1].inner_states["rest"].inner_state
        assert_bits_equal(of_chain[0].buffer["head"], jnp.zeros(5))
        assert_bits_equal(of_rest.buffer["body"], before.buffer["body"])
        assert_bits_equal(after[2].inner_state.buffer["head"], jnp.zeros(5))
        assert_bits_equal(after[2].hyperparams, state[2].hyperparams)
        run(optimizer, after, seeds=[6])


def test_masked_leaves_need_no_place_in_a_tree_of_bools():
    optimizer: Any = optax.masked(ema(0.83), {"body": True, "head": False})
    _, state = run(optimizer)
    after = reset_momentum(state, {"body": [False, True], "head": True})
    assert_bits_equal(after.inner_state.buffer["body"][1], jnp.zeros(4))
    kept = after.inner_state.buffer["body"][0]
    assert_bits_equal(kept, state.inner_state.buffer["body"][0])


def test_shardings_stay(rows):
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
