"""A divided state yields the same bits as a whole one, on any number of devices."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from support.methods import METHODS
from support.storages import BETA, BFLOAT16, INT8, RANDOM

from optax_momentum import (
    ema,
    guard,
    heavy_ball,
    outer_loop,
    parameter_ema,
    sgd,
    sharded,
    sharding_plan,
    testing,
    two_point_nesterov,
)

SHAPES = {"kernel": (3, 8, 24), "odd": (5, 7)}
PARAMS: Any = {k: jnp.asarray(RANDOM.normal(size=s), float) for k, s in SHAPES.items()}
GRADIENTS = [jax.tree.map(lambda p, i=i: jnp.sin(9 * p + i), PARAMS) for i in (1, 2)]
AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
SLICES = {"kernel": P(None, "data"), "odd": P()}

every_storage = pytest.mark.parametrize(
    "storage", [None, INT8, BFLOAT16], ids=["plain", "int8", "bf16"]
)


def mesh_of(kind=AUTO, other=None) -> Any:
    """A mesh of two devices along `data`, optionally with an axis of another type."""
    if other is None:
        return jax.make_mesh((2,), ("data",), axis_types=(kind,))
    return jax.make_mesh((2, 1), ("data", "model"), axis_types=(kind, other))


def replicated(tree, mesh=None) -> Any:
    return jax.device_put(tree, NamedSharding(mesh or mesh_of(), P()))


def divided(inner, mesh=None) -> Any:
    plan = sharding_plan(inner, PARAMS, mesh or mesh_of(), "data", min_size=1)
    return sharded(inner, plan), plan


def steps(transformation, params=PARAMS, gradients=GRADIENTS, **extra_args) -> Any:
    """Returns the updates of all steps and the last state."""
    update = jax.jit(partial(transformation.update, **extra_args))
    state, emitted = transformation.init(params), []
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        emitted.append(updates)
    return emitted, state


def expect_placed(tree, shardings) -> None:
    def check(x, sharding):
        assert x.sharding.is_equivalent_to(sharding, x.ndim)

    jax.tree.map(check, tree, shardings)


@pytest.mark.slow
@every_storage
@pytest.mark.parametrize("name", METHODS)
def test_sharded_changes_no_bit_of_any_method_in_any_storage(name, storage):
    inner: Any = METHODS[name].build(BETA, storage=storage)
    transformation, plan = divided(inner)
    assert plan.slices == SLICES
    want = steps(inner)
    got = steps(transformation, replicated(PARAMS), replicated(GRADIENTS))
    testing.expect_same_bits(name, got, want)
    expect_placed(got[1], plan.shardings)
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(got[0]))


def clipped(inner) -> Any:
    return guard(optax.chain(optax.clip_by_global_norm(2.0), inner), max_norm=40.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "inner",
    [
        clipped(sgd(0.1, BETA, weight_decay=0.3, storage=INT8)),
        sgd(0.1, BETA, weight_decay=0.3, decay="independent"),
        optax.chain(sgd(0.1, BETA), parameter_ema(0.7)),
        outer_loop(sgd(0.1, BETA), sgd(0.7, 0.9, nesterov=True), 2, reset_inner=True),
        optax.masked(heavy_ball(BETA), {"kernel": True, "odd": False}),
        optax.inject_hyperparams(sgd, hyperparam_dtype=jnp.float32)(0.1, BETA),
        optax.adam(0.1),
    ],
    ids=["guard", "decay", "average", "outer", "masked", "injected", "adam"],
)
def test_wrapped_and_foreign_optimizers_can_be_sharded(inner):
    transformation, plan = divided(inner)
    poisoned = {**GRADIENTS[0], "odd": GRADIENTS[0]["odd"].at[1, 2].set(jnp.nan)}
    gradients = [*GRADIENTS, poisoned, GRADIENTS[0]]
    with jax.numpy_dtype_promotion("standard"):  # Optax's transformations promote
        want = steps(inner, gradients=gradients)
        got = steps(transformation, replicated(PARAMS), replicated(gradients))
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        # Norms are summed in another order.
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)
    expect_placed(got[1], plan.shardings)
    if hasattr(got[1], "skipped"):
        assert (got[1].accepted, got[1].skipped) == (3, 1)


@pytest.mark.slow
@pytest.mark.parametrize("storage", [None, INT8], ids=["plain", "int8"])
def test_update_moves_any_state_to_its_planned_placement(storage):
    """A state made inside the step, on no mesh, or replicated on all devices."""
    inner = ema(BETA, storage=storage)
    transformation, plan = divided(inner)
    want = jax.jit(inner.update)(GRADIENTS[0], inner.init(PARAMS))

    def first(gradient):
        return transformation.update(gradient, transformation.init(gradient))

    update, unplaced = jax.jit(transformation.update), inner.init(PARAMS)
    for got in (
        jax.jit(first)(GRADIENTS[0]),
        update(replicated(GRADIENTS[0]), unplaced),
        update(replicated(GRADIENTS[0]), replicated(unplaced)),
    ):
        testing.expect_same_bits("first step", got, want)
        expect_placed(got[1], plan.shardings)
    lanes = jax.tree.map(lambda *g: jnp.stack(g), *GRADIENTS)
    got = jax.jit(jax.vmap(first))(lanes)
    testing.expect_same_bits("lane", jax.tree.map(lambda x: x[0], got), want)


def test_guard_may_wrap_a_sharded_optimizer():
    transformation, plan = divided(heavy_ball(BETA, storage=INT8))
    poisoned = {**GRADIENTS[0], "odd": GRADIENTS[0]["odd"].at[1, 2].set(jnp.nan)}
    gradients = [GRADIENTS[0], poisoned, GRADIENTS[1]]
    want = steps(guard(heavy_ball(BETA, storage=INT8)), gradients=gradients)
    got = steps(guard(transformation), replicated(PARAMS), replicated(gradients))
    testing.expect_same_bits("guarded", got, want)
    expect_placed(got[1].inner_state, plan.shardings)
    assert got[1].skipped == 1


def test_absent_gradients_and_two_point_nesterov_work_as_undivided():
    transformation, plan = divided(heavy_ball(BETA, storage=INT8))
    gradients = [GRADIENTS[0], {**GRADIENTS[1], "kernel": None}]
    got = steps(transformation, replicated(PARAMS), replicated(gradients))
    want = steps(heavy_ball(BETA, storage=INT8), gradients=gradients)
    testing.expect_same_bits("absent", got, want)
    expect_placed(got[1], plan.shardings)
    transformation, plan = divided(two_point_nesterov(0.1, BETA))
    at = {"grad_fn": jax.grad(lambda p: sum(jnp.sum(x**2) for x in p.values()) / 3)}
    got = steps(transformation, replicated(PARAMS), [None, None], **at)
    want = steps(two_point_nesterov(0.1, BETA), gradients=[None, None], **at)
    testing.expect_same_bits("two points", got, want)
    expect_placed(got[1], plan.shardings)


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "jit"), [(None, lambda f: f), (INT8, jax.jit)])
@pytest.mark.parametrize(
    "kinds",
    [(EXPLICIT,), (EXPLICIT, AUTO), (AUTO, EXPLICIT)],
    ids=["all", "data", "another"],
)
def test_mesh_axes_may_be_explicit(storage, jit, kinds):
    inner, mesh = ema(BETA, storage=storage), mesh_of(*kinds)
    transformation, plan = divided(inner, mesh)
    params, gradient = replicated((PARAMS, GRADIENTS[0]), mesh)
    with jax.set_mesh(mesh):
        state = jit(transformation.init)(params)
        got = jit(transformation.update)(gradient, state)
    want = jax.jit(inner.update)(GRADIENTS[0], inner.init(PARAMS))
    testing.expect_same_bits("explicit", got, want)
    expect_placed(got[1], plan.shardings)
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(got[0]))


@every_storage
def test_each_device_holds_the_bytes_of_the_plan(storage):
    inner = sgd(0.1, BETA, storage=storage)
    transformation, plan = divided(inner)
    _, state = steps(transformation, replicated(PARAMS), replicated(GRADIENTS))
    for made in (transformation.init(PARAMS), state):
        for device in jax.devices()[:2]:
            nbytes = [
                sum(s.data.nbytes for s in x.addressable_shards if s.device == device)
                for x in jax.tree.leaves(made)
            ]
            assert nbytes == [shard.nbytes_per_device for shard in plan.shards]
    whole = sum(x.nbytes for x in jax.tree.leaves(inner.init(PARAMS)))
    assert sum(shard.nbytes for shard in plan.shards) == whole


def test_a_state_moves_to_another_number_of_devices_and_back(tmp_path):
    """By `device_put` and by Orbax, in the middle of a run."""
    import orbax.checkpoint as ocp

    inner = sgd(0.1, BETA, storage=INT8)
    one = jax.make_mesh((1,), ("data",), axis_types=(AUTO,))
    on_two, two = divided(inner)
    on_one, alone = divided(inner, one)
    _, state = steps(on_two, replicated(PARAMS), replicated(GRADIENTS))
    want = steps(inner, gradients=GRADIENTS + GRADIENTS)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "saved", alone.state)
    moved = jax.device_put(state, alone.shardings)
    testing.expect_same_bits("restored", restored, moved)
    expect_placed(restored, alone.shardings)
    _, moved = jax.jit(on_one.update)(GRADIENTS[0], restored, PARAMS)
    back = jax.device_put(moved, two.shardings)
    gradient, params = replicated((GRADIENTS[1], PARAMS))
    _, got = jax.jit(on_two.update)(gradient, back, params)
    testing.expect_same_bits("moved", got, want[1])
    expect_placed(got, two.shardings)


@pytest.fixture(scope="module")
def eight_devices() -> dict[str, Any]:
    """The results of a program that has eight devices."""
    program = [sys.executable, Path(__file__).parents[2] / "support/eight_devices.py"]
    ran = subprocess.run(program, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_run_moves_from_one_device_to_two_four_and_eight(eight_devices):
    kernel, whole = 3 * 16 * 64, 4 + 4  # step and weight
    sizes = [(4 * (kernel + 64), 4 * 99), (kernel + 4 * 48, 64 + 4 + 99 + 4 * 2)]
    for run, (divided, odd) in zip(eight_devices["moved_runs"], sizes, strict=True):
        assert [step["devices"] for step in run] == [1, 2, 4, 8, 2]
        for step in run:
            assert step["same_updates"] and step["same_state"]
            count = step["devices"]
            nbytes = 2 * (divided // count + odd + whole)  # two betas other than 0
            assert step["bytes"] == [nbytes] * count == [step["planned"]] * count
        names = {path.split("'")[1] for path in run[3]["divided"]}
        assert names == ({"kernel", "bias"} if odd == 4 * 99 else {"kernel"})


def test_a_state_is_divided_over_one_of_two_mesh_axes(eight_devices):
    run = eight_devices["two_axes"]
    assert run["error"] < 1e-6 < 1e-2 < run["change"]
    assert run["bytes"] == [4 * 16 * 64 // 4] * 8


def test_scales_stay_whole_where_an_axis_has_fewer_blocks_than_devices(eight_devices):
    everything = ("same_updates", "same_state", "codes", "scales")
    for run in eight_devices["few_blocks"]:
        assert run == dict.fromkeys(everything, True)
