"""Three splits of few random images, whose training set no batch of 8 divides."""

import jax.numpy as jnp
import numpy as np

from experiments.data.examples import Examples, Splits

RNG = np.random.default_rng(5)


def examples(count: int) -> Examples:
    """Images of 18 x 18, of three classes."""
    images = RNG.integers(0, 256, (count, 18, 18, 1), dtype=np.uint8)
    labels = RNG.integers(0, 3, count, dtype=np.int32)
    return Examples(jnp.asarray(images), jnp.asarray(labels))


SPLITS = Splits(examples(29), examples(10), examples(7), classes=3)
