"""The examples of a run, on the device and in batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Examples(NamedTuple):
    """One split, on the device."""

    images: Array  # [examples, height, width, channels]: uint8, or float32 in [0, 1]
    labels: Array  # int32 [examples]


class Splits(NamedTuple):
    """All that a run reads; `test` is read once, after the last epoch."""

    train: Examples
    validation: Examples
    test: Examples
    classes: int


def in_batches(order: Array, batch_size: int, multiple: int = 1) -> tuple[Array, Array]:
    """Indices and weights, a row a step; the last batch is filled, not dropped.

    The filling repeats example 0 with weight 0; it also makes the length of the rows,
    which is `batch_size` else, a multiple of `multiple`.
    """
    examples = len(order)
    steps = -(-examples // batch_size)
    filling = (0, steps * batch_size - examples)
    weights = jnp.pad(jnp.ones(examples), filling)
    rows = (x.reshape(steps, batch_size) for x in (jnp.pad(order, filling), weights))
    wider = ((0, 0), (0, -batch_size % multiple))
    indices, weights = (jnp.pad(x, wider) for x in rows)
    return indices, weights


def sum_in_slices(
    function: Callable[[Any], Any], rows: tuple[Array, Array], size: int
) -> Any:
    """The sum of `function` over slices of the rows."""
    slices = jax.tree.map(lambda x: x.reshape(-1, size), rows)
    function = jax.jit(function, inline=True)  # traced once, for its shapes too
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], slices))
    zero = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(total: Any, rows: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(rows)), None

    return jax.lax.scan(add, zero, slices)[0]
