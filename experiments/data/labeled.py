"""Labeled images, as every reader returns them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

ImageArray = UInt8[np.ndarray, "examples height width channels"]


class LabeledImages(NamedTuple):
    """Images of one size, each with the number of its class."""

    images: ImageArray  # or `StreamedImages`, which stand for it
    labels: Integer[np.ndarray, " examples"]

    def take(self, indices: Integer[np.ndarray, " chosen"]) -> "LabeledImages":
        return LabeledImages(self.images[indices], self.labels[indices])


class Changes(NamedTuple):
    """How data in memory differ from those that were stored: by default, not at all.

    Plans contain what differs from the defaults, under these names.
    """

    image_size: int | None = None  # height and width, to which all were brought
    left_out: Mapping[str, int] = {}  # files, by what is wrong with them
    converted: tuple[str, ...] = ()  # sentences for readers
