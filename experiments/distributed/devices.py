"""All devices: how arrays lie on them, and how much each takes at once."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

_CPU_SLICE = 16  # images; measured, see docs/performance.md


def device_mesh(lanes: int = 1, count: int | None = None) -> jax.sharding.Mesh:
    """The first `count` devices, else all: `lanes` groups, each sharing a batch."""
    devices = jax.devices()[:count]
    shape = (lanes, len(devices) // lanes)
    axes, types = ("lanes", "data"), (AxisType.Auto,) * 2
    return jax.make_mesh(shape, axes, axis_types=types, devices=devices)


def on_all_devices(tree: Any) -> Any:
    """The arrays, replicated, as all programs take what they share."""
    if jax.process_count() > 1:  # `device_put` takes no random keys to other processes
        return _everywhere()(tree)
    return jax.device_put(tree, NamedSharding(device_mesh(), PartitionSpec()))


def in_full(array: Any) -> np.ndarray:
    """The whole array on the host, also where other processes have parts of it."""
    here = not isinstance(array, jax.Array) or array.is_fully_addressable
    return np.asarray(
        array if here or array.is_fully_replicated else _everywhere()(array)
    )


@cache
def _everywhere() -> Callable[[Any], Any]:
    """Gives each device all of what it is handed, compiled once a shape."""
    everywhere = NamedSharding(device_mesh(), PartitionSpec())
    return jax.jit(lambda x: x, out_shardings=everywhere)


def replicated(shapes: Any) -> Any:
    """These shapes and dtypes as `on_all_devices` places their arrays."""
    sharding = NamedSharding(device_mesh(), PartitionSpec())
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
    )


def slice_size(batch_size: int, devices: int) -> int:
    """Images whose gradients a device takes at once: a CPU what stays in its cache."""
    part = -(-batch_size // devices)
    return min(part, _CPU_SLICE) if jax.default_backend() == "cpu" else part


def places(batch_size: int, devices: int) -> int:
    """Of a step: its images, and what makes them as many whole slices a device."""
    together = devices * slice_size(batch_size, devices)
    return -(-batch_size // together) * together
