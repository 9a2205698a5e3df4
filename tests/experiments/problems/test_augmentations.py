"""Crops and flips: each image is one of the 162 pictures that it can become."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.examples import Examples
from experiments.problems.augmentations import crop_flip

SIZE, CHANNELS, COUNT = 12, 1, 2_000


def batch(count: int) -> Examples:
    pixels = np.random.default_rng(2).integers(
        0, 256, (count, SIZE, SIZE, CHANNELS), dtype=np.uint8
    )
    return Examples(jnp.asarray(pixels), jnp.arange(count, dtype=jnp.int32))


def possible(image: np.ndarray) -> dict[bytes, tuple[int, int, bool]]:
    """All crops of the reflected image by content, plain and mirrored."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    return {
        crop[:, :: -1 if mirrored else 1].tobytes(): (top, left, mirrored)
        for top in range(9)
        for left in range(9)
        for mirrored in (False, True)
        for crop in [padded[top : top + SIZE, left : left + SIZE]]
    }


@pytest.mark.slow
def test_every_crop_and_flip_occurs_as_often_as_every_other():
    image = batch(1).images[0]
    copies = Examples(jnp.stack([image] * COUNT), jnp.zeros(COUNT, jnp.int32))
    found = np.asarray(jax.jit(crop_flip)(jax.random.key(3), copies).images)
    places = possible(np.asarray(image))
    seen = [places[each.tobytes()] for each in found]
    tops, lefts, mirrored = map(np.array, zip(*seen, strict=True))
    for values in (tops, lefts):
        counts = np.bincount(values, minlength=9)
        assert abs(counts / COUNT - 1 / 9).max() < 0.03
    assert abs(mirrored.mean() - 0.5) < 0.05
    assert abs(np.corrcoef([tops, lefts, mirrored]) - np.eye(3)).max() < 0.1


def test_labels_and_dtype_stay_and_the_key_decides():
    few = batch(5)
    first, again, other = (crop_flip(jax.random.key(k), few) for k in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).any()
    np.testing.assert_array_equal(first.labels, few.labels)
    assert first.images.dtype == np.uint8
