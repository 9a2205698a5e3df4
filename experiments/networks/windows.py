"""What lies under each position of a sliding window, as slices of whole arrays."""

from jax import Array, lax


def under_window(
    x: Array, axis: int, size: int, stride: int = 1, dilation: int = 1
) -> list[Array]:
    """For each position in the window, the elements under it wherever the window lies.

    Args:
      x: any array.
      axis: along which the window slides.
      size: elements in the window.
      stride: from one place of the window to the next.
      dilation: between two elements of the window.

    Returns:
      `size` arrays of as many elements along the axis as the window has places.
    """
    places = (x.shape[axis] - (size - 1) * dilation - 1) // stride + 1
    if places == 1 and dilation == 1:
        stride = size
    if stride == 1:
        starts = (position * dilation for position in range(size))
        return [_part(x, start, places, axis) for start in starts]
    # Strided slices have slow gradients, whole blocks of `stride` elements don't.
    blocks = -(-x.shape[axis] // stride)
    if missing := blocks * stride - x.shape[axis]:
        zero = lax.full((), 0, x.dtype)
        width = [(0, missing if a == axis else 0, 0) for a in range(x.ndim)]
        x = lax.pad(x, zero, width)
    shape = *x.shape[:axis], blocks, stride, *x.shape[axis + 1 :]
    phases = split(x.reshape(shape), axis + 1)
    starts = (divmod(position * dilation, stride) for position in range(size))
    return [_part(phases[phase], block, places, axis) for block, phase in starts]


def _part(x: Array, start: int, size: int, axis: int) -> Array:
    if size == x.shape[axis]:
        return x
    return lax.slice_in_dim(x, start, start + size, axis=axis)


def split(x: Array, axis: int) -> list[Array]:
    """The slices along an axis, with one concatenation as their gradient.

    The gradient of indexing would be a sum of one padded array per slice.
    """
    return [y.squeeze(axis) for y in lax.split(x, [1] * x.shape[axis], axis)]
