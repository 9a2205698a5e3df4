"""Wrappers and readers of methods whose buffer is in a narrow storage."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from support.counting import CountingJit
from support.storages import (
    BETA,
    INT8,
    PARAMS,
    RANDOM,
    assert_close,
    decoded,
    every_storage,
    gradient,
    run,
)

from optax_momentum import (
    accumulate,
    adaptive_restart,
    ema,
    guard,
    heavy_ball,
    heavy_ball_coefficients,
    linear_momentum,
    lookahead_params,
    outer_loop,
    sgd,
    storage,
    testing,
    two_point_nesterov,
)
from optax_momentum.diagnostics import telemetry


@pytest.mark.slow
@every_storage
def test_guard_skips_bit_for_bit_and_detects_an_overflow(encoding):
    guarded = guard(heavy_ball(BETA, storage=encoding))
    _, state = run(guarded, 5)
    poisoned = {**gradient(5), "w": gradient(5)["w"].at[1, 2].set(jnp.nan)}
    updates, after = jax.jit(guarded.update)(poisoned, state)
    testing.expect_same_bits("inner", after.inner_state, state.inner_state)
    assert after.skipped == 1
    assert not any(u.any() for u in jax.tree.leaves(updates))
    huge = jax.tree.map(lambda g: jnp.full_like(g, 3e38), PARAMS)
    state = guarded.init(PARAMS)
    for _ in range(2):
        _, state = jax.jit(guarded.update)(huge, state)
    assert optax.tree.get(state, "skipped") == 1


@every_storage
def test_accumulated_micro_steps_are_close_to_one_step_on_the_mean(encoding):
    coefficients = accumulate(heavy_ball_coefficients(BETA), every_k=3)
    updates, _ = run(linear_momentum(coefficients, storage=encoding))
    exact, _ = run(linear_momentum(coefficients))
    assert_close(updates, exact, 0.08)
    assert not updates["w"][::3].any()


@pytest.mark.slow
@every_storage
def test_optax_wrappers_and_outer_loop_wrap_a_narrow_storage(encoding):
    method = sgd(0.1, BETA, storage=encoding)
    plain = sgd(0.1, BETA)
    wraps = [
        lambda tx: optax.MultiSteps(tx, 2).gradient_transformation(),
        lambda tx: optax.masked(tx, {"w": True, "b": False}),
        lambda tx: outer_loop(sgd(0.1), tx, every_k=2),
        lambda tx: outer_loop(tx, sgd(0.7), every_k=2, reset_inner=True),
        lambda tx: optax.apply_if_finite(tx, 2),
    ]
    for wrap in wraps:
        with jax.numpy_dtype_promotion("standard"):  # for optax.MultiSteps
            updates, state = run(wrap(method))
            exact, _ = run(wrap(plain))
        assert_close(updates, exact, 0.06)
        narrow = {"int8", "bfloat16"} & {str(x.dtype) for x in jax.tree.leaves(state)}
        assert len(narrow) == 1


@every_storage
def test_injected_beta_changes_without_recompiling(encoding):
    inject = optax.inject_hyperparams(ema, hyperparam_dtype=jnp.float32)
    transformation: Any = inject(BETA, storage=encoding)
    state = transformation.init(PARAMS)
    assert set(state.hyperparams) == {"beta"}
    update = CountingJit(lambda state: transformation.update(gradient(0), state))
    _, state = update(state)
    state.hyperparams["beta"] = jnp.asarray(0.5, jnp.float32)
    updates, _ = update(state)
    want = jax.tree.map(lambda g: (0.5 * (1 - BETA) + 0.5) * g, gradient(0))
    assert_close(updates, want, 0.01)
    assert update.traces == 1


@pytest.mark.parametrize("criterion", ["gradient", "speed"])
def test_restart_criterion_reads_the_decoded_velocity(criterion):
    def restarts(encoding):
        transformation = adaptive_restart(heavy_ball(BETA, storage=encoding), criterion)
        state: Any = transformation.init(jnp.zeros((4, 16)))
        for sign in (1, 1, 1, -1, -1, -1):
            gradient = jnp.full((4, 16), sign, jnp.float32)
            _, state = jax.jit(transformation.update)(gradient, state)
        return state.restarts

    assert restarts(INT8) == restarts(None) > 0


@pytest.mark.slow
def test_telemetry_and_lookahead_read_the_decoded_buffer():
    params = jax.tree.map(jnp.ones_like, PARAMS)
    readings = []
    for encoding in (None, INT8):
        transformation = telemetry(sgd(0.1, BETA, storage=encoding))
        state = transformation.init(params)
        for step in range(4):
            _, state = transformation.update(gradient(step), state, params)
        readings.append([optax.tree.get(state, n) for n in ("cosine", "overshoot")])
    np.testing.assert_allclose(readings[1], readings[0], atol=0.01)
    assert np.abs(readings[0]).max() > 0.05
    _, state = run(two_point_nesterov(0.1, BETA, storage=INT8), 4)
    ahead = lookahead_params(params, state, BETA)
    want = jax.tree.map(lambda p, v: p + BETA * v, params, decoded(state))
    assert_close(ahead, want, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("x", None), P(None, "x")])
def test_codes_and_scales_are_sharded_like_the_parameter(kind, spec):
    """Every device has whole blocks, so no step moves codes between devices."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    sharding = NamedSharding(mesh, spec)
    transformation = ema(BETA, storage=storage.int8(seed=3))
    update = jax.jit(transformation.update)
    g = jnp.asarray(RANDOM.normal(size=(64, 256)), jnp.float32)
    _, alone = update(g, transformation.init(jnp.zeros((64, 256))))
    placed = jax.device_put(g, sharding)
    state: Any = transformation.init(jax.device_put(jnp.zeros((64, 256)), sharding))
    _, after = update(placed, state)
    for leaf in (*state.buffer, *after.buffer):
        assert leaf.sharding.is_equivalent_to(sharding, 2)
    testing.expect_same_bits("sharded", after.buffer, alone.buffer)
    text = str(update.lower(placed, state).compile().as_text())
    assert not any(word in text for word in ("all-gather", "all-to-all", "permute"))
    assert storage.value(after.buffer).sharding.is_equivalent_to(sharding, 2)


