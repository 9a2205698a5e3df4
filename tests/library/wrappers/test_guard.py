"""`guard`: a bad gradient leaves no trace, alone and inside other transformations."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from support.counting import CountingJit

from optax_momentum import (
    GuardState,
    MomentumState,
    accumulate,
    ema,
    guard,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    linear_momentum,
)
from optax_momentum.testing import expect_same_bits

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(17)
PARAMS = {"kernel": jnp.ones((4, 3)), "biases": [jnp.ones(5), jnp.ones(())]}
GRADIENTS = jax.tree.map(lambda p: jnp.float32(RNG.normal(size=(10, *p.shape))), PARAMS)
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def gradients_at(step) -> Any:
    return jax.tree.map(lambda g: g[step], GRADIENTS)


def poison(gradients, leaf=1, value: float = NAN):
    """The same gradients with one element of one leaf replaced."""
    leaves, tree = jax.tree.flatten(gradients)
    leaves[leaf] = leaves[leaf].ravel().at[-1].set(value).reshape(leaves[leaf].shape)
    return tree.unflatten(leaves)


def run(transformation: Any, sequence, update=None) -> Any:
    """The updates of every step and the last state, jitted."""
    update = jax.jit(transformation.update) if update is None else update
    state, emitted = transformation.init(PARAMS), []
    for gradients in sequence:
        updates, state = update(gradients, state, PARAMS)
        emitted.append(updates)
    return emitted, state


def counts(state: GuardState) -> tuple[int, ...]:
    names = ("accepted", "skipped", "consecutive_skips", "longest_skips")
    return tuple(int(getattr(state, name)) for name in names)


assert_bits_equal = partial(expect_same_bits, "guarded")


def falling_rate(step):
    return 0.3 / (1 + step.astype(jnp.float32))


CHAIN = optax.chain(
    optax.clip_by_global_norm(4.0),
    heavy_ball(0.83, dampening=0.3),
    optax.scale_by_schedule(falling_rate),
)
METHODS: dict[str, Any] = {
    "ema, debiased": ema(0.83, debias=True),
    "keras": keras(falling_rate, 0.83),
    "chain": CHAIN,
}
every_method = pytest.mark.parametrize("inner", METHODS.values(), ids=METHODS)


@every_method
def test_bad_gradients_between_good_ones_leave_no_trace(inner):
    good = [gradients_at(step) for step in range(6)]
    values = 2 * [NAN, INF, -INF]
    bad = [poison(g, k % 3, values[k]) for k, g in enumerate(good)]
    mixed = [g for pair in zip(good, bad, strict=True) for g in pair]
    transformation = guard(inner)
    update = jax.jit(transformation.update)
    want, alone = run(transformation, good, update)
    got, state = run(transformation, mixed, update)
    assert_bits_equal(got[::2], want)
    assert_bits_equal(got[1::2], [ZEROS] * 6)
    assert_bits_equal(state.inner_state, alone.inner_state)
    assert counts(state) == (6, 6, 1, 1)
    plain, _ = run(inner, good)  # another program, which may round a product otherwise
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


def test_a_run_of_only_nan_never_moves():
    transformation: Any = guard(heavy_ball(0.83))
    emitted, state = run(transformation, [poison(gradients_at(k)) for k in range(9)])
    assert_bits_equal(emitted, [ZEROS] * 9)
    assert_bits_equal(state.inner_state, transformation.init(PARAMS).inner_state)
    assert counts(state) == (0, 9, 9, 9)


def test_guard_counts_current_and_longest_runs_of_skips():
    good, bad = gradients_at(0), poison(gradients_at(0))
    _, state = run(guard(ema(0.83)), [good, bad, bad, bad, good, good, bad, bad])
    assert counts(state) == (3, 5, 2, 3)
    assert optax.tree.get(state, "consecutive_skips") == 2


def test_an_overflow_inside_is_skipped_although_gradients_are_finite():
    transformation = guard(heavy_ball(0.9))
    large = jax.tree.map(lambda p: jnp.full_like(p, 2e38), PARAMS)
    emitted, state = run(transformation, [large, large, gradients_at(0)])
    assert_bits_equal(emitted[1], ZEROS)
    assert counts(state) == (2, 1, 0, 1)
    assert all(jnp.isfinite(u).all() for u in jax.tree.leaves(emitted[2]))


def test_a_buffer_overflow_is_skipped_although_the_update_is_finite():
    transformation: Any = guard(heavy_ball(0.9))
    state = transformation.init(jnp.zeros(3, jnp.float16))
    gradient = jnp.full(3, 4e4)  # two of these overflow float16, not float32
    for accepted in (1, 1, 1):
        updates, state = transformation.update(gradient, state)
        assert counts(state)[0] == accepted
        assert jnp.isfinite(state.inner_state.buffer).all()
    np.testing.assert_array_equal(updates, 0)


def test_a_state_may_start_infinite_and_become_finite_or_not():
    def init(params):
        return {"best": jnp.asarray(INF), "other": jnp.asarray(INF)}

    def update(updates, state, params=None):
        best = jnp.minimum(state["best"], jnp.sum(updates))
        return updates, {"best": best, "other": state["other"]}

    transformation: Any = guard(optax.GradientTransformation(init, update))
    _, state = transformation.update(jnp.ones(2), transformation.init(jnp.ones(2)))
    assert counts(state) == (1, 0, 0, 0)
    assert state.inner_state["best"] == 2.0


def test_a_norm_above_the_bound_is_skipped_and_one_at_the_bound_is_not():
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
        "a": jnp.asarray([300.0], jnp.float16),  # its square overflows float16
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
def test_absent_leaves_pass_through_and_are_not_checked(absent):
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


def test_a_bound_that_is_not_a_scalar_is_refused():
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


def test_an_inner_state_of_another_structure_is_refused():
    guarded = guard(optax.chain(heavy_ball(0.9), optax.scale(0.1)))
    state: Any = guarded.init(jnp.ones(2))
    restored = state._replace(inner_state=list(state.inner_state))
    message = "guard: inner_state must have the structure that init gives it. Pass"
    with pytest.raises(TypeError, match=re.escape(message)) as raised:
        guarded.update(jnp.ones(2), restored)
    assert "  got:      PyTreeDef([CustomNode(" in str(raised.value)


def test_scan_gives_the_bits_of_single_steps():
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


def test_a_poisoned_lane_changes_no_bit_of_its_neighbors():
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
    @CountingJit
    def skipped(max_norm):
        transformation: Any = guard(ema(0.83), max_norm=max_norm)
        state = transformation.init(jnp.zeros(2))
        return transformation.update(jnp.asarray([3.0, 4.0]), state)[1].skipped

    assert [int(skipped(bound)) for bound in (4.9, 5.1)] == [1, 0]
    assert skipped.traces == 1


def test_a_bad_micro_gradient_does_not_enter_the_mean():
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


def test_apply_if_finite_and_multi_steps_accept_what_guard_skips():
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
    plain.update(jnp.ones(2), plain.init(jnp.ones(2)), value=1.0)  # inner takes none


def test_random_keys_in_the_state_are_restored_too():
    with jax.numpy_dtype_promotion("standard"):  # add_noise promotes
        noisy: Any = guard(optax.add_noise(0.1, 0.5, key=jax.random.key(3)))
        state = noisy.init(jnp.zeros(2))
        _, after = noisy.update(jnp.asarray([NAN, 1.0]), state)
        _, moved = noisy.update(jnp.ones(2), after)
    keys = [jax.random.key_data(s.inner_state.rng_key) for s in (state, after, moved)]
    assert_bits_equal(keys[1], keys[0])
    assert (keys[2] != keys[0]).any()


def test_state_keeps_its_dtypes_even_if_inner_changes_them():
    with jax.numpy_dtype_promotion("standard"):  # the buffer of optax.trace promotes
        transformation: Any = guard(optax.trace(0.9))
        state = transformation.init(jnp.ones(2, jnp.bfloat16))
        _, after = transformation.update(jnp.ones(2, jnp.float32), state)
    assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)


@pytest.mark.slow
def test_sharded_leaves_are_checked_as_a_whole(rows):
    transformation: Any = guard(heavy_ball(0.83), max_norm=50.0)
    whole = transformation.init(jnp.asarray(PARAMS["kernel"]))
    split = transformation.init(jax.device_put(PARAMS["kernel"], rows))
    alone = jax.jit(transformation.update)
    update = CountingJit(transformation.update)
    for step, bad in enumerate([0.5, NAN, 0.25, 60.0]):
        gradient = jnp.asarray(gradients_at(step)["kernel"]).at[3, 1].set(bad)
        want, whole = alone(gradient, whole)
        got, split = update(jax.device_put(gradient, rows), split)
        assert_bits_equal(got, want)
        assert split.inner_state.buffer.sharding.is_equivalent_to(rows, 2)
    assert counts(split) == counts(whole) == (2, 2, 1, 1)
    assert update.traces == 1
    last = jax.device_put(gradients_at(4)["kernel"], rows)
    _, split = transformation.update(last, split)  # not jitted
    assert split.inner_state.buffer.sharding.is_equivalent_to(rows, 2)


@pytest.mark.parametrize("axis_name", [None, "rank"])
def test_devices_agree_if_an_axis_is_named(axis_name):
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


def test_lanes_are_checked_independently_without_jit():
    transformation: Any = guard(heavy_ball(0.83))
    gradients = jnp.asarray([[0.25, -1.75], [NAN, 0.9]])
    states = jax.vmap(transformation.init)(jnp.zeros((2, 2)))
    updates, states = jax.vmap(transformation.update)(gradients, states)
    np.testing.assert_array_equal(updates, [[0.25, -1.75], [0, 0]])
    np.testing.assert_array_equal(states.skipped, [0, 1])


def test_a_gradient_of_float0_is_not_checked():
    transformation: Any = guard(heavy_ball(0.83))
    zero = np.zeros(3, jax.dtypes.float0)
    state = transformation.init({"weight": jnp.zeros(2), "count": None})
    for weight, skipped in (([0.3, -1.7], 0), ([0.3, NAN], 1)):
        gradients = {"weight": jnp.asarray(weight), "count": zero}
        updates, state = transformation.update(gradients, state)
        assert updates["count"].dtype == jax.dtypes.float0
        assert state.skipped == skipped


def test_parameters_and_state_can_be_donated():
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
    emitted, state = run(masked, [poison(gradients_at(0), 0)])  # a bias, not checked
    assert jnp.isnan(emitted[0]["biases"][0]).any()
    assert isinstance(state.inner_state.inner_state, MomentumState)
    assert counts(state.inner_state) == (1, 0, 0, 0)
