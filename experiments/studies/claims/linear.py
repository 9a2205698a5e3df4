"""The linear model of images and tables, as two functions of arrays."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from experiments.networks.cnn import Params
from experiments.networks.network import RandomKey


def init(key: RandomKey, image_shape: tuple[int, int, int], classes: int) -> Params:
    """A Glorot-uniform kernel and zero biases; same arguments as `mlp.init`."""
    shape = math.prod(image_shape), classes
    kernel = jax.nn.initializers.glorot_uniform(dtype=jnp.float32)(key, shape)
    return {"dense1": {"kernel": kernel, "bias": jnp.zeros(classes, jnp.float32)}}


def apply(
    params: Params, images: Float[Array, "batch height width channels"]
) -> Float[Array, "batch classes"]:
    """The logits of images."""
    layer = params["dense1"]
    return images.reshape(len(images), -1) @ layer["kernel"] + layer["bias"][None]
