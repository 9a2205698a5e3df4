"""A bad gradient never enters: the guarded run is the run without it."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.guarded import (
    CHAIN,
    INF,
    NAN,
    PARAMS,
    ZEROS,
    assert_bits_equal,
    counts,
    falling_rate,
    gradients_at,
    poison,
    run,
)

from optax_momentum import ema, heavy_ball, keras
from optax_momentum._wrappers.guard import guard

METHODS: dict[str, Any] = {
    "ema, debiased": ema(0.83, debias=True),
    "keras": keras(falling_rate, 0.83),
    "chain": CHAIN,
}
every_method = pytest.mark.parametrize("inner", METHODS.values(), ids=METHODS)


@every_method
def test_alternating_good_and_bad_is_the_run_on_the_good_alone(inner):
    good = [gradients_at(step) for step in range(6)]
    bad = [
        poison(g, k % 3, value)
        for k, (g, value) in enumerate(zip(good, 2 * [NAN, INF, -INF], strict=True))
    ]
    mixed = [g for pair in zip(good, bad, strict=True) for g in pair]
    transformation = guard(inner)
    update = jax.jit(transformation.update)
    want, alone = run(transformation, good, update)
    got, state = run(transformation, mixed, update)
    assert_bits_equal(got[::2], want)
    assert_bits_equal(got[1::2], [ZEROS] * 6)
    assert_bits_equal(state.inner_state, alone.inner_state)
    assert counts(state) == (6, 6, 1, 1)
    plain, _ = run(inner, good)  # compiled apart: to the rounding of a product
    for a, b in zip(jax.tree.leaves(got[::2]), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, 1e-6, 1e-6)


@every_method
def test_one_bad_leaf_stops_all_leaves_counters_and_schedules(inner):
    transformation = guard(inner)
    update = jax.jit(transformation.update)
    for step in (0, 4):
        good = [gradients_at(k) for k in range(step)]
        _, before = run(transformation, good, update)
        for leaf in range(3):
            bad = poison(gradients_at(step), leaf)
            (*_, last), after = run(transformation, [*good, bad], update)
            assert_bits_equal(last, ZEROS)
            assert_bits_equal(after.inner_state, before.inner_state)
            assert counts(after) == (step, 1, 1, 1)


def test_a_run_of_nothing_but_nan_never_moves():
    transformation: Any = guard(heavy_ball(0.83))
    emitted, state = run(transformation, [poison(gradients_at(k)) for k in range(9)])
    assert_bits_equal(emitted, [ZEROS] * 9)
    assert_bits_equal(state.inner_state, transformation.init(PARAMS).inner_state)
    assert counts(state) == (0, 9, 9, 9)


def test_counts_tell_the_current_and_the_longest_run():
    good, bad = gradients_at(0), poison(gradients_at(0))
    _, state = run(guard(ema(0.83)), [good, bad, bad, bad, good, good, bad, bad])
    assert counts(state) == (3, 5, 2, 3)
    assert optax.tree.get(state, "consecutive_skips") == 2


def test_an_overflow_made_inside_is_skipped_though_all_gradients_are_finite():
    transformation = guard(heavy_ball(0.9))
    large = jax.tree.map(lambda p: jnp.full_like(p, 2e38), PARAMS)
    emitted, state = run(transformation, [large, large, gradients_at(0)])
    assert_bits_equal(emitted[1], ZEROS)
    assert counts(state) == (2, 1, 0, 1)
    assert all(jnp.isfinite(u).all() for u in jax.tree.leaves(emitted[2]))


def test_an_overflow_of_a_narrow_buffer_is_skipped_though_the_update_is_finite():
    transformation: Any = guard(heavy_ball(0.9))
    state = transformation.init(jnp.zeros(3, jnp.float16))
    gradient = jnp.full(3, 4e4)  # the buffer ends at 65504, the float32 update does not
    for accepted in (1, 1, 1):
        updates, state = transformation.update(gradient, state)
        assert counts(state)[0] == accepted
        assert jnp.isfinite(state.inner_state.buffer).all()
    np.testing.assert_array_equal(updates, 0)


def test_a_state_that_starts_infinite_may_become_finite_or_stay():
    def init(params):
        return {"best": jnp.asarray(INF), "other": jnp.asarray(INF)}

    def update(updates, state, params=None):
        best = jnp.minimum(state["best"], jnp.sum(updates))
        return updates, {"best": best, "other": state["other"]}

    transformation: Any = guard(optax.GradientTransformation(init, update))
    _, state = transformation.update(jnp.ones(2), transformation.init(jnp.ones(2)))
    assert counts(state) == (1, 0, 0, 0)
    assert state.inner_state["best"] == 2.0


def test_a_spike_is_skipped_and_what_lies_at_the_bound_is_not():
    transformation: Any = guard(ema(0.83), max_norm=5.0)
    state = transformation.init({"a": jnp.zeros(()), "b": jnp.zeros(1)})
    for a, b, accepted in [(3.0, 4.0, 1), (3.0, 4.01, 1), (0.0, 6.0, 1), (1.0, 1.0, 2)]:
        gradients = {"a": jnp.asarray(a), "b": jnp.asarray([b])}
        _, state = transformation.update(gradients, state)
        assert counts(state)[0] == accepted


def test_the_norm_of_float16_and_complex_gradients_does_not_overflow():
    transformation: Any = guard(ema(0.83), max_norm=500.1)
    params = {"a": jnp.zeros(1, jnp.float16), "b": jnp.zeros(1, jnp.complex64)}
    state = transformation.init(params)
    gradients = {
        "a": jnp.asarray([300.0], jnp.float16),  # whose square is no float16
        "b": jnp.asarray([400j], jnp.complex64),
    }
    _, state = transformation.update(gradients, state)
    assert counts(state) == (1, 0, 0, 0)
    _, state = transformation.update({**gradients, "b": gradients["b"] + 100}, state)
    assert counts(state) == (1, 1, 1, 1)


def test_a_schedule_of_the_bound_counts_accepted_steps():
    bounds = jnp.asarray([4.0, 2.0, 1.0])
    transformation: Any = guard(ema(0.83), max_norm=lambda step: bounds[step])
    state, taken = transformation.init(jnp.zeros(())), []
    for gradient in (5.0, 3.0, 3.0, 1.5, 1.5, 0.5):
        _, state = transformation.update(jnp.asarray(gradient), state)
        taken.append(counts(state)[0])
    assert taken == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("absent", [None, optax.MaskedNode()])
def test_absent_leaves_pass_and_are_not_judged(absent):
    transformation: Any = guard(ema(0.83))
    state = transformation.init(PARAMS)
    gradients = {"kernel": absent, "biases": gradients_at(0)["biases"]}
    updates, state = transformation.update(gradients, state)
    assert updates["kernel"] == absent
    assert counts(state) == (1, 0, 0, 0)
    updates, state = transformation.update(poison(gradients, 0), state)
    assert updates["kernel"] == absent
    assert counts(state) == (1, 1, 1, 1)


@pytest.mark.parametrize("tree", [(), {}, None, {"a": None}])
def test_an_empty_tree_is_accepted(tree):
    transformation: Any = guard(ema(0.83), max_norm=1.0)
    updates, state = transformation.update(tree, transformation.init(tree))
    assert updates == tree
    assert counts(state) == (1, 0, 0, 0)


@pytest.mark.parametrize("wrong", [0, -1.5, NAN, np.float32(-2.5)])
def test_a_bound_out_of_range_is_refused(wrong):
    message = f"guard: max_norm must lie in (0, inf], got {wrong!s}. It is the largest"
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        guard(ema(0.83), max_norm=wrong)
    assert "None accepts every finite one." in str(raised.value)
    late: Any = guard(ema(0.83), max_norm=lambda step: wrong)
    with pytest.raises(ValueError, match=re.escape(message)):
        late.update(jnp.ones(2), late.init(jnp.ones(2)))


def test_a_bound_that_is_no_scalar_is_refused():
    build: Any = partial(guard, ema(0.83))
    with pytest.raises(TypeError, match="guard: max_norm must be a number"):
        build(max_norm="5")
    with pytest.raises(ValueError, match="guard: max_norm must be a scalar"):
        build(max_norm=np.ones(2))


def test_a_state_of_another_type_is_refused():
    transformation: Any = guard(ema(0.83))
    state = transformation.init(jnp.ones(2)).inner_state
    with pytest.raises(TypeError, match="the state must be a GuardState, got Moment"):
        transformation.update(jnp.ones(2), state)
