"""How another library stores a leaf: layouts of kernels, each with its inverse."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """How another library stores a leaf: two functions, each the other's inverse."""

    ours: Callable[[np.ndarray], np.ndarray]  # from their array to ours
    theirs: Callable[[np.ndarray], np.ndarray]  # and back


SAME = Layout(np.asarray, np.asarray)
LINEAR = Layout(*2 * [partial(np.transpose, axes=(1, 0))])  # [out, in] to [in, out]
CONVOLUTION = Layout(  # [out, in, *window] to [*window, in, out]: OIHW to HWIO
    ours=partial(np.moveaxis, source=(0, 1), destination=(-1, -2)),
    theirs=partial(np.moveaxis, source=(-1, -2), destination=(0, 1)),
)


def flattened(channels: int, height: int, width: int) -> Layout:
    """The layout of the first linear layer after flattening images.

    PyTorch flattens [channels, height, width], JAX [height, width, channels]: the
    weight [out, channels·height·width] becomes [height·width·channels, out].

    Args:
      channels: of the image as it is flattened, after the last pooling.
      height: its rows.
      width: its columns.
    """

    def ours(weight: np.ndarray) -> np.ndarray:
        images = weight.reshape(-1, channels, height, width)
        return images.transpose(2, 3, 1, 0).reshape(height * width * channels, -1)

    def theirs(kernel: np.ndarray) -> np.ndarray:
        images = kernel.reshape(height, width, channels, -1)
        return images.transpose(3, 2, 0, 1).reshape(-1, channels * height * width)

    return Layout(ours, theirs)
