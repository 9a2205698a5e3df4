"""`sharding_plan`: the divided axes, whole blocks, and bytes per device."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from optax_momentum import (
    aggmo,
    ema,
    heavy_ball,
    lawa,
    outer_loop,
    parameter_ema,
    sgd,
    sharding_plan,
    storage,
)

INT8 = storage.int8(64, min_size=1)


def on(devices) -> Any:
    return AbstractMesh((devices, 2), ("data", "model"))


def shape(*lengths, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(lengths, dtype)


def planned(inner, params, devices, **options) -> Any:
    return sharding_plan(inner, params, on(devices), "data", **options)


def specs(plan) -> Any:
    """The PartitionSpecs of the state by path."""
    leaves = jax.tree.leaves_with_path(plan.state)
    return {jax.tree_util.keystr(path): leaf.sharding.spec for path, leaf in leaves}


@pytest.mark.parametrize(
    ("lengths", "devices", "axis"),
    [
        ((8192,), 8, 0),
        ((3, 3, 64, 128), 8, 2),
        ((3, 3, 64, 128), 3, 0),
        ((100, 100), 4, 0),
        ((6, 1000), 4, 1),
        ((99, 99), 2, None),
        ((64, 63), 2, None),  # fewer than 4,096 elements
        ((64, 64), 2, 0),
    ],
)
def test_the_first_axis_divisible_by_the_devices_is_divided(lengths, devices, axis):
    plan = planned(ema(0.9), shape(*lengths), devices)
    want = P() if axis is None else P(*[None] * axis, "data")
    assert plan.slices == plan.state.buffer.sharding.spec == want
    assert [shard.axis for shard in plan.shards] == [None, axis, None]


@pytest.mark.parametrize(
    ("lengths", "devices", "axis"),
    [
        ((64, 256), 8, 0),
        ((4096, 8), 8, 0),  # blocks of [8, 8]
        ((4096, 8), 1024, None),  # half a block each
        ((4096, 8), 512, 0),
        ((5, 5, 32, 32), 16, 2),  # blocks of [1, 1, 2, 32]
        ((5, 5, 32, 32), 32, None),
        ((3, 512), 8, 1),
        ((3, 512), 16, None),
        ((300,), 5, None),  # five blocks, but the last one is short
        ((320,), 5, 0),
        ((7, 300), 1, 0),  # one device has all
    ],
)
def test_no_block_is_cut(lengths, devices, axis):
    plan = planned(ema(0.9, storage=INT8), shape(*lengths), devices, min_size=1)
    spec = P() if axis is None else P(*[None] * axis, "data")
    assert plan.slices == spec
    buffer = plan.state.buffer
    assert buffer.codes.sharding.spec == buffer.scales.sharding.spec == spec
    if axis is not None:  # JAX cuts the scales where it cuts the codes
        part = list(lengths)
        part[axis] //= devices
        of_part: Any = ema(0.9, storage=INT8).init(jnp.zeros(part))
        for whole, expected in zip(buffer, of_part.buffer, strict=True):
            assert whole.sharding.shard_shape(whole.shape) == expected.shape


def test_a_complex_leaf_is_divided_between_blocks_of_both_parts():
    params = shape(96, 64, dtype=jnp.complex64)
    plan = planned(ema(0.9, storage=INT8), params, 8)
    assert set(specs(plan).values()) == {P(), P("data")}
    assert [shard.axis for shard in plan.shards] == [None, 0, 0, 0, 0, None]
    short = shape(300, dtype=jnp.complex64)
    cut = planned(ema(0.9, storage=INT8), short, 5, min_size=1)
    assert cut.slices == P()


def test_all_state_of_a_parameter_is_divided_along_its_axis():
    params = {"w": shape(3, 64, 128), "b": shape(128)}
    inner = optax.chain(
        outer_loop(aggmo([0.5, 0.9]), sgd(0.5, 0.7, storage=storage.int8()), 4),
        parameter_ema(0.99),
        lawa(8),
        optax.scale_by_factored_rms(min_dim_size_to_factor=64),
    )
    plan = planned(inner, params, 8)
    by_path = specs(plan)
    divided = {path: spec for path, spec in by_path.items() if spec != P()}
    assert {path for path in by_path if "['w']" in path} - set(divided) == {
        f"[3].v{which}['w']" for which in ("_row", "_col", "")
    }
    assert divided.pop("[2].latest['w']") == P(None, None, "data")
    assert set(divided.values()) == {P(None, "data")}
    assert len(divided) == 1 + 2 + 2 + 1  # slow, inner, outer, average
    assert plan.slices == {"w": P(None, "data"), "b": P()}


def test_a_parameter_without_state_stays_whole():
    params = {"frozen": shape(64, 128), "trained": shape(64, 128)}
    labels = {"frozen": "no", "trained": "yes"}
    inner = optax.partition({"yes": heavy_ball(0.9), "no": optax.set_to_zero()}, labels)
    assert planned(inner, params, 4).slices == {"frozen": P(), "trained": P("data")}
    masked = optax.masked(heavy_ball(0.9), {"frozen": False, "trained": True})
    assert planned(masked, params, 4).slices == {"frozen": P(), "trained": P("data")}
    assert planned(sgd(0.1), params, 4).slices == {"frozen": P(), "trained": P()}


LARGE, ODD = 1024 * 256, 77 * 77


@pytest.mark.parametrize("devices", [2, 8, 1024])
@pytest.mark.parametrize(
    ("encoding", "divided", "whole"),
    [
        (None, 4 * LARGE, 4 * ODD + 4 * 256),
        (storage.bfloat16(), 2 * LARGE, 2 * ODD + 2 * 256),
        (storage.int8(), LARGE + 4 * LARGE // 64, ODD + 4 * 77 * 2 + 4 * 256),
    ],
)
def test_bytes_per_device_are_the_divided_over_n_plus_the_whole(
    devices, encoding, divided, whole
):
    params = {"kernel": shape(1024, 256), "odd": shape(77, 77), "bias": shape(256)}
    plan = planned(sgd(0.1, 0.9, storage=encoding), params, devices)
    whole += 4 + 4  # step and weight
    assert sum(shard.nbytes for shard in plan.shards) == divided + whole
    per_device = sum(shard.nbytes_per_device for shard in plan.shards)
    assert per_device == divided // devices + whole
    listed = [shard.path for shard in plan.shards if shard.axis is None]
    parts = ["['odd'].codes", "['odd'].scales"] if "int8" in str(plan) else ["['odd']"]
    buffers = [".buffer" + part for part in ["['bias']", *parts]]
    assert listed == [".step", *buffers, ".weight"]


def test_divided_params_are_refused():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, P(None, "data"))
    given: Any = {"w": jax.device_put(jnp.zeros((64, 64)), rows)}
    abstract = {"w": jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=rows)}
    for params in (given, abstract):
        with pytest.raises(ValueError) as raised:
            sharding_plan(ema(0.9), params, mesh, "data")
        assert str(raised.value) == (
            "sharding_plan: params['w'] must be whole on every device, but it is "
            "divided as P(None, 'data'). Do not use `sharded`: the state of divided "
            "parameters is divided like them."
        )


def test_an_axis_missing_from_the_mesh_is_refused():
    with pytest.raises(ValueError) as raised:
        sharding_plan(ema(0.9), jnp.zeros(8), on(2), "batch")
    assert str(raised.value) == (
        "sharding_plan: the mesh must have the axis 'batch', but its axes are ('data', "
        "'model'). Name the axis along which the batch is divided."
    )


def test_a_plan_needs_neither_devices_nor_memory():
    params = {"w": shape(2**17, 2**17)}  # 64 GiB
    plan = planned(sgd(0.1, 0.9, storage=storage.int8()), params, 1024)
    nbytes = {shard.path: shard.nbytes_per_device for shard in plan.shards}
    assert nbytes[".buffer['w'].codes"] == 2**34 // 1024
    init = partial(jax.eval_shape, sgd(0.1, 0.9, storage=storage.int8()).init)
    shapes: Any = jax.tree.map(lambda x: x.update(sharding=None), plan.state)
    assert shapes == init(params)
