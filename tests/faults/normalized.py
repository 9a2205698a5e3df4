"""A network with model state and random numbers, and an optimizer for it."""

import math

from flax import nnx

from optax_momentum import keras


def optimizers(learning_rate):
    """One optimizer: each compiles its own programs."""
    return {"keras": keras(learning_rate, 0.9)}


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
