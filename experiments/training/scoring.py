"""Loss and accuracy of a batch, and of all examples of a split."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float, Float32, Int, PyTree

from experiments.data.examples import Examples, in_batches, sum_in_slices
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import device_mesh, slice_size
from experiments.networks import cnn
from experiments.networks.network import Network
from experiments.training.lanes import LANES, as_lane, map_lanes

_BATCH = 500  # images that a device scores at once; on a CPU, what its cache holds


class Score(NamedTuple):
    """Means over all examples of a split."""

    loss: Float32[Array, "*runs"]  # softmax cross-entropy, in nats
    accuracy: Float32[Array, "*runs"]  # in [0, 1]


@partial(QuickJit, static_argnums=2)
def score(params: cnn.Params, split: Examples, network: Network = cnn) -> Score:
    """Scores one run over a split, which all devices share."""
    scores = score_lanes(device_mesh(), network, as_lane(params), split)
    return jax.tree.map(lambda x: x[0], scores)


@partial(QuickJit, static_argnums=(0, 1))
def score_lanes(
    mesh: Mesh, network: Network, params: cnn.Params, split: Examples
) -> Score:
    """Scores the runs of all lanes over a split, which the devices of a lane share.

    Args:
      mesh: with the axes `lanes` and `data`.
      network: what is scored.
      params: leaves [lanes, ...].
      split: the examples, replicated.

    Returns:
      Arrays [lanes].
    """

    def score_lane(params: cnn.Params, split: Examples, rows: PyTree) -> Score:
        sums = jax.lax.psum(_sums(network, params, split, rows), "data")
        return Score(*(total / len(split.labels) for total in sums))

    return map_lanes(
        mesh,
        score_lane,
        lanes=(params,),
        lanes_spec=LANES,
        shared=(split, _rows(split, mesh.shape["data"])),
        shared_spec=(PartitionSpec(), PartitionSpec(None, "data")),
    )


def _rows(split: Examples, devices: int) -> tuple[Array, Array]:
    """Rows that hold every example once; the devices share each row."""
    examples = len(split.labels)
    part = min(slice_size(_BATCH, 1), -(-examples // devices))
    return in_batches(jnp.arange(examples, dtype=jnp.int32), part * devices)


def _sums(
    network: Network, params: cnn.Params, split: Examples, rows: tuple[Array, Array]
) -> PyTree:
    """Loss and hits, summed over a device's columns of the rows."""
    size = rows[0].shape[1]
    return sum_in_slices(
        lambda rows: weighted_sums(network, params, split, *rows), rows, size
    )


def weighted_sums(
    network: Network,
    params: cnn.Params,
    split: Examples,
    indices: Int[Array, " batch"],
    weights: Float[Array, " batch"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Loss and hits, summed over a batch; padding has weight 0."""
    images = split.images[indices]
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    labels = split.labels[indices]
    logits = network.apply(params, images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels).astype(
        jnp.float32
    )
    return jnp.sum(weights * losses), jnp.sum(weights * hits)
