"""Convolution by slices, sums and matrix products, for CPUs.

XLA:CPU computes the gradients of a convolution by a naive loop in the body of a
`lax.scan` (jax-ml/jax#12868). Here, all of it are operations that it compiles well.
3×3 kernels work on windows of 2×2 outputs, each computed from a tile of 4×4 pixels or
more. If pooling follows, XLA simplifies `to_windows(to_images(x))` to `x` and never
stores the image between them.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType
from jaxtyping import Float

from experiments.networks.pooling import Images, to_images
from experiments.networks.windows import split, under_window

_Kernel = Float[Array, "rows columns channels/groups features"]
_Windows = Float[Array, "batch rows columns 2 2 channels"]
_Sliding = tuple[tuple[int, int, int], ...]  # size, stride, dilation along each side
_Sides = Sequence[tuple[int, int]]  # zeros before and after; of rows, then of columns

# With fewer channels, Winograd's matrices are too thin to pay for its transforms.
_WINOGRAD_CHANNELS = 16
# What is computed at a time, so that it stays in the cache of a core.
_SLICE_BYTES = 2**23


def convolution(
    images: Images,
    kernel: _Kernel,
    *,
    strides: Sequence[int] = (1, 1),
    padding: _Sides = ((0, 0), (0, 0)),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Images:
    """Convolves as neural networks do, without flipping the kernel.

    Args:
      images: at least as large as the kernel, when padded.
      kernel: of the same dtype as the images.
      strides: of rows and columns.
      padding: zeros before and after the rows, and the columns; cropped if negative.
      dilation: of the kernel.
      groups: into which channels and features are divided.

    Returns:
      What `lax.conv_general_dilated` returns, up to rounding.
    """
    plain = (*strides, *dilation) == (1,) * 4 and groups == 1
    if plain and kernel.shape[:2] == (3, 3):
        return _by_tiles(images, kernel, padding)
    if any(map(any, padding)):
        widths = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
        images = lax.pad(images, lax.full((), 0, images.dtype), widths)
    rows, columns, inputs, features = kernel.shape
    sliding = (*zip((rows, columns), strides, dilation, strict=True),)
    if inputs == 1 and groups == images.shape[3] == features:
        return _depthwise(sliding, images, kernel)
    patches = _patches(images, sliding)
    if inputs == 1 and groups == images.shape[3]:
        return _by_channel([x[..., None] for x in patches], kernel)
    places = patches[0].shape[:3]
    patches = [x.reshape(-1, groups, inputs) for x in patches]
    left = patches[0] if len(patches) == 1 else jnp.concatenate(patches, axis=2)
    right = kernel.reshape(rows * columns * inputs, groups, features // groups)
    if groups == 1:
        return (left.squeeze(1) @ right.squeeze(1)).reshape(*places, features)
    of_groups = jnp.einsum("pgi,igf->pgf", left, right)
    return of_groups.reshape(*places, features)


def _patches(images: Images, sliding: _Sliding) -> list[Images]:
    """What lies under each element of the kernel, wherever the kernel lies."""
    return [
        patch
        for row in under_window(images, 1, *sliding[0])
        for patch in under_window(row, 2, *sliding[1])
    ]


def _by_channel(patches: Sequence[Array], kernel: _Kernel) -> Images:
    """Each channel by itself, with as many features as the kernel has for it.

    A last axis of the patches, of length 1, stands for several features.
    """
    channels = patches[0].shape[3]
    shape = (channels, -1) if patches[0].ndim == 5 else (channels,)
    weights = kernel.reshape(len(patches), 1, 1, 1, *shape)
    terms = (x * w for x, w in zip(patches, weights, strict=True))
    return reduce(jnp.add, terms).reshape(*patches[0].shape[:3], kernel.shape[3])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _depthwise(sliding: _Sliding, images: Images, kernel: _Kernel) -> Images:
    """One feature for each channel."""
    return _by_channel(_patches(images, sliding), kernel)


def _depthwise_forward(
    sliding: _Sliding, images: Images, kernel: _Kernel
) -> tuple[Images, tuple[Images, _Kernel]]:
    return _depthwise(sliding, images, kernel), (images, kernel)


def _depthwise_backward(
    sliding: _Sliding, residuals: tuple[Images, _Kernel], cotangent: Images
) -> tuple[Images, _Kernel]:
    """The gradient of the images is a convolution with the kernel turned around.

    By JAX it would be a sum of padded arrays, and XLA would compute the cotangent anew
    for each of them.
    """
    images, kernel = residuals
    products = (patch * cotangent for patch in _patches(images, sliding))
    of_kernel = jnp.stack([jnp.sum(x, (0, 1, 2)) for x in products])
    widths = [(0, 0, 0)]
    for axis, (size, stride, dilation) in zip((1, 2), sliding, strict=True):
        covered = (cotangent.shape[axis] - 1) * stride + 1
        widths.append(((size - 1) * dilation, images.shape[axis] - covered, stride - 1))
    zero = lax.full((), 0, cotangent.dtype)
    padded = lax.pad(cotangent, zero, [*widths, (0, 0, 0)])
    turned = tuple((size, 1, dilation) for size, _, dilation in sliding)
    of_images = _by_channel(_patches(padded, turned), kernel[::-1, ::-1])
    return of_images, of_kernel.reshape(kernel.shape)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _by_tiles(images: Images, kernel: _Kernel, padding: _Sides) -> Images:
    """A 3×3 kernel with stride 1; computes whole windows and crops them."""
    if images.shape[3] < _WINOGRAD_CHANNELS:
        return _in_windows(_direct, images, kernel, padding, 2)
    matrices = _kernel_matrices(kernel)
    by_winograd = partial(_in_windows, _winograd, padding=padding, tile=4)
    multiplied = 36 * math.prod(images.shape[1:3]) / 16  # of an image and channel
    numbers = multiplied * sum(kernel.shape[2:])
    most = max(1, int(_SLICE_BYTES / (numbers * images.dtype.itemsize)))
    if images.shape[0] <= most or not _is_on_one_device():
        return by_winograd(images, matrices)
    return _in_slices(by_winograd, images, matrices, most)


def _in_windows(
    function: Callable[[Images, Array], _Windows],
    images: Images,
    weights: Array,
    padding: _Sides,
    tile: int,
) -> Images:
    """Pads images to whole tiles, of `tile` outputs a side, and crops the results."""
    outputs = [
        size + low + high - 2
        for size, (low, high) in zip(images.shape[1:3], padding, strict=True)
    ]
    missing = [-size % tile for size in outputs]
    widths = [
        (low, high + more, 0)
        for (low, high), more in zip(padding, missing, strict=True)
    ]
    zero = lax.full((), 0, images.dtype)
    padded = lax.pad(images, zero, [(0, 0, 0), *widths, (0, 0, 0)])
    return to_images(function(padded, weights))[:, : outputs[0], : outputs[1]]


def _in_slices(
    function: Callable[[Images, Array], Images],
    images: Images,
    weights: Array,
    most: int,
) -> Images:
    """Applies it to at most so many images at a time, backward pass included.

    What it computes in between stays in the cache, and is computed again for the
    gradients.
    """
    batch = images.shape[0]
    slices = -(-batch // most)
    size = -(-batch // slices)
    missing = [(0, slices * size - batch, 0), *[(0, 0, 0)] * 3]
    images = lax.pad(images, lax.full((), 0, images.dtype), missing)
    of_slice = jax.checkpoint(function, prevent_cse=False)
    results = lax.map(
        lambda x: of_slice(x, weights), images.reshape(slices, size, *images.shape[1:])
    )
    return results.reshape(slices * size, *results.shape[2:])[:batch]


def _is_on_one_device() -> bool:
    """Whether the images that are traced lie on one device, or may be divided."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return jax.device_count() == 1
    return all(kind == AxisType.Manual for kind in mesh.axis_types)  # in `shard_map`


