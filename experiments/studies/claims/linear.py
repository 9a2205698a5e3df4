"""The linear model of images and tables, as two functions of arrays."""

import math

import jax
import jax.numpy as jnp

from experiments.networks.cnn import Params


def init(key: jax.Array, image_shape: tuple[int, int, int], classes: int) -> Params:
    """A Glorot-uniform kernel and zero biases; arguments as for `mlp.init`."""
    shape = math.prod(image_shape), classes
    kernel = jax.nn.initializers.glorot_uniform()(key, shape)
    return {"dense1": {"kernel": kernel, "bias": jnp.zeros(classes)}}


def apply(params: Params, images: jax.Array) -> jax.Array:
    """The logits of images [batch, height, width, channels]."""
    layer = params["dense1"]
    return images.reshape(len(images), -1) @ layer["kernel"] + layer["bias"][None]
