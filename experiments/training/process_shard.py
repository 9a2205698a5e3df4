"""Of an epoch's images, those that this process's devices train on, and no others.

All processes know the order, a pure function of the key. A device gets its images in
the order in which it meets them, so the batches are those of one process.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from experiments.data.examples import Examples
from experiments.distributed.devices import device_mesh

BY_COLUMN = PartitionSpec(None, "data")
BY_IMAGE = PartitionSpec("data")

Rows = tuple[Any, Any]  # indices and weights, [steps, images of a step]


def shapes(train: Examples, rows: Rows) -> tuple[Rows, Examples]:
    """What `own_part` gives for rows of this shape."""
    steps, width = rows[0].shape

    def shape(spec: PartitionSpec, dtype: Any, *sizes: int) -> Any:
        sharding = NamedSharding(device_mesh(), spec)
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=sharding)

    indices, weights = (shape(BY_COLUMN, each.dtype, steps, width) for each in rows)
    images, labels = (
        shape(BY_IMAGE, each.dtype, steps * width, *each.shape[1:]) for each in train
    )
    return (indices, weights), Examples(images, labels)


def own_part(train: Examples, rows: Rows) -> tuple[Rows, Examples]:
    """Rows and images of an epoch, as arrays that all devices have parts of.

    Args:
      train: all images, on the host; this process copies its own alone.
      rows: of all devices, on the host; the images are those of `train`.

    Returns:
      Rows in which an image is named by its place among its device's, and these.
    """
    indices, weights = map(np.asarray, rows)
    steps, width = indices.shape
    part = width // jax.device_count()
    places = np.arange(steps * part, dtype=indices.dtype).reshape(steps, part)

    def images(of: np.ndarray, where: Any) -> np.ndarray:
        device = (where[0].start or 0) // (steps * part)
        own = indices[:, device * part : (device + 1) * part]
        return of[own.reshape(-1)]

    def everywhere(spec: PartitionSpec, shape: tuple[int, ...], own: Any) -> Array:
        sharding = NamedSharding(device_mesh(), spec)
        return jax.make_array_from_callback(shape, sharding, own)

    placed = everywhere(BY_COLUMN, indices.shape, lambda where: places)
    weighted = everywhere(BY_COLUMN, weights.shape, lambda where: weights[where])
    pixels, labels = (
        everywhere(BY_IMAGE, (steps * width, *of.shape[1:]), partial(images, of))
        for of in map(np.asarray, train)
    )
    return (placed, weighted), Examples(pixels, labels)
