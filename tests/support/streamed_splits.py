"""Splits of small images, in memory and as sources from which they are streamed."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from support.small_images import random_images

from experiments.data.examples import Examples, Splits
from experiments.data.streaming import streamed
from experiments.problems.problem import Task


class Stored:
    """An array as a source; `places` are those that were read."""

    def __init__(self, images: np.ndarray):
        self.images, self.places = images, []

    def read(self, places: Sequence[int]) -> list[np.ndarray]:
        self.places += places
        return [self.images[place] for place in places]


def examples(count: int) -> Examples:
    labels = np.random.default_rng(count).integers(0, 3, count, np.int32)
    return Examples(random_images(count, count, 5, 4, 1), labels)  # type: ignore


def from_store(part: Examples) -> Examples:
    images: np.ndarray = part.images  # type: ignore
    lazy = streamed(Stored(images), len(images), images.shape[1:])
    return Examples(lazy, part.labels)  # type: ignore


SPLITS = Splits(examples(61), examples(21), examples(7))
STREAMED = Splits(*map(from_store, SPLITS))


def _init(key, batch):
    width = int(np.prod(batch.images.shape[1:]))
    kernel = jax.random.normal(key, (width, 3), jnp.float32) / 8
    return {"kernel": kernel}, {"mean": jnp.zeros(width, jnp.float32)}


def _loss(params, model_state, batch, key, *, training):
    """Softmax regression on images from which a mean is subtracted, with Dropout."""
    flat = batch.images.reshape(len(batch.images), -1).astype(jnp.float32) / 255
    mean = flat.mean(0) if training else model_state["mean"]
    kept = flat - mean[None]
    if training:
        kept = jnp.where(jax.random.bernoulli(key, 0.8, kept.shape), kept, 0)
        running = 0.8 * model_state["mean"] + 0.2 * jax.lax.stop_gradient(mean)
        model_state = {"mean": running}
    logits = jax.nn.log_softmax(kept @ params["kernel"])
    losses = -jnp.take_along_axis(logits, batch.labels[:, None], 1)[:, 0]
    hits = (jnp.argmax(logits, 1).astype(jnp.int32) == batch.labels).astype(jnp.float32)
    return losses, {"accuracy": hits}, model_state


STATEFUL = Task(_init, _loss, None, "accuracy", True)
