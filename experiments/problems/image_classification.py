"""The built-in problem: which class does an image show? Softmax cross-entropy."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import PyTree

from experiments.data.examples import Examples
from experiments.networks.network import Network, RandomKey
from experiments.networks.on_cpu import fast_on_cpu
from experiments.problems.problem import (
    Init,
    Loss,
    LossResult,
    ModelState,
    Task,
    needs_whole_batches,
)

Augment = Callable[[RandomKey, Examples], Examples]


def image_classification(
    network: Network,
    classes: int,
    label_smoothing: float = 0.0,
    augment: Augment | None = None,
) -> Task:
    """The task of a built-in network. Equal arguments give the same task."""
    return _task(network, classes, label_smoothing, augment)


@cache
def _task(
    network: Any, classes: int, label_smoothing: float, augment: Augment | None
) -> Task:
    def init(key: RandomKey, batch: Examples) -> tuple[PyTree, ModelState]:
        _, height, width, channels = batch.images.shape
        return network.init(key, (height, width, channels), classes), ()

    def logits_of(params, model_state, batch, key, *, training):
        del key, training
        return network.apply(params, as_floats(batch.images)), {}, model_state

    loss = cross_entropy(logits_of, label_smoothing)
    return Task(init, loss, augment, "accuracy", augment is not None)


def module_task(
    init: Init,
    logits_of: Loss,
    few: Examples,
    label_smoothing: float = 0.0,
    augment: Augment | None = None,
) -> Task:
    """The task of a module, whose `logits_of` returns logits in place of losses."""
    loss = cross_entropy(logits_of, label_smoothing)
    whole = augment is not None or needs_whole_batches(init, loss, few)
    return Task(init, fast_on_cpu(loss), augment, "accuracy", whole)


def cross_entropy(logits_of: Loss, label_smoothing: float = 0.0) -> Loss:
    """The loss for logits, in nats, with the metric "accuracy": 1 for a hit, else 0.

    Args:
      logits_of: as a `Loss`, but returns logits [batch, classes].
      label_smoothing: the share of each target that is spread over all classes, in
        training alone.
    """

    def loss(
        params: PyTree,
        model_state: ModelState,
        batch: Examples,
        key: RandomKey,
        *,
        training: bool,
    ) -> LossResult:
        logits, _, model_state = logits_of(
            params, model_state, batch, key, training=training
        )
        labels = batch.labels
        if label_smoothing and training:
            targets = jax.nn.one_hot(labels, logits.shape[-1])
            targets = optax.smooth_labels(targets, label_smoothing)
            losses = optax.softmax_cross_entropy(logits, targets)
        else:
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        hits = (jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels).astype(
            jnp.float32
        )
        return losses, {"accuracy": hits}, model_state

    return loss


def as_floats(images: Array) -> Array:
    """Images in [0, 1]; bytes stay bytes until they are in a batch."""
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
