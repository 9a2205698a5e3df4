"""The images of an epoch that this process's devices train on, and no others.

All processes know the order, a pure function of the key. Each device receives its
images in the order in which it reads them, so the batches are those of one process.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from experiments.distributed.devices import device_mesh
from experiments.problems.problem import Batch

BY_COLUMN = PartitionSpec("lanes", None, "data")
BY_IMAGE = PartitionSpec("data")

Rows = tuple[Any, Any]  # indices and weights, [steps, images]; returned [1, ...]


def shapes(train: Batch, rows: Rows) -> tuple[Rows, Batch]:
    """Shapes and shardings of what `own_shard` returns for rows of this shape."""
    steps, width = rows[0].shape

    def shape(spec: PartitionSpec, dtype: DTypeLike, *sizes: int) -> Any:
        sharding = NamedSharding(device_mesh(), spec)
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=sharding)

    indices, weights = (shape(BY_COLUMN, x.dtype, 1, steps, width) for x in rows)
    examples = jax.tree.map(
        lambda x: shape(BY_IMAGE, x.dtype, steps * width, *x.shape[1:]), train
    )
    return (indices, weights), examples


def own_shard(train: Batch, rows: Rows) -> tuple[Rows, Batch]:
    """Rows and images of an epoch as global arrays; this process fills its part.

    Args:
      train: all images, on the host; only this process's own are copied.
      rows: of all devices, on the host, indexing `train`.

    Returns:
      Rows [1, steps, images] that index each device's own images, and these images.
    """
    indices, weights = map(np.asarray, rows)
    steps, width = indices.shape
    per_device = width // jax.device_count()
    places = np.arange(steps * per_device, dtype=indices.dtype)
    places = places.reshape(1, steps, per_device)

    def device_images(array: np.ndarray, index: tuple[slice, ...]) -> np.ndarray:
        device = (index[0].start or 0) // (steps * per_device)
        columns = indices[:, device * per_device : (device + 1) * per_device]
        return array[columns.reshape(-1)]

    def global_array(spec: PartitionSpec, shape: tuple[int, ...], fill: Any) -> Array:
        sharding = NamedSharding(device_mesh(), spec)
        return jax.make_array_from_callback(shape, sharding, fill)

    shape = (1, steps, width)
    placed = global_array(BY_COLUMN, shape, lambda index: places)
    weighted = global_array(BY_COLUMN, shape, lambda index: weights[None][index])

    def shard(leaf: Any) -> Array:
        array = np.asarray(leaf)
        shape = steps * width, *array.shape[1:]
        return global_array(BY_IMAGE, shape, partial(device_images, array))

    return (placed, weighted), jax.tree.map(shard, train)
