"""The device mesh, how arrays are placed on it, and how much a device takes at once."""

from collections.abc import Callable
from functools import cache

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import PyTree, Shaped

_CPU_SLICE = 16  # images whose activations fit into the cache: docs/performance.md


def device_mesh(lanes: int = 1, count: int | None = None) -> jax.sharding.Mesh:
    """A mesh of the first `count` devices, by default of all.

    Axis "lanes" has `lanes` groups of devices, which train different runs at the same
    time; the devices of a group, on axis "data", share each batch.
    """
    devices = jax.devices()[:count]
    shape = (lanes, len(devices) // lanes)
    axes, types = ("lanes", "data"), (AxisType.Auto,) * 2
    return jax.make_mesh(shape, axes, axis_types=types, devices=devices)


def on_all_devices(tree: PyTree) -> PyTree:
    """Replicates the arrays on all devices, where the training programs expect them."""
    # `device_put` can't send random keys to other processes.
    if jax.process_count() > 1:
        return _replicate()(tree)
    return jax.device_put(tree, NamedSharding(device_mesh(), PartitionSpec()))


def placed(sharding: NamedSharding, array: np.ndarray) -> jax.Array:
    """An array that all processes have, placed on the devices of all."""
    return jax.make_array_from_callback(
        array.shape, sharding, lambda index: array[index]
    )


def to_host(array: Shaped[ArrayLike, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Copies the whole array to the host, even if other processes hold parts of it."""
    if isinstance(array, jax.Array):
        whole = array.is_fully_addressable or array.is_fully_replicated
        return np.asarray(array if whole else _replicate()(array))
    return np.asarray(array)


@cache
def _replicate() -> Callable[[PyTree], PyTree]:
    """A program that replicates its argument, compiled once for each shape."""
    sharding = NamedSharding(device_mesh(), PartitionSpec())
    return jax.jit(lambda x: x, out_shardings=sharding)


def replicated_shapes(shapes: PyTree) -> PyTree:
    """Adds to shapes and dtypes the sharding that `on_all_devices` gives arrays."""
    sharding = NamedSharding(device_mesh(), PartitionSpec())
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
    )


def slice_size(batch_size: int, devices: int) -> int:
    """Images whose gradients a device computes at once.

    A GPU or TPU takes its whole share of the batch, a CPU as much as fits its cache.
    """
    share = -(-batch_size // devices)
    return min(share, _CPU_SLICE) if jax.default_backend() == "cpu" else share


def padded_batch_size(batch_size: int, devices: int) -> int:
    """The batch size, padded so that every device gets a whole number of slices."""
    multiple = devices * slice_size(batch_size, devices)
    return -(-batch_size // multiple) * multiple
