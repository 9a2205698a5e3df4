"""Layouts: how another library orders the axes of a kernel."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """How another library stores a leaf: two functions, inverses of each other."""

    ours: Callable[[np.ndarray], np.ndarray]  # maps their array to ours
    theirs: Callable[[np.ndarray], np.ndarray]  # maps our array to theirs


SAME = Layout(np.asarray, np.asarray)
LINEAR = Layout(*2 * [partial(np.transpose, axes=(1, 0))])  # [out, in] → [in, out]
CONVOLUTION = Layout(  # [out, in, *window] → [*window, in, out], e.g. OIHW → HWIO
    ours=partial(np.moveaxis, source=(0, 1), destination=(-1, -2)),
    theirs=partial(np.moveaxis, source=(-1, -2), destination=(0, 1)),
)


def flattened(channels: int, height: int, width: int) -> Layout:
    """The layout of the first linear layer after flattened images.

    PyTorch flattens [channels, height, width], JAX [height, width, channels], so the
    weight [out, channels·height·width] becomes [height·width·channels, out].

    Args:
      channels: channels of the flattened image, after the last pooling.
      height: rows of that image.
      width: columns of that image.

    Returns:
      A `Layout`.

    >>> weight = np.arange(4).reshape(1, 4)  # pixels a and b, channels 0 and 1
    >>> flattened(channels=2, height=1, width=2).ours(weight).ravel()  # a0, a1, b0, b1
    array([0, 2, 1, 3])
    """

    def ours(weight: np.ndarray) -> np.ndarray:
        images = weight.reshape(-1, channels, height, width)
        return images.transpose(2, 3, 1, 0).reshape(height * width * channels, -1)

    def theirs(kernel: np.ndarray) -> np.ndarray:
        images = kernel.reshape(height, width, channels, -1)
        return images.transpose(3, 2, 0, 1).reshape(-1, channels * height * width)

    return Layout(ours, theirs)
