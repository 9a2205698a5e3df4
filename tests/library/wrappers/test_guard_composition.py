"""`guard` under jit, vmap and sharding, around and inside other transformations."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from support.guarded import (
    CHAIN,
    GRADIENTS,
    INF,
    NAN,
    PARAMS,
    ZEROS,
    assert_bits_equal,
    counts,
    gradients_at,
    poison,
    run,
)

from optax_momentum import (
    MomentumState,
    ema,
    heavy_ball,
    heavy_ball_coefficients,
    linear_momentum,
)
from optax_momentum._wrappers.accumulate import accumulate
from optax_momentum._wrappers.guard import guard


def test_scan_agrees_with_steps_bit_for_bit():
    transformation: Any = guard(CHAIN, max_norm=6.0)
    kernel = jnp.asarray(GRADIENTS["kernel"]).at[jnp.asarray([3, 7]), 1, 1].set(NAN)
    stacked = {**GRADIENTS, "kernel": kernel}

    def body(state, gradients):
        updates, state = transformation.update(gradients, state, PARAMS)
        return state, updates

    scan = jax.jit(lambda state: jax.lax.scan(body, state, stacked))
    last, updates = scan(transformation.init(PARAMS))
    steps = [jax.tree.map(lambda g, k=k: g[k], stacked) for k in range(10)]
    want, state = run(transformation, steps)
    assert_bits_equal(updates, jax.tree.map(lambda *u: jnp.stack(u), *want))
    assert_bits_equal(last, state)
    assert state.skipped >= 2


def test_a_poisoned_lane_leaves_its_neighbours_bit_equal():
    transformation: Any = guard(heavy_ball(0.83))
    update = jax.jit(jax.vmap(transformation.update))

    def lanes(gradients):
        start = jnp.zeros((3, 5))
        state, emitted = jax.vmap(transformation.init)(start), []
        for g in gradients:
            updates, state = update(g, state)
            emitted.append(updates)
        return jnp.stack(emitted), state

    clean = jnp.asarray(np.random.default_rng(18).normal(size=(6, 3, 5)), jnp.float32)
    want, plain = lanes(clean)
    got, state = lanes(clean.at[2:4, 1, 0].set(INF))
    assert_bits_equal(got[:, ::2], want[:, ::2])
    buffers = [s.inner_state.buffer[::2] for s in (state, plain)]
    assert_bits_equal(*buffers)
    np.testing.assert_array_equal(state.skipped, [0, 2, 0])
    np.testing.assert_array_equal(got[2:4, 1], 0)


def test_the_bound_may_be_traced_without_a_second_compilation():
    traces = []

    @jax.jit
    def skipped(max_norm):
        traces.append(None)
        transformation: Any = guard(ema(0.83), max_norm=max_norm)
        state = transformation.init(jnp.zeros(2))
        return transformation.update(jnp.asarray([3.0, 4.0]), state)[1].skipped

    assert [int(skipped(bound)) for bound in (4.9, 5.1)] == [1, 0]
    assert len(traces) == 1


def test_a_bad_micro_gradient_is_left_out_of_the_mean():
    coefficients = accumulate(heavy_ball_coefficients(0.83), 3)
    good = [gradients_at(step) for step in range(6)]
    bad = poison(good[0], value=INF)
    mixed = [good[0], bad, good[1], good[2], bad, bad, *good[3:]]
    transformation = guard(linear_momentum(coefficients))
    update = jax.jit(transformation.update)
    want, alone = run(transformation, good, update)
    got, state = run(transformation, mixed, update)
    assert_bits_equal([got[k] for k in (0, 2, 3, 6, 7, 8)], want)
    assert_bits_equal(state.inner_state, alone.inner_state)


def test_apply_if_finite_and_multi_steps_let_in_what_guard_keeps_out():
    good, bad = gradients_at(0), poison(gradients_at(0), value=INF)
    gives_in: Any = optax.apply_if_finite(heavy_ball(0.83), max_consecutive_errors=2)
    _, state = run(gives_in, [good, bad, bad, bad, good])
    assert not jnp.isfinite(state.inner_state.buffer["biases"][1]).all()
    _, state = run(guard(heavy_ball(0.83)), [good, bad, bad, bad, good])
    assert jnp.isfinite(state.inner_state.buffer["biases"][1]).all()
    with jax.numpy_dtype_promotion("standard"):  # MultiSteps promotes
        steps: Any = optax.MultiSteps(heavy_ball(0.83), 2)
        _, state = run(steps, [good, bad, good, good, good, good])
    assert jnp.isnan(state.acc_grads["biases"][1]).any()


def test_extra_arguments_reach_inner():
    def update(updates, state, params=None, *, factor, **extra_args):
        return jax.tree.map(lambda u: factor * u, updates), state

    needy: Any = optax.GradientTransformationExtraArgs
    transformation: Any = guard(needy(lambda params: (), update))
    state = transformation.init(jnp.zeros(2))
    updates, _ = transformation.update(jnp.ones(2), state, factor=3.0, value=1.0)
    np.testing.assert_array_equal(updates, 3.0)
    plain: Any = guard(ema(0.5))
    plain.update(jnp.ones(2), plain.init(jnp.ones(2)), value=1.0)  # not for inner


def test_integers_and_random_keys_in_the_state_are_selected_too():
    with jax.numpy_dtype_promotion("standard"):  # add_noise promotes
        noisy: Any = guard(optax.add_noise(0.1, 0.5, key=jax.random.key(3)))
        state = noisy.init(jnp.zeros(2))
        _, after = noisy.update(jnp.asarray([NAN, 1.0]), state)
        assert_keys_equal(after.inner_state.rng_key, state.inner_state.rng_key)
        _, moved = noisy.update(jnp.ones(2), after)
    with pytest.raises(AssertionError):
        assert_keys_equal(moved.inner_state.rng_key, state.inner_state.rng_key)


def assert_keys_equal(got, want):
    assert_bits_equal(jax.random.key_data(got), jax.random.key_data(want))


def test_the_state_keeps_the_dtypes_of_init_where_inner_would_change_them():
    with jax.numpy_dtype_promotion("standard"):  # the buffer of optax.trace promotes
        transformation: Any = guard(optax.trace(0.9))
        state = transformation.init(jnp.ones(2, jnp.bfloat16))
        _, after = transformation.update(jnp.ones(2, jnp.float32), state)
    assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)


def test_sharded_leaves_are_judged_as_one(rows):
    transformation: Any = guard(heavy_ball(0.83), max_norm=50.0)
    whole = transformation.init(jnp.asarray(PARAMS["kernel"]))
    split = transformation.init(jax.device_put(PARAMS["kernel"], rows))
    traces, alone = [], jax.jit(transformation.update)

    @jax.jit
    def update(gradients, state):
        traces.append(None)
        return transformation.update(gradients, state)

    for step, bad in enumerate([0.5, NAN, 0.25, 60.0]):
        gradient = jnp.asarray(gradients_at(step)["kernel"]).at[3, 1].set(bad)
        want, whole = alone(gradient, whole)
        got, split = update(jax.device_put(gradient, rows), split)
        assert_bits_equal(got, want)
        assert split.inner_state.buffer.sharding.is_equivalent_to(rows, 2)
    assert counts(split) == counts(whole) == (2, 2, 1, 1)
    assert len(traces) == 1
    last = jax.device_put(gradients_at(4)["kernel"], rows)
    _, split = transformation.update(last, split)  # not jitted
    assert split.inner_state.buffer.sharding.is_equivalent_to(rows, 2)


@pytest.mark.parametrize("axis_name", [None, "rank"])
def test_ranks_agree_where_an_axis_is_named(axis_name):
    mesh = jax.make_mesh((2,), ("rank",), axis_types=(AxisType.Auto,))
    transformation: Any = guard(ema(0.75), axis_name=axis_name)

    @partial(jax.shard_map, mesh=mesh, in_specs=P("rank"), out_specs=P("rank"))
    def step(gradients):
        gradient = gradients[0]
        state = transformation.init(gradient)
        updates, state = transformation.update(gradient, state)
        return updates[None], state.skipped[None]

    updates, skipped = jax.jit(step)(jnp.asarray([[1.0, 2.0], [1.0, NAN]]))
    other = [0.25, 0.5] if axis_name is None else [0, 0]
    np.testing.assert_array_equal(updates, [other, [0, 0]])
    np.testing.assert_array_equal(skipped, [axis_name is not None, 1])


def test_lanes_are_judged_each_by_itself_also_where_nothing_is_compiled():
    transformation: Any = guard(heavy_ball(0.83))
    gradients = jnp.asarray([[0.25, -1.75], [NAN, 0.9]])
    states = jax.vmap(transformation.init)(jnp.zeros((2, 2)))
    updates, states = jax.vmap(transformation.update)(gradients, states)
    np.testing.assert_array_equal(updates, [[0.25, -1.75], [0, 0]])
    np.testing.assert_array_equal(states.skipped, [0, 1])


def test_a_gradient_of_float0_is_judged_by_the_others():
    transformation: Any = guard(heavy_ball(0.83))
    zero = np.zeros(3, jax.dtypes.float0)
    state = transformation.init({"weight": jnp.zeros(2), "count": None})
    for weight, skipped in (([0.3, -1.7], 0), ([0.3, NAN], 1)):
        gradients = {"weight": jnp.asarray(weight), "count": zero}
        updates, state = transformation.update(gradients, state)
        assert updates["count"].dtype == jax.dtypes.float0
        assert state.skipped == skipped


def test_nothing_is_aliased_so_that_everything_can_be_donated():
    transformation: Any = guard(heavy_ball(0.83), max_norm=9.0)
    state = transformation.init(PARAMS)
    updates, after = transformation.update(gradients_at(0), state)
    arrays = jax.tree.leaves((updates, after, state))
    assert len({array.unsafe_buffer_pointer() for array in arrays}) == len(arrays)


def test_guard_works_inside_masked_and_inject_hyperparams():
    def build(beta, max_norm):
        return guard(ema(beta), max_norm=max_norm)

    with jax.numpy_dtype_promotion("standard"):  # inject_hyperparams promotes
        inject = optax.inject_hyperparams(build, hyperparam_dtype=jnp.float32)
        injected: Any = inject(0.75, 2.0)
        _, state = run(injected, [ZEROS, poison(ZEROS, value=3.0)])
        assert state.inner_state.skipped == 1
    mask = {"kernel": True, "biases": False}
    masked: Any = optax.masked(guard(ema(0.75)), mask)
    emitted, state = run(masked, [poison(gradients_at(0), 0)])  # a bias, not judged
    assert jnp.isnan(emitted[0]["biases"][0]).any()
    assert isinstance(state.inner_state.inner_state, MomentumState)
    assert counts(state.inner_state) == (1, 0, 0, 0)
