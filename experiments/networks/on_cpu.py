"""Convolution and max pooling, the two layers that XLA compiles poorly for CPU.

In the body of a `lax.scan`, XLA:CPU computes the gradients of a convolution by a naive
loop (jax-ml/jax#12868), and anywhere that of max pooling by a serial scatter. Here, on
CPU, both are slices, sums and matrix products, and so are their gradients. They share
one picture: windows of 2×2 outputs, each of a tile of 4×4 pixels. Where pooling follows
a convolution, XLA sees `_windows(_images(x))` and never lays out the image between.
Other platforms have good kernels for the ordinary operations and use those.
"""

import jax
import jax.numpy as jnp
from jax import lax

# With fewer channels, Winograd's matrices are too thin to pay for its transforms.
_WINOGRAD_CHANNELS = 16


def convolution(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with a 3×3 kernel, stride 1, valid padding, as neural networks do.

    Args:
      images: [batch, height, width, channels], floating point; at least 3×3 pixels.
      kernel: [3, 3, channels, features], dtype of images.

    Returns:
      [batch, height − 2, width − 2, features], equal to `lax.conv_general_dilated` but
      for rounding.
    """
    return lax.platform_dependent(
        images, kernel, cpu=_tiled_convolution, default=_ordinary_convolution
    )


def max_pool(images: jax.Array) -> jax.Array:
    """Keeps the maximum of each 2×2 window; an odd last row or column is dropped.

    Args:
      images: [batch, height, width, channels], floating point; at least 2×2 pixels.

    Returns:
      [batch, height // 2, width // 2, channels], equal to `lax.reduce_window`. So is
      the gradient: the first of equal maxima receives all of it.
    """
    return lax.platform_dependent(
        images, cpu=_tiled_max_pool, default=_ordinary_max_pool
    )


def _ordinary_convolution(images: jax.Array, kernel: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=layout
    )


def _ordinary_max_pool(images: jax.Array) -> jax.Array:
    window = (1, 2, 2, 1)
    return lax.reduce_window(images, -jnp.inf, lax.max, window, window, "VALID")


def _tiled_convolution(images: jax.Array, kernel: jax.Array) -> jax.Array:
    _, height, width, channels = images.shape
    even = jnp.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    method = _direct if channels < _WINOGRAD_CHANNELS else _winograd
    return _images(method(even, kernel))[:, : height - 2, : width - 2]


def _tiled_max_pool(images: jax.Array) -> jax.Array:
    height, width = images.shape[1:3]
    return _window_max(_windows(images[:, : height // 2 * 2, : width // 2 * 2]))


def _windows(images: jax.Array) -> jax.Array:
    """Images of even sizes as windows [batch, height/2, width/2, 2, 2, channels]."""
    batch, height, width, channels = images.shape
    windows = images.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return windows.transpose(0, 1, 3, 2, 4, 5)


def _images(windows: jax.Array) -> jax.Array:
    """The inverse of `_windows`."""
    batch, rows, columns, _, _, channels = windows.shape
    images = windows.transpose(0, 1, 3, 2, 4, 5)
    return images.reshape(batch, 2 * rows, 2 * columns, channels)


@jax.custom_vjp
def _window_max(windows: jax.Array) -> jax.Array:
    return _window_max_forward(windows)[0]


def _window_max_forward(windows):
    a, b, c, d = _corners(windows)
    largest = jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
    return largest, (windows, largest)


def _window_max_backward(residuals, cotangent):
    windows, largest = residuals
    free = jnp.ones(largest.shape, bool)  # no corner before was as large
    routed = []
    for corner in _corners(windows):
        routed.append(jnp.where((corner == largest) & free, cotangent, 0))
        free &= corner != largest
    rows = [each.reshape(-1, each.shape[-1]) for each in routed]
    # The barrier keeps XLA from writing them by the element, in the windows' order.
    together = lax.optimization_barrier(jnp.concatenate(rows, axis=1))
    return (together.reshape(windows.shape),)


_window_max.defvjp(_window_max_forward, _window_max_backward)


def _corners(windows: jax.Array) -> list[jax.Array]:
    """The four elements of each window, from left to right, then down."""
    return [corner for row in _split(windows, 3) for corner in _split(row, 3)]


def _direct(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Each tile, as a row of 16·channels numbers, times a matrix of shifted kernels."""
    batch, height, width, channels = images.shape
    rows, columns = height // 2 - 1, width // 2 - 1
    pairs = images.reshape(batch, height, width // 2, 2 * channels)
    tiles = [
        pairs[:, i : i + 2 * rows : 2, j : j + columns]
        for i in range(4)
        for j in (0, 1)
    ]
    shifted = [
        jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)))
        for i in (0, 1)
        for j in (0, 1)
    ]
    left = jnp.concatenate(tiles, axis=3).reshape(-1, 16 * channels)
    right = jnp.concatenate(shifted, axis=3).reshape(16 * channels, -1)
    return (left @ right).reshape(batch, rows, columns, 2, 2, -1)


