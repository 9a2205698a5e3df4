"""A small network for small images: one hidden layer, as two functions of arrays."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp

from experiments.networks.cnn import Params

_HIDDEN = 64


def init(key: jax.Array, image_shape: tuple[int, int, int], classes: int) -> Params:
    """Draws the initial parameters: Glorot-uniform kernels and zero biases.

    Args:
      key: a JAX random key.
      image_shape: (height, width, channels).
      classes: the number of logits.

    Returns:
      `{layer: {"kernel": ..., "bias": ...}}`, float32.
    """
    sizes = pairwise((math.prod(image_shape), _HIDDEN, classes))
    draw = jax.nn.initializers.glorot_uniform()
    keys = jax.random.split(key)
    return {
        name: {"kernel": draw(key, size), "bias": jnp.zeros(size[1])}
        for name, key, size in zip(("dense1", "dense2"), keys, sizes, strict=True)
    }


def apply(params: Params, images: jax.Array) -> jax.Array:
    """The logits of images.

    Args:
      params: from `init` for images of the same shape.
      images: [batch, height, width, channels], float32 in [0, 1].

    Returns:
      [batch, classes], float32.
    """
    hidden = jax.nn.relu(_dense(params["dense1"], images.reshape(len(images), -1)))
    return _dense(params["dense2"], hidden)


def _dense(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"][None]
