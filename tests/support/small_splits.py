"""Three splits of a few random images; 8 does not divide the training images."""

import jax.numpy as jnp
import numpy as np

from experiments.data.examples import Examples, Splits
from experiments.networks import cnn
from experiments.problems.image_classification import image_classification

RNG = np.random.default_rng(5)


def examples(count: int) -> Examples:
    """Images of 18 x 18 in three classes."""
    images = RNG.integers(0, 256, (count, 18, 18, 1), dtype=np.uint8)
    labels = RNG.integers(0, 3, count, dtype=np.int32)
    return Examples(jnp.asarray(images), jnp.asarray(labels))


SPLITS = Splits(examples(29), examples(10), examples(7))
TASK = image_classification(cnn, classes=3)
