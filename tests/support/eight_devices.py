"""A program on eight devices, for tests of sharding; prints its results as JSON.

One run moves from 1 device to 2, 4, 8 and back to 2. Another divides its batch over two
mesh axes. A third has int8 buffers of few blocks. It is a separate program because the
process of the tests has two devices.
"""

import json
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from optax_momentum import (
    aggmo,
    ema,
    reduce_scatter,
    sgd,
    sharded,
    sharding_plan,
    storage,
)

RANDOM = np.random.default_rng(12)
SHAPES = {"bias": (64,), "kernel": (3, 16, 64), "odd": (9, 11)}
PARAMS: Any = {k: np.float32(RANDOM.normal(size=s)) for k, s in SHAPES.items()}
DEVICES = [1, 2, 4, 8, 2]


def gradient(step):
    return jax.tree.map(lambda p: np.float32(np.sin(9 * p + step)), PARAMS)


def same(a, b):
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def bytes_of(device, state):
    shards = [s for x in jax.tree.leaves(state) for s in x.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == device)


def moved_run(storage):
    """Compares a step on each number of devices with one on an undivided state."""
    inner = aggmo([0, 0.5, 0.9], storage=storage)
    undivided, update = inner.init(PARAMS), jax.jit(inner.update)
    state = undivided
    for step, count in enumerate(DEVICES):
        devices = jax.devices()[:count]
        mesh = jax.make_mesh(
            (count,), ("data",), axis_types=(AxisType.Auto,), devices=devices
        )
        plan = sharding_plan(inner, PARAMS, mesh, "data", min_size=50)
        state = jax.device_put(state, plan.shardings)
        replicated = jax.device_put(gradient(step), NamedSharding(mesh, P()))
        updates, state = jax.jit(sharded(inner, plan).update)(replicated, state)
        want, undivided = update(gradient(step), undivided)
        yield {
            "devices": count,
            "same_updates": same(updates, want),
            "same_state": same(state, undivided),
            "bytes": [bytes_of(device, state) for device in devices],
            "planned": sum(shard.nbytes_per_device for shard in plan.shards),
            "divided": [s.path for s in plan.shards if s.axis is not None],
        }


def on_two_axes():
    """Trains with the batch divided over both axes of a mesh and the state over one."""
    mesh = jax.make_mesh((2, 4), ("hosts", "data"), axis_types=(AxisType.Auto,) * 2)
    both, inner = P(("hosts", "data")), sgd(0.05, 0.8)
    images = np.float32(RANDOM.normal(size=(32, 16)))
    params = {"kernel": PARAMS["kernel"][0]}
    plan = sharding_plan(inner, params, mesh, "data", min_size=50)

    def loss(params, images):
        return jax.numpy.sum((images @ params["kernel"]) ** 2) / 32

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), both), out_specs=plan.slices)
    def gradients(params, images):
        params = jax.lax.pcast(params, ("hosts", "data"), to="varying")
        summed = jax.lax.psum(jax.grad(loss)(params, images), "hosts")
        return reduce_scatter(summed, plan)

    def after_three(optimizer, gradients, params, images):
        @jax.jit
        def step(params, state):
            updates, state = optimizer.update(gradients(params, images), state, params)
            return optax.apply_updates(params, updates), state

        state = optimizer.init(params)
        for _ in range(3):
            params, state = step(params, state)
        return params["kernel"], state.buffer["kernel"]

    want, _ = after_three(inner, jax.grad(loss), params, images)
    placed = jax.device_put(params, NamedSharding(mesh, P()))
    rows = jax.device_put(images, NamedSharding(mesh, both))
    got, buffer = after_three(sharded(inner, plan), gradients, placed, rows)
    return {
        "change": float(np.max(np.abs(want - params["kernel"]))),
        "error": float(np.max(np.abs(got - want))),
        "bytes": [shard.data.nbytes for shard in buffer.addressable_shards],
    }


def few_blocks():
    """Steps int8 buffers whose divided axis has fewer blocks than devices."""
    method = ema(0.9, storage=storage.int8())
    last = P(None, "x"), P(None, None, None, "x")
    for shape, spec, count in (
        ((1024, 256), last[0], 8),
        ((3, 3, 128, 64), last[1], 2),
        ((3, 3, 128, 64), last[1], 8),
    ):
        mesh = jax.make_mesh(
            (count,), ("x",), (AxisType.Explicit,), devices=jax.devices()[:count]
        )
        sharding = NamedSharding(mesh, spec)
        g = np.float32(RANDOM.normal(size=shape))
        placed = jax.device_put(g, sharding)
        step: Any = jax.jit(method.update)
        want, alone = step(g, step(g, method.init(g))[1])
        got, divided = step(placed, step(placed, method.init(placed))[1])
        yield {
            "same_updates": same(got, want),
            "same_state": same(divided, alone),
            "codes": divided.buffer.codes.sharding.is_equivalent_to(
                sharding, len(shape)
            ),
            "scales": divided.buffer.scales.sharding.is_fully_replicated,
        }


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    int8 = storage.int8(min_size=1)
    runs = [list(moved_run(encoding)) for encoding in (None, int8)]
    few = list(few_blocks())
    print(
        json.dumps({"moved_runs": runs, "two_axes": on_two_axes(), "few_blocks": few})
    )
