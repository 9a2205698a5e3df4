"""Labeled images in memory, as every reader returns them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8


class LabeledImages(NamedTuple):
    """Images of one size, each with the number of its class."""

    images: UInt8[np.ndarray, "examples height width channels"]
    labels: Integer[np.ndarray, " examples"]

    def take(self, indices: Integer[np.ndarray, " chosen"]) -> "LabeledImages":
        return LabeledImages(self.images[indices], self.labels[indices])
