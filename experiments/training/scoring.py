"""Loss and accuracy: of a batch, and of all examples of a split."""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import PartitionSpec

from experiments.data.examples import Examples, in_batches, sum_in_slices
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import device_mesh, slice_size
from experiments.networks import cnn

_BATCH = 500  # images a device scores at once, of a CPU what stays in its cache


class Score(NamedTuple):
    """Means over all examples of a split."""

    loss: Array  # float32: softmax cross-entropy, in nats
    accuracy: Array  # float32 in [0, 1]


class Network(Protocol):
    """Two functions of plain arrays: the modules `model` and `mlp` are such."""

    def init(
        self, key: Array, image_shape: tuple[int, int, int], classes: int
    ) -> cnn.Params: ...

    def apply(self, params: cnn.Params, images: Array) -> Array: ...


def check_takes(network: Network, images: Any, classes: int) -> None:
    """Raises `UsageError` where a network refuses such images; nothing is computed."""
    _, height, width, channels = images.shape
    shape = height, width, channels
    jax.eval_shape(lambda: network.init(jax.random.key(0), shape, classes))


@partial(QuickJit, static_argnums=2)
def score(params: cnn.Params, split: Examples, network: Network = cnn) -> Score:
    """Loss and accuracy over all examples of a split, shared out to all devices."""
    rows = _rows(split, jax.device_count())
    sums = jax.shard_map(
        lambda *shared: jax.lax.psum(_sums(network, *shared), "data"),
        mesh=device_mesh(),
        in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec(None, "data")),
        out_specs=PartitionSpec(),
        check_vma=False,  # as in `train`
    )(params, split, rows)
    return _means(sums, split)


def score_apart(params: cnn.Params, split: Examples, network: Network = cnn) -> Score:
    """The same, all of it on the device that calls it."""
    return _means(_sums(network, params, split, _rows(split, 1)), split)


def _rows(split: Examples, devices: int) -> tuple[Array, Array]:
    """All examples, none of them dropped; every batch is for all devices."""
    examples = len(split.labels)
    part = min(slice_size(_BATCH, 1), -(-examples // devices))
    return in_batches(jnp.arange(examples), part * devices)


def _sums(
    network: Network, params: cnn.Params, split: Examples, rows: tuple[Array, Array]
) -> Any:
    """Sums over a device's rows of loss and of hits."""
    size = rows[0].shape[1]
    return sum_in_slices(
        lambda rows: weighted_sums(network, params, split, *rows), rows, size
    )


def _means(sums: Any, split: Examples) -> Score:
    return Score(*(each / len(split.labels) for each in sums))


def weighted_sums(
    network: Network,
    params: cnn.Params,
    split: Examples,
    indices: Array,
    weights: Array,
) -> tuple[Array, Array]:
    """Sums over a batch of loss and of hits; filling has weight 0."""
    images = split.images[indices]
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    labels = split.labels[indices]
    logits = network.apply(params, images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    return jnp.sum(weights * losses), jnp.sum(weights * hits)
