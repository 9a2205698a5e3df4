"""Loss and metric of a batch, and of all examples of a split."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float, Float32, Int, PyTree

from experiments.data.examples import in_batches, sum_in_slices
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import device_mesh, slice_size
from experiments.networks.network import random_key
from experiments.problems.problem import (
    Batch,
    ModelState,
    Task,
    examples_in,
    take,
    value_of,
)
from experiments.training.lanes import LANES, as_lane, map_lanes

_BATCH = 500  # images that a device scores at once; on a CPU, what its cache holds


class Score(NamedTuple):
    """Means over all examples of a split."""

    loss: Float32[Array, "*runs"]
    metric: Float32[Array, "*runs"]  # the mean, to which `of_mean` was not applied yet


@partial(QuickJit, static_argnums=0)
def score(
    task: Task, params: PyTree, split: Batch, model_state: ModelState = ()
) -> Score:
    """Scores one run over a split, which all devices share."""
    variables = as_lane((params, model_state))
    scores = score_lanes(device_mesh(), task, *variables, split)
    return jax.tree.map(lambda x: x[0], scores)


@partial(QuickJit, static_argnums=(0, 1))
def score_lanes(
    mesh: Mesh, task: Task, params: PyTree, model_state: ModelState, split: Batch
) -> Score:
    """Scores the runs of all lanes over a split, which the devices of a lane share.

    Args:
      mesh: with the axes `lanes` and `data`.
      task: what the runs were trained for.
      params: leaves [lanes, ...].
      model_state: leaves [lanes, ...].
      split: the examples, replicated.

    Returns:
      Arrays [lanes].
    """

    def score_lane(
        params: PyTree, model_state: ModelState, split: Batch, rows: PyTree
    ) -> Score:
        sums = jax.lax.psum(_sums(task, params, model_state, split, rows), "data")
        return Score(*(total / examples_in(split) for total in sums))

    return map_lanes(
        mesh,
        score_lane,
        lanes=(params, model_state),
        lanes_spec=LANES,
        shared=(split, _rows(split, mesh.shape["data"])),
        shared_spec=(PartitionSpec(), PartitionSpec(None, "data")),
    )


def _rows(split: Batch, devices: int) -> tuple[Array, Array]:
    """Rows that hold every example once; the devices share each row."""
    examples = examples_in(split)
    part = min(slice_size(_BATCH, 1), -(-examples // devices))
    return in_batches(jnp.arange(examples, dtype=jnp.int32), part * devices)


def _sums(
    task: Task,
    params: PyTree,
    model_state: ModelState,
    split: Batch,
    rows: tuple[Array, Array],
) -> PyTree:
    """Loss and metric, summed over a device's columns of the rows."""
    size = rows[0].shape[1]
    return sum_in_slices(
        lambda rows: weighted_sums(
            task, params, model_state, split, *rows, training=False
        ),
        rows,
        size,
    )


def weighted_sums(
    task: Task,
    params: PyTree,
    model_state: ModelState,
    split: Batch,
    indices: Int[Array, " batch"],
    weights: Float[Array, " batch"],
    *,
    training: bool,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Loss and metric, summed over a batch; padding has weight 0.

    For evaluation, and for tasks whose training needs neither a key nor a whole batch.
    """
    batch = take(split, indices)
    losses, metrics, _ = task.loss(
        params, model_state, batch, random_key(0), training=training
    )
    values = value_of(task.metric, losses, metrics)
    return jnp.sum(weights * losses), jnp.sum(weights * values)
