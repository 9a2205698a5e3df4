"""Augmentations: how training images vary from epoch to epoch."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Shaped

from experiments.data.examples import Examples
from experiments.networks.network import RandomKey

_MARGIN = 4  # pixels

Images = Shaped[Array, "batch height width channels"]


def crop_flip(key: RandomKey, batch: Examples) -> Examples:
    """Moves each image by up to 4 pixels both ways, and mirrors it half of the times.

    The margins that a move uncovers are reflections of the image. As He et al. 2015,
    arXiv:1512.03385, section 4.2, train on CIFAR-10, except that their margins are 0.
    """
    shift_key, flip_key = jax.random.split(key)
    images = batch.images
    count, height, width, channels = images.shape
    margins = (0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)
    padded = jnp.pad(images, margins, mode="reflect")
    corners = jax.random.randint(shift_key, (count, 2), 0, 2 * _MARGIN + 1)

    def crop(image: Array, corner: Array) -> Array:
        start = corner[0], corner[1], 0
        return jax.lax.dynamic_slice(image, start, (height, width, channels))

    cropped = jax.vmap(crop)(padded, corners)
    mirrored = jax.random.bernoulli(flip_key, shape=(count,))
    return batch._replace(
        images=jnp.where(mirrored[:, None, None, None], cropped[:, :, ::-1], cropped)
    )


AUGMENTATIONS = {"none": None, "crop-flip": crop_flip}
