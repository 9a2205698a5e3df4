"""Loss and metric of a batch, and of all examples of a split."""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Float32, Int, PyTree

from experiments.data.examples import Examples, in_batches, sum_in_slices
from experiments.distributed.compilation import QuickJit, memory_of
from experiments.distributed.devices import device_mesh, placed, slice_size
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
from experiments.training.windows import Layout, Order, Windows

_BY_COLUMN = PartitionSpec(None, "data")
_TOTALS = PartitionSpec("lanes", "data")
_BATCH = 500  # images that a device scores at once; on a CPU, what its cache holds


class StreamedScore(Protocol):
    """Scores the runs of all lanes over a split whose images are streamed."""

    def __call__(
        self, params: PyTree, model_state: ModelState, split: Examples
    ) -> "Score": ...


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
        shared_spec=(PartitionSpec(), _BY_COLUMN),
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


def compile_streamed(
    mesh: Mesh, task: Task, params: PyTree, model_state: ModelState, split: Examples
) -> tuple[StreamedScore, int]:
    """Compiles `score_lanes` for a split of these sizes that is read window by window.

    Args:
      mesh: with the axes `lanes` and `data`.
      task: what the runs were trained for.
      params: shapes of leaves [lanes, ...].
      model_state: likewise.
      split: the examples, whose images are streamed.

    Returns:
      The function, and the bytes that it needs on each device.
    """
    indices, weights = map(np.asarray, _rows(split, mesh.shape["data"]))
    steps, width = indices.shape
    layout = Layout(mesh, 1, steps, width, True, split.images.shape[1:])
    by_column = NamedSharding(mesh, _BY_COLUMN)
    rows = placed(by_column, layout.rows()), placed(by_column, weights)
    lanes = len(jax.tree.leaves(params)[0])
    add = QuickJit(partial(_add_window, mesh, task), donate_argnums=0)
    finish = QuickJit(partial(_finish, mesh, examples_in(split)))
    by_device = NamedSharding(mesh, _TOTALS)
    zeros = np.zeros((lanes, mesh.shape["data"]), np.float32)
    number, window = np.int32(0), layout.shapes()
    totals = jax.ShapeDtypeStruct(zeros.shape, zeros.dtype, sharding=by_device)
    lowered = add.lower(
        (totals, totals), (params, model_state), rows, number, number, window
    )
    compiled = lowered.compile()

    def score_split(params: PyTree, model_state: ModelState, split: Examples) -> Score:
        windows = Windows(layout)
        order = Order(indices[None], weights > 0)
        totals = placed(by_device, zeros), placed(by_device, zeros)
        try:
            for start in range(0, steps, layout.window_steps):
                window = windows.at(start, "score", split, lambda: order)
                jax.block_until_ready(totals)  # no more than two windows in memory
                stop = min(start + layout.window_steps, steps)
                numbers = map(np.int32, (start, stop))
                variables = params, model_state
                totals = compiled(totals, variables, rows, *numbers, window)
        finally:
            windows.close()
        return finish(totals)

    return score_split, memory_of(compiled)


def _add_window(
    mesh: Mesh,
    task: Task,
    totals: tuple[Array, Array],
    variables: tuple[PyTree, ModelState],
    *shared: Any,
) -> tuple[Array, Array]:
    """Adds the rows of a window to the totals of each device, [lanes, devices].

    Args:
      mesh: with the axes `lanes` and `data`.
      task: what the runs were trained for.
      totals: of loss and metric.
      variables: parameters and model state, leaves [lanes, ...].
      *shared: the rows, the first of them to add, the first not to add, the window.
    """

    def add_on_device(
        totals: PyTree,
        variables: tuple[PyTree, ModelState],
        rows: PyTree,
        start: Array,
        stop: Array,
        window: Examples,
    ) -> PyTree:
        split = jax.tree.map(lambda x: x[0], window)

        def add(number: Array, totals: PyTree) -> PyTree:
            row = jax.tree.map(
                lambda x: jax.lax.dynamic_index_in_dim(x, number, keepdims=False), rows
            )
            sums = weighted_sums(task, *variables, split, *row, training=False)
            return jax.tree.map(jnp.add, totals, sums)

        totals = jax.tree.map(lambda x: x[0], totals)
        return as_lane(jax.lax.fori_loop(start, stop, add, totals))

    return map_lanes(
        mesh,
        add_on_device,
        lanes=(totals, variables),
        lanes_spec=(_TOTALS, LANES),
        shared=shared,
        shared_spec=(_BY_COLUMN, PartitionSpec(), PartitionSpec(), _BY_COLUMN),
        out_spec=_TOTALS,
    )


def _finish(mesh: Mesh, examples: int, totals: PyTree) -> Score:
    """Means of the devices' totals, [lanes]."""

    def of_lane(totals: PyTree) -> Score:
        sums = jax.lax.psum(jax.tree.map(lambda x: x[0], totals), "data")
        return Score(*(total / examples for total in sums))

    return map_lanes(
        mesh,
        of_lane,
        lanes=(totals,),
        lanes_spec=_TOTALS,
        shared=(),
        shared_spec=PartitionSpec(),
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