@pytest.mark.slow
def test_replicated_state_steps_by_device_varying_gradients():
    """Inside `shard_map`, each device takes the step that it would take alone."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    transformation = ema(BETA, storage=INT8)
    g = jnp.asarray(RANDOM.normal(size=(2, 8, 16)), jnp.float32)
    _, state = transformation.update(g[0], transformation.init(g[0]))

    def step(g, state):
        stepped: Any = transformation.update(g[0], state)
        return jax.tree.map(lambda x: x[None], (stepped[0], stepped[1].buffer))

    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P("x"), P()), out_specs=P("x"))
    together = jax.jit(sharded)(g, state)
    for device in range(2):
        alone: Any = jax.jit(transformation.update)(g[device], state)
        want = alone[0], alone[1].buffer
        got = jax.tree.map(lambda x, device=device: x[device], together)
        testing.expect_same_bits("shared state", got, want)


def test_optax_maps_an_encoded_leaf_with_its_partition_spec():
    specs = {"w": P(None, "x"), "b": P("x")}
    method = ema(BETA, storage=INT8)
    placed: Any = optax.tree.map_params(
        method,
        lambda stored, spec: jax.tree.map(
            lambda array: (array.dtype.name, spec), stored
        ),
        method.init(PARAMS),
        specs,
        transform_non_params=lambda scalar: P(),
        is_leaf=storage.is_stored,
    )
    assert placed.step == placed.weight == P()
    for name, spec in specs.items():
        assert placed.buffer[name] == (("int8", spec), ("float32", spec))
