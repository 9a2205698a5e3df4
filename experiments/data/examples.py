"""The examples that a run reads: placed on the devices and cut into batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, Int32, Integer, PyTree, UInt8

from experiments.data.image_dataset import Dataset, hold_out
from experiments.distributed.devices import on_all_devices


class Examples(NamedTuple):
    """One split of a data set, on the device. Float images lie in [0, 1]."""

    images: (
        UInt8[Array, "examples height width channels"]
        | Float32[Array, "examples height width channels"]
    )
    labels: Int32[Array, " examples"]


class Splits(NamedTuple):
    """Everything a run reads; it reads `test` once, after the last epoch.

    The splits are pytrees of the same structure, examples first: images are `Examples`.
    """

    train: Any
    validation: Any
    test: Any


def split(dataset: Dataset) -> Splits:
    """Places the three splits on the devices, as bytes: batches are scaled later."""
    parts = hold_out(dataset)

    def examples(
        images: UInt8[np.ndarray, "image height width channel"],
        labels: Integer[np.ndarray, " image"],
    ) -> Examples:
        return Examples(*on_all_devices((images, labels)))

    if jax.process_count() == 1:
        train = examples(parts.images, parts.labels)
    else:  # they stay on the host: each process copies its own shard of each epoch
        on_host: Any = parts.images, parts.labels
        train = Examples(*on_host)
    return Splits(
        train=train,
        validation=examples(parts.validation_images, parts.validation_labels),
        test=examples(dataset.test_images, dataset.test_labels),
    )


def in_batches(
    order: Integer[Array, " examples"], batch_size: int, multiple: int = 1
) -> tuple[Integer[Array, "steps width"], Float32[Array, "steps width"]]:
    """Cuts an epoch into batches; the last one is padded, not dropped.

    Args:
      order: the indices of the examples, in the order in which they are used.
      batch_size: examples in one step.
      multiple: the batches are padded to a `width` that this number divides.

    Returns:
      Indices and weights, one row per step. Padding has index 0 and weight 0.
    """
    examples = len(order)
    steps = -(-examples // batch_size)
    padding = (0, steps * batch_size - examples)
    weights = jnp.pad(jnp.ones(examples, jnp.float32), padding)
    rows = (x.reshape(steps, batch_size) for x in (jnp.pad(order, padding), weights))
    wider = ((0, 0), (0, -batch_size % multiple))
    indices, weights = (jnp.pad(x, wider) for x in rows)
    return indices, weights


def sum_in_slices(
    function: Callable[[PyTree], PyTree],
    rows: tuple[Integer[Array, "..."], Float32[Array, "..."]],
    size: int,
) -> PyTree:
    """Sums `function` over slices of the rows: only one slice needs memory at a time.

    It maps (indices, weights), each of shape [size], to a pytree of arrays. `size` must
    divide the shape of the rows.
    """
    slices = jax.tree.map(lambda x: x.reshape(-1, size), rows)
    function = jax.jit(function, inline=True)  # so that it is traced only once
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], slices))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(total: PyTree, rows: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, function(rows)), None

    return jax.lax.scan(add, zeros, slices)[0]
