"""Compiled training steps of all lanes, wherever their examples are.

Examples are replicated on the devices; or each process copies its own shard of an epoch
(`process_shard`); or they are read when they are needed, window by window (`windows`).
One function takes the steps in all these cases, so their bits are equal.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from experiments.data.examples import Examples
from experiments.data.streaming import is_streamed
from experiments.distributed.compilation import QuickJit, memory_of
from experiments.distributed.devices import placed, slice_size, to_host
from experiments.problems.problem import Batch, examples_in
from experiments.training import process_shard
from experiments.training.lanes import LANES, as_lane, map_lanes
from experiments.training.points import Points
from experiments.training.step import (
    Rows,
    TrainSpec,
    TrainState,
    batch_rows,
    epoch_order,
    noise_key,
    order_key,
    run_on_device,
    run_whole_batches,
)
from experiments.training.windows import Layout, Order, Windows

_ROWS = PartitionSpec("lanes", None, "data")
_WINDOWS = PartitionSpec("lanes", "data")  # of streamed examples
_EVERYWHERE = PartitionSpec()


class TrainSteps(Protocol):
    """Steps `start_step` to `stop_step` − 1 of an epoch. Donates `state`."""

    def __call__(
        self,
        points: Points,
        state: TrainState,
        epoch: int,
        start_step: int,
        stop_step: int,
        train: Batch,
    ) -> TrainState: ...


class CompiledSteps(NamedTuple):
    """Compiled training steps."""

    train: TrainSteps
    memory: int  # bytes on each device
    close: Callable[[], None] = lambda: None  # ends threads that read ahead


def compile_steps(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Batch
) -> CompiledSteps:
    """Compiles the steps for examples like these.

    Args:
      spec: what the lanes share.
      mesh: with the axes `lanes` and `data`.
      points: arrays [lanes].
      state: shapes of leaves [lanes, ...].
      train: the training examples.
    """
    compiling = spec, mesh, points, state, train
    if is_streamed(train):
        if spec.task.whole_batches:
            return _streamed_whole_batches(*compiling)
        return _streamed_steps(*compiling)
    if spec.task.whole_batches:
        return _whole_batches(*compiling)
    if mesh.shape["lanes"] == 1 and jax.process_count() > 1:
        return _sharded_steps(*compiling)
    return _replicated_steps(*compiling)


def _replicated_steps(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Batch
) -> CompiledSteps:
    """Steps whose examples are all on every device."""
    rows_of = partial(_rows, mesh, examples_in(train), spec.batch_size)
    rows = rows_of(points.seed, np.int32(0))
    numbers = np.zeros(2, np.int32)
    steps = QuickJit(partial(run_on_mesh, spec, mesh), donate_argnums=1)
    compiled = steps.lower(points, state, rows, *numbers, train).compile()

    def train_steps(points, state, epoch, start_step, stop_step, train) -> TrainState:
        epoch, *numbers = map(np.int32, (epoch, start_step, stop_step))
        return compiled(points, state, rows_of(points.seed, epoch), *numbers, train)

    return CompiledSteps(train_steps, memory_of(compiled))


def _sharded_steps(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Batch
) -> CompiledSteps:
    """Steps for which each process copies only its own images, once an epoch."""
    sizes = examples_in(train), spec.batch_size, jax.device_count()

    def rows_of(seed: Array, epoch: int) -> Rows:
        return batch_rows(order_key(seed[0], epoch), *sizes)

    by_image = process_shard.BY_IMAGE
    steps = QuickJit(
        partial(run_on_mesh, spec, mesh, train_spec=by_image), donate_argnums=1
    )
    rows = jax.eval_shape(partial(rows_of, points.seed, 0))
    rows, images = process_shard.shapes(train, rows)
    numbers = np.zeros(2, np.int32)
    compiled = steps.lower(points, state, rows, *numbers, images).compile()
    shards: dict[tuple[int, int], Any] = {}

    def train_steps(points, state, epoch, start_step, stop_step, train) -> TrainState:
        key = int(points.seed[0]), int(epoch)
        if key not in shards:
            shards.clear()  # the previous epoch's
            shards[key] = process_shard.own_shard(train, rows_of(points.seed, epoch))
        rows, images = shards[key]
        numbers = map(np.int32, (start_step, stop_step))
        return compiled(points, state, rows, *numbers, images)

    return CompiledSteps(train_steps, memory_of(compiled))


def _streamed_steps(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Examples
) -> CompiledSteps:
    """Steps on windows of examples that are read when they are needed."""
    rows_of = partial(_rows, mesh, examples_in(train), spec.batch_size)
    weights = to_host(rows_of(points.seed, np.int32(0))[1])
    lanes, steps, width = weights.shape
    layout = Layout(mesh, lanes, steps, width, True, train.images.shape[1:])
    by_row = NamedSharding(mesh, _ROWS)
    indices = np.broadcast_to(layout.rows(), weights.shape)
    rows = placed(by_row, indices), placed(by_row, weights)
    program = QuickJit(
        partial(run_on_mesh, spec, mesh, train_spec=_WINDOWS), donate_argnums=1
    )
    numbers = np.zeros(2, np.int32)
    compiled = program.lower(points, state, rows, *numbers, layout.shapes()).compile()

    def order(points: Points, epoch: int) -> Order:
        indices, weights = rows_of(points.seed, np.int32(epoch))
        return Order(to_host(indices), to_host(weights)[0] > 0)

    def call(points, state, epoch, start_step, stop_step, train) -> TrainState:
        numbers = map(np.int32, (start_step, stop_step))
        return compiled(points, state, rows, *numbers, train)

    return _by_window(Windows(layout), order, call, memory_of(compiled))


def _whole_batches(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Batch
) -> CompiledSteps:
    """Steps on whole batches of examples that are all on every device."""
    rows_of = partial(_whole_rows, mesh, examples_in(train), spec.batch_size)
    rows = rows_of(points.seed, np.int32(0))
    call, memory = _compile_parts(spec, mesh, points, state, rows, train)
    orders: dict[tuple[bytes, int], Any] = {}  # the rows of the epoch used last

    def train_steps(points, state, epoch, start_step, stop_step, train) -> TrainState:
        key = np.asarray(points.seed).tobytes(), int(epoch)
        if key not in orders:
            orders.clear()
            orders[key] = rows_of(points.seed, np.int32(epoch))
        return call(points, state, orders[key], epoch, start_step, stop_step, train)

    return CompiledSteps(train_steps, memory)


def _streamed_whole_batches(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Examples
) -> CompiledSteps:
    """Steps on whole batches, on windows of examples."""
    examples, batch_size, lanes = examples_in(train), spec.batch_size, len(points.seed)
    full, steps = examples // batch_size, -(-examples // batch_size)
    layout = Layout(mesh, lanes, steps, batch_size, False, train.images.shape[1:])
    real = np.arange(steps * batch_size).reshape(steps, batch_size) < examples
    last = layout.rows()[full:, : examples - full * batch_size]
    rows = [
        placed(NamedSharding(mesh, LANES), np.broadcast_to(part, (lanes, *part.shape)))
        for part in (layout.rows()[:full], last)
    ]
    compiled, memory = _compile_parts(
        spec, mesh, points, state, rows, layout.shapes(), train_by_lane=True
    )

    def order(points: Points, epoch: int) -> Order:
        parts = _whole_rows(mesh, examples, batch_size, points.seed, np.int32(epoch))
        flat = [to_host(part).reshape(lanes, -1) for part in parts]
        indices = np.zeros((lanes, steps * batch_size), np.int32)
        indices[:, :examples] = np.concatenate(flat, axis=1)
        return Order(indices.reshape(lanes, steps, batch_size), real)

    def call(points, state, epoch, start_step, stop_step, train) -> TrainState:
        return compiled(points, state, rows, epoch, start_step, stop_step, train)

    return _by_window(Windows(layout), order, call, memory)


def _compile_parts(
    spec: TrainSpec,
    mesh: Mesh,
    points: Points,
    state: TrainState,
    rows: Sequence[Int[Array, "lanes steps batch"]],
    train: Batch,
    **options: bool,
) -> tuple[Callable[..., TrainState], int]:
    """Steps on an epoch's full batches, and on its last, smaller one.

    Args:
      spec: what the lanes share.
      mesh: see `run_whole_on_mesh`.
      points: arrays [lanes].
      state: shapes of leaves [lanes, ...].
      rows: of the full batches and of the last one; either may have no examples.
      train: what they index.
      **options: of `run_whole_on_mesh`.

    Returns:
      A function as `TrainSteps`, with such rows before the epoch, and the bytes that it
      needs on each device.
    """
    steps = QuickJit(
        partial(run_whole_on_mesh, spec, mesh, **options), donate_argnums=1
    )
    numbers = np.zeros(4, np.int32)
    programs = [
        steps.lower(points, state, part, *numbers, train).compile()
        if part.size
        else None
        for part in rows
    ]

    def call(points, state, rows, epoch, start_step, stop_step, train) -> TrainState:
        first = 0
        for part, program in zip(rows, programs, strict=True):
            if program is None:
                continue
            end = first + part.shape[1]
            start, stop = max(start_step, first), min(stop_step, end)
            if start < stop:
                numbers = map(np.int32, (epoch, first, start, stop))
                state = program(points, state, part, *numbers, train)
            first = end
        return state

    return call, max(memory_of(each) for each in programs if each is not None)


def _by_window(
    windows: Windows,
    order: Callable[[Points, int], Order],
    call: TrainSteps,
    memory: int,
) -> CompiledSteps:
    """Steps that read a window while the devices train on the one before."""

    def train_steps(points, state, epoch, start_step, stop_step, train) -> TrainState:
        key = np.asarray(points.seed).tobytes(), int(epoch)
        while start_step < stop_step:
            window = windows.at(start_step, key, train, lambda: order(points, epoch))
            jax.block_until_ready(state)  # no more than two windows in memory
            end = min(windows.layout.window_end(start_step), stop_step)
            state = call(points, state, epoch, start_step, end, window)
            start_step = end
        return state

    return CompiledSteps(train_steps, memory, windows.close)


def run_on_mesh(
    spec: TrainSpec,
    mesh: Mesh,
    points: Points,
    state: TrainState,
    rows: Rows,
    start_step: Int[Array, ""],
    stop_step: Int[Array, ""],
    train: Batch,
    train_spec: PartitionSpec = _EVERYWHERE,
) -> TrainState:
    """Steps of all lanes on a mesh with the axes `lanes` and `data`.

    Args:
      spec: what the lanes share.
      mesh: devices; those of one group along `lanes` share each batch.
      points: arrays [lanes].
      state: leaves [lanes, ...].
      rows: [lanes, steps, images].
      start_step: first step to take.
      stop_step: first step not to take.
      train: the images that `rows` index, with an axis of lanes if they are windows.
      train_spec: how `train` lies on the mesh.
    """
    size = slice_size(spec.batch_size, mesh.shape["data"])

    def train_lane(point: Points, *rest: PyTree) -> TrainState:
        transformation = spec.optimizer(point.learning_rate, point.beta)
        return run_on_device(spec, transformation, size, *rest)

    by_lane = train_spec == _WINDOWS
    lanes, shared = (points, state, rows), (start_step, stop_step)
    function, lanes, shared = _with_train(train_lane, lanes, shared, train, by_lane)
    return map_lanes(
        mesh,
        function,
        lanes=lanes,
        lanes_spec=(LANES, LANES, _ROWS, train_spec)[: len(lanes)],
        shared=shared,
        shared_spec=(_EVERYWHERE, _EVERYWHERE, train_spec)[: len(shared)],
    )


def run_whole_on_mesh(
    spec: TrainSpec,
    mesh: Mesh,
    points: Points,
    state: TrainState,
    rows: Int[Array, "lanes steps batch"],
    epoch: Int[Array, ""],
    first_row: Int[Array, ""],
    start_step: Int[Array, ""],
    stop_step: Int[Array, ""],
    train: Batch,
    train_by_lane: bool = False,
) -> TrainState:
    """Steps on whole batches: of all lanes in their places, or of one in global view.

    Args:
      spec: what the lanes share.
      mesh: devices, either all along `lanes` or all along `data`.
      points: arrays [lanes].
      state: leaves [lanes, ...].
      rows: indices of examples.
      epoch: of which the steps are part.
      first_row: the step of the first row.
      start_step: first step to take.
      stop_step: first step not to take.
      train: the examples that `rows` index, replicated.
      train_by_lane: whether `train` has windows instead, with an axis of lanes.
    """
    divided = rows.shape[2] % mesh.shape["data"] == 0
    by_example = NamedSharding(mesh, PartitionSpec("data" if divided else None))
    in_global_view = mesh.shape["data"] > 1

    def share(tree: PyTree) -> PyTree:
        """In global view, the partitioner of XLA sums over all shares of a batch."""
        if not in_global_view:
            return tree
        return jax.lax.with_sharding_constraint(tree, by_example)

    def train_lane(
        point: Points, state: TrainState, rows: Array, epoch: Array, *rest: PyTree
    ) -> TrainState:
        transformation = spec.optimizer(point.learning_rate, point.beta)
        noise = noise_key(point.seed, epoch)
        return run_whole_batches(spec, transformation, share, state, noise, rows, *rest)

    lanes, shared = (points, state, rows), (epoch, first_row, start_step, stop_step)
    function, lanes, shared = _with_train(
        train_lane, lanes, shared, train, train_by_lane
    )
    if in_global_view:
        lane = jax.tree.map(lambda x: x[0], lanes)
        trained = as_lane(function(*lane, *shared))
        return jax.lax.with_sharding_constraint(trained, NamedSharding(mesh, LANES))
    return map_lanes(
        mesh,
        function,
        lanes=lanes,
        lanes_spec=LANES,
        shared=shared,
        shared_spec=_EVERYWHERE,
    )


def _with_train(
    function: Callable[..., TrainState],
    lanes: tuple[PyTree, ...],
    shared: tuple[PyTree, ...],
    train: Batch,
    by_lane: bool,
) -> tuple[Callable[..., TrainState], tuple[PyTree, ...], tuple[PyTree, ...]]:
    """Adds the examples, the function's last argument, to what lanes have or share."""
    if not by_lane:
        return function, lanes, (*shared, train)

    def on_window(*arguments: PyTree) -> TrainState:
        lane, (window, *rest) = arguments[: len(lanes)], arguments[len(lanes) :]
        return function(*lane, *rest, window)

    return on_window, (*lanes, train), shared


@partial(QuickJit, static_argnums=(0, 1, 2))
def _rows(mesh: Mesh, images: int, batch_size: int, seeds: Array, epoch: Array) -> Rows:
    """Rows of an epoch for all lanes, [lanes, steps, images]."""

    def of_lane(seed: Array) -> Rows:
        key = order_key(seed, epoch)
        return batch_rows(key, images, batch_size, mesh.shape["data"])

    by_row = NamedSharding(mesh, _ROWS)
    return jax.lax.with_sharding_constraint(jax.vmap(of_lane)(seeds), by_row)


@partial(QuickJit, static_argnums=(0, 1, 2))
def _whole_rows(
    mesh: Mesh, examples: int, batch_size: int, seeds: Array, epoch: Array
) -> tuple[Array, Array]:
    """An epoch's order for all lanes: full batches, and the examples that are left."""

    def of_lane(seed: Array) -> tuple[Array, Array]:
        order = epoch_order(order_key(seed, epoch), examples)
        full = examples // batch_size * batch_size
        return order[:full].reshape(-1, batch_size), order[full:].reshape(1, -1)

    by_lane = NamedSharding(mesh, LANES)
    return jax.lax.with_sharding_constraint(jax.vmap(of_lane)(seeds), by_lane)
