"""Convolution and max pooling, the two layers that XLA compiles poorly for CPU.

XLA:CPU computes the gradients of a convolution by a naive loop in the body of a
`lax.scan` (jax-ml/jax#12868), and that of max pooling by a serial scatter anywhere. On
CPU, this module computes both layers and their gradients by slices, sums and matrix
products. Both work on windows of 2×2 outputs, each computed from a tile of 4×4 pixels.
If pooling follows a convolution, XLA simplifies `_to_windows(_to_images(x))` to `x` and
never stores the image between them. Other platforms have good kernels for the ordinary
operations and use those.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

_Images = Float[Array, "batch height width channels"]
_Kernel = Float[Array, "3 3 channels features"]
_Windows = Float[Array, "batch rows columns 2 2 channels"]

# With fewer channels, Winograd's matrices are too thin to pay for its transforms.
_WINOGRAD_CHANNELS = 16


def convolution(
    images: _Images, kernel: _Kernel
) -> Float[Array, "batch height-2 width-2 features"]:
    """Convolves with a 3×3 kernel, stride 1, valid padding, as neural networks do.

    Args:
      images: at least 3×3 pixels each.
      kernel: of the same dtype as the images.

    Returns:
      What `lax.conv_general_dilated` returns, up to rounding.
    """
    return lax.platform_dependent(
        images, kernel, cpu=_tiled_convolution, default=_ordinary_convolution
    )


def max_pool(images: _Images) -> Float[Array, "batch height//2 width//2 channels"]:
    """Takes the maximum of each 2×2 window; an odd last row or column is dropped.

    Args:
      images: at least 2×2 pixels each.

    Returns:
      What `lax.reduce_window` returns. The gradients are equal, too: the first of equal
      maxima receives all of it.
    """
    return lax.platform_dependent(
        images, cpu=_tiled_max_pool, default=_ordinary_max_pool
    )


def _ordinary_convolution(images: _Images, kernel: _Kernel) -> _Images:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=layout
    )


def _ordinary_max_pool(images: _Images) -> _Images:
    window = (1, 2, 2, 1)
    return lax.reduce_window(images, -jnp.inf, lax.max, window, window, "VALID")


def _tiled_convolution(images: _Images, kernel: _Kernel) -> _Images:
    _, height, width, channels = images.shape
    even = jnp.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    method = _direct if channels < _WINOGRAD_CHANNELS else _winograd
    return _to_images(method(even, kernel))[:, : height - 2, : width - 2]


def _tiled_max_pool(images: _Images) -> _Images:
    height, width = images.shape[1:3]
    return _window_max(_to_windows(images[:, : height // 2 * 2, : width // 2 * 2]))


def _to_windows(images: _Images) -> _Windows:
    """Cuts images of even sizes into windows."""
    batch, height, width, channels = images.shape
    windows = images.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return windows.transpose(0, 1, 3, 2, 4, 5)


def _to_images(windows: _Windows) -> _Images:
    """The inverse of `_to_windows`."""
    batch, rows, columns, _, _, channels = windows.shape
    images = windows.transpose(0, 1, 3, 2, 4, 5)
    return images.reshape(batch, 2 * rows, 2 * columns, channels)


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
    return [corner for row in _split(windows, 3) for corner in _split(row, 3)]


def _direct(images: _Images, kernel: _Kernel) -> _Windows:
    """Multiplies each tile, as a row of numbers, by a matrix of shifted kernels."""
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


def _winograd(images: _Images, kernel: _Kernel) -> _Windows:
    """Winograd's F(4×4, 3×3): 36 products per tile instead of the definition's 144.

    A tile has 6×6 pixels and yields 4×4 outputs, which are 2×2 windows. Each transform
    acts along rows, then along columns. See Lavin and Gray 2015,
    arxiv.org/abs/1509.09308, section 4.
    """
    batch, height, width, channels = images.shape
    rows, columns = (-(-(size - 2) // 4) for size in (height, width))
    padding = (4 * rows + 4 - height, 4 * columns + 4 - width)
    x = jnp.pad(images, ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0)))
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


# The sums below interpolate at 0, ±√½, ±√2 and ∞. Rounding errors are then a quarter of
# those of the usual points 0, ±1, ±2 and ∞, because √½·√2 = 1 keeps the factors near 1.
_ROOT = 0.5**0.5


def _tile_sums(a: Array, b: Array, c: Array, d: Array, *, axis: int) -> list[Array]:
    """Six sums of the pixels a to f of each tile along one axis.

    Each block of four pixels begins a tile; its e and f are a and b of the next block.
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


def _kernel_sums(a: Array, b: Array, c: Array) -> list[Array]:
    even, odd = -(2 * a + c) / 3, -2 / 3 * _ROOT * b
    wide_even, wide_odd = (a + 2 * c) / 6, _ROOT / 3 * b
    return [a, even + odd, even - odd, wide_even + wide_odd, wide_even - wide_odd, c]


def _window_sums(
    a: Array, b: Array, c: Array, d: Array, e: Array, f: Array
) -> list[Array]:
    even, odd = b + c, _ROOT * (b - c)
    wide_even, wide_odd = d + e, _ROOT * (d - e)
    return [
        a + even + wide_even,
        odd + 2 * wide_odd,
        even / 2 + 2 * wide_even,
        odd / 2 + 4 * wide_odd + f,
    ]


def _split(x: Array, axis: int) -> list[Array]:
    """The slices along an axis, with one concatenation as their gradient.

    The gradient of indexing would be a sum of one padded array per slice.
    """
    return [y.squeeze(axis) for y in lax.split(x, [1] * x.shape[axis], axis)]
