"""A small network for small images: one hidden layer."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array

from experiments.networks.network import Images, ImageShape, Logits, Params, RandomKey

_HIDDEN = 64  # units


def init(key: RandomKey, image_shape: ImageShape, classes: int) -> Params:
    """Draws the initial parameters: Glorot-uniform kernels and zero biases, float32."""
    sizes = pairwise((math.prod(image_shape), _HIDDEN, classes))
    draw = jax.nn.initializers.glorot_uniform(dtype=jnp.float32)
    keys = jax.random.split(key)
    return {
        name: {"kernel": draw(key, size), "bias": jnp.zeros(size[1], jnp.float32)}
        for name, key, size in zip(("dense1", "dense2"), keys, sizes, strict=True)
    }


def apply(params: Params, images: Images) -> Logits:
    """The logits of images; `params` must be from `init` for images of their shape."""
    hidden = jax.nn.relu(_dense(params["dense1"], images.reshape(len(images), -1)))
    return _dense(params["dense2"], hidden)


def _dense(layer: dict[str, Array], x: Array) -> Array:
    return x @ layer["kernel"] + layer["bias"][None]
