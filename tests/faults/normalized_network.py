"""A network with model state and random numbers, for `--model`."""

import math

from flax import nnx


def network(image_shape, classes, rngs):
    """One hidden layer with BatchNorm and Dropout."""
    return nnx.Sequential(
        lambda images: images.reshape(len(images), -1),
        nnx.Linear(math.prod(image_shape), 16, rngs=rngs),
        nnx.BatchNorm(16, momentum=0.9, rngs=rngs),
        nnx.relu,
        nnx.Dropout(0.2, rngs=rngs),
        nnx.Linear(16, classes, rngs=rngs),
    )