def _winograd(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Winograd's F(4×4, 3×3): 36 products a tile where the definition takes 144.

    A tile is 6×6 pixels and yields 4×4 outputs, which are 2×2 windows. Each transform
    acts along rows, then along columns. See Lavin and Gray 2015,
    arxiv.org/abs/1509.09308, section 4.
    """
    batch, height, width, channels = images.shape
    rows, columns = (-(-(size - 2) // 4) for size in (height, width))
    filling = (4 * rows + 4 - height, 4 * columns + 4 - width)
    x = jnp.pad(images, ((0, 0), (0, filling[0]), (0, filling[1]), (0, 0)))
    x = x.reshape(batch, rows + 1, 4, columns + 1, 4, channels)
    x = jnp.stack(_tile_sums(*_split(x, 2), axis=1))
    x = jnp.stack(_tile_sums(*_split(x, 4), axis=3))
    k = jnp.stack(_kernel_sums(*_split(kernel, 0)))
    k = jnp.stack(_kernel_sums(*_split(k, 1)))
    y = x.reshape(36, -1, channels) @ k.reshape(36, channels, -1)
    y = y.reshape(6, 6, batch, rows, columns, -1)
    y = jnp.stack(_window_sums(*_split(y, 0)), axis=4)
    y = jnp.stack(_window_sums(*_split(y, 0)), axis=3)
    y = y.reshape(batch, rows, columns, 2, 2, 2, 2, -1)
    windows = y.transpose(0, 1, 3, 2, 5, 4, 6, 7)
    windows = windows.reshape(batch, 2 * rows, 2 * columns, 2, 2, -1)
    return windows[:, : height // 2 - 1, : width // 2 - 1]


# The sums below interpolate at 0, ±√½, ±√2 and ∞. Rounding is then a quarter of that of
# the usual 0, ±1, ±2 and ∞, for √½·√2 = 1 keeps the factors near 1.
_ROOT = 0.5**0.5


def _tile_sums(
    a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array, *, axis: int
) -> list[jax.Array]:
    """Six sums of the pixels a to f of each tile along one axis.

    Every block of four pixels begins a tile, whose e and f are the next one's a and b.
    """
    tiles = a.shape[axis] - 1
    e, f = (lax.slice_in_dim(x, 1, tiles + 1, axis=axis) for x in (a, b))
    a, b, c, d = (lax.slice_in_dim(x, 0, tiles, axis=axis) for x in (a, b, c, d))
    even, odd = e - 2 * c, _ROOT * (d - 2 * b)
    wide_even, wide_odd = e - c / 2, _ROOT * (2 * d - b)
    return [
        a - 2.5 * c + e,
        even + odd,
        even - odd,
        wide_even + wide_odd,
        wide_even - wide_odd,
        b - 2.5 * d + f,
    ]


def _kernel_sums(a: jax.Array, b: jax.Array, c: jax.Array) -> list[jax.Array]:
    even, odd = -(2 * a + c) / 3, -2 / 3 * _ROOT * b
    wide_even, wide_odd = (a + 2 * c) / 6, _ROOT / 3 * b
    return [
        a,
        even + odd,
        even - odd,
        wide_even + wide_odd,
        wide_even - wide_odd,
        c,
    ]


def _window_sums(
    a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array, e: jax.Array, f: jax.Array
) -> list[jax.Array]:
    even, odd = b + c, _ROOT * (b - c)
    wide_even, wide_odd = d + e, _ROOT * (d - e)
    return [
        a + even + wide_even,
        odd + 2 * wide_odd,
        even / 2 + 2 * wide_even,
        odd / 2 + 4 * wide_odd + f,
    ]


def _split(x: jax.Array, axis: int) -> list[jax.Array]:
    """The slices along an axis, whose gradient is one concatenation.

    The gradient of indexing would be a sum of padded arrays, as many as slices.
    """
    return [y.squeeze(axis) for y in lax.split(x, [1] * x.shape[axis], axis)]
