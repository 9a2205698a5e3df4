"""A run that goes from 1 device to 2, 4, 8 and back; what it saw, as JSON.

A program of its own, for the tests' process has two devices.
"""

import json

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from optax_momentum import aggmo, sharded, sharding_plan, storage

RANDOM = np.random.default_rng(12)
SHAPES = {"bias": (64,), "kernel": (3, 16, 64), "odd": (9, 11)}
PARAMS = {k: np.float32(RANDOM.normal(size=s)) for k, s in SHAPES.items()}
DEVICES = [1, 2, 4, 8, 2]


def gradient(step):
    return jax.tree.map(lambda p: np.float32(np.sin(9 * p + step)), PARAMS)


def same(a, b):
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def bytes_of(device, state):
    shards = [s for x in jax.tree.leaves(state) for s in x.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == device)


def passed_on(kept):
    """A step on each number of devices, beside one on a state that is never moved."""
    inner = aggmo([0, 0.5, 0.9], storage=kept)
    undivided, update = inner.init(PARAMS), jax.jit(inner.update)
    state = undivided
    for step, count in enumerate(DEVICES):
        devices = jax.devices()[:count]
        mesh = jax.make_mesh(
            (count,), ("data",), axis_types=(AxisType.Auto,), devices=devices
        )
        plan = sharding_plan(inner, PARAMS, mesh, "data", min_size=50)
        state = jax.device_put(state, plan.shardings)
        given = jax.device_put(gradient(step), NamedSharding(mesh, P()))
        updates, state = jax.jit(sharded(inner, plan).update)(given, state)
        want, undivided = update(gradient(step), undivided)
        yield {
            "devices": count,
            "same_updates": same(updates, want),
            "same_state": same(state, undivided),
            "bytes": [bytes_of(device, state) for device in devices],
            "planned": sum(shard.nbytes_per_device for shard in plan.shards),
            "divided": [s.path for s in plan.shards if s.axis is not None],
        }


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    int8 = storage.int8(min_size=1)
    print(json.dumps([list(passed_on(kept)) for kept in (None, int8)]))
