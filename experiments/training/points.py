"""The points at which the runs of one program train."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Float32, UInt32

_DTYPES = (np.float32, np.float32, np.uint32)


class Point(NamedTuple):
    """What distinguishes one run of a program."""

    learning_rate: float
    beta: float
    seed: int  # of initial parameters and data order


class Points(NamedTuple):
    """The points of all lanes; within a lane, scalars."""

    learning_rate: Float32[Array, "*lanes"]
    beta: Float32[Array, "*lanes"]
    seed: UInt32[Array, "*lanes"]


def as_arrays(points: Sequence[Point]) -> Points:
    """The points as the arrays that a program takes."""
    return Points._make(map(np.array, zip(*points, strict=True), _DTYPES))
