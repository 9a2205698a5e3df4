"""Pooling by slices, for CPUs: XLA computes its gradients there by a serial scatter."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from experiments.networks.windows import split, under_window

Images = Float[Array, "batch height width channels"]
_Windows = Float[Array, "batch rows columns 2 2 channels"]


class Sliding(NamedTuple):
    """How a window slides over an array, for each of its axes."""

    window: Sequence[int]  # elements
    strides: Sequence[int]
    padding: Sequence[tuple[int, int]]  # elements before and after
    dilation: Sequence[int]  # of the window


def window_max(x: Array, sliding: Sliding) -> Array:
    """The maximum of each window, along any axes.

    Returns:
      What `lax.reduce_window` returns with `lax.max`. The gradients are equal, too: the
      first of equal maxima receives all of it.
    """
    usual = (*sliding.window, *sliding.strides) == (1, 2, 2, 1) * 2
    if usual and not any(map(any, sliding.padding)) and {*sliding.dilation} == {1}:
        return max_pool(x)
    return _over_windows(_first_max, -math.inf, x, sliding)


def window_sum(x: Array, sliding: Sliding) -> Array:
    """The sum of each window, along any axes: what `lax.reduce_window` returns."""
    return _over_windows(jnp.add, 0, x, sliding)


def max_pool(images: Images) -> Float[Array, "batch height//2 width//2 channels"]:
    """The maximum of each 2×2 window; an odd last row or column is dropped.

    Args:
      images: at least 2×2 pixels each.
    """
    height, width = images.shape[1:3]
    return _window_max(to_windows(images[:, : height // 2 * 2, : width // 2 * 2]))


def to_windows(images: Images) -> _Windows:
    """Cuts images of even sizes into windows of 2×2."""
    batch, height, width, channels = images.shape
    windows = images.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return windows.transpose(0, 1, 3, 2, 4, 5)


def to_images(windows: _Windows) -> Images:
    """The inverse of `to_windows`."""
    batch, rows, columns, _, _, channels = windows.shape
    images = windows.transpose(0, 1, 3, 2, 4, 5)
    return images.reshape(batch, 2 * rows, 2 * columns, channels)


def _over_windows(
    combine: Callable[[Array, Array], Array],
    start: float,
    x: Array,
    sliding: Sliding,
) -> Array:
    """Combines along one axis after another, the last one first.

    So equal maxima are met in the order of their rows, as by `lax.reduce_window`.
    """
    window, strides, padding, dilation = sliding
    if any(map(any, padding)):
        widths = [(low, high, 0) for low, high in padding]
        x = lax.pad(x, lax.full((), start, x.dtype), widths)
    for axis in reversed(range(x.ndim)):
        sizes = window[axis], strides[axis], dilation[axis]
        if sizes[:2] != (1, 1):
            x = reduce(combine, under_window(x, axis, *sizes))
    return x


def _first_max(first: Array, second: Array) -> Array:
    """The larger one, the first of equal ones; NaN if either is."""
    return jnp.where((second > first) | jnp.isnan(second), second, first)


@jax.custom_vjp
def _window_max(windows: _Windows) -> Array:
    return _window_max_forward(windows)[0]


def _window_max_forward(windows):
    a, b, c, d = _corners(windows)
    largest = jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
    return largest, (windows, largest)


def _window_max_backward(residuals, cotangent):
    windows, largest = residuals
    unassigned = jnp.ones(largest.shape, bool)  # no earlier corner was the largest
    gradients = []
    for corner in _corners(windows):
        gradients.append(jnp.where((corner == largest) & unassigned, cotangent, 0))
        unassigned &= corner != largest
    rows = [x.reshape(-1, x.shape[-1]) for x in gradients]
    # Without the barrier, XLA writes the elements one by one, in the windows' order.
    joined = lax.optimization_barrier(jnp.concatenate(rows, axis=1))
    return (joined.reshape(windows.shape),)


_window_max.defvjp(_window_max_forward, _window_max_backward)


def _corners(windows: _Windows) -> list[Array]:
    """The four elements of each window: the upper two, then the lower two."""
    return [corner for row in split(windows, 3) for corner in split(row, 3)]