def _direct(images: Images, kernel: _Kernel) -> _Windows:
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


def _winograd(
    images: Images, matrices: Float[Array, "36 channels features"]
) -> _Windows:
    """Winograd's F(4×4, 3×3): 36 products per tile instead of the definition's 144.

    A tile has 6×6 pixels and yields 4×4 outputs, which are 2×2 windows. Each transform
    acts along rows, then along columns. See Lavin and Gray 2015,
    arxiv.org/abs/1509.09308, section 4.
    """
    batch, height, width, channels = images.shape
    rows, columns = ((size - 2) // 4 for size in (height, width))
    ends = lax.full((), 0, images.dtype), [(0, 0, 0), *[(0, 2, 0)] * 2, (0, 0, 0)]
    x = lax.pad(images, *ends)
    x = x.reshape(batch, rows + 1, 4, columns + 1, 4, channels)
    x = jnp.stack(_tile_sums(*split(x, 2), axis=1))
    x = jnp.stack(_tile_sums(*split(x, 4), axis=3))
    y = x.reshape(36, -1, channels) @ matrices
    y = y.reshape(6, 6, batch, rows, columns, -1)
    y = jnp.stack(_window_sums(*split(y, 0)), axis=4)
    y = jnp.stack(_window_sums(*split(y, 0)), axis=3)
    y = y.reshape(batch, rows, columns, 2, 2, 2, 2, -1)
    windows = y.transpose(0, 1, 3, 2, 5, 4, 6, 7)
    return windows.reshape(batch, 2 * rows, 2 * columns, 2, 2, -1)


def _kernel_matrices(kernel: _Kernel) -> Float[Array, "36 channels features"]:
    """What multiplies the sums of a tile's pixels."""
    k = jnp.stack(_kernel_sums(*split(kernel, 0)))
    k = jnp.stack(_kernel_sums(*split(k, 1)))
    return k.reshape(36, *kernel.shape[2:])


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
