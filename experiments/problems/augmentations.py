"""Augmentations: how training images vary from epoch to epoch."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int, Shaped

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
    count = len(batch.images)
    corners = jax.random.randint(shift_key, (count, 2), 0, 2 * _MARGIN + 1)
    cropped = moved(batch.images, _MARGIN, corners)
    mirrored = jax.random.bernoulli(flip_key, shape=(count,))
    return batch._replace(
        images=jnp.where(mirrored[:, None, None, None], cropped[:, :, ::-1], cropped)
    )


def moved(images: Images, margin: int, corners: Int[Array, "batch 2"]) -> Images:
    """Crops images of their own size, which begin at these corners of their margins.

    Args:
      images: any.
      margin: pixels on all sides, reflections of the image.
      corners: rows and columns, from 0 to 2 · margin.
    """

    def crop(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

    return jax.vmap(crop)(reflected(images, margin), corners)


def reflected(images: Images, margin: int) -> Images:
    """The images with reflections of themselves on all sides, so many pixels wide."""
    sides = (0, 0), (margin, margin), (margin, margin), (0, 0)
    return jnp.pad(images, sides, mode="reflect")


AUGMENTATIONS = {"none": None, "crop-flip": crop_flip}
