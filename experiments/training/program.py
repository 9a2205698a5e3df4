"""K ≥ 1 training runs as one compiled program.

Runs of one program share everything but a learning rate, a beta and a seed; each is a
*lane* of the program. Devices divide the lanes among them, and no step waits for
another device. Where lanes are fewer than devices, the devices of one lane share each
batch. A CPU trains its lanes in turn, because its cache holds what one lane needs; a
GPU or TPU trains its lanes in lockstep.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32, Int, PyTree, UInt32

from experiments.data.examples import Examples, Splits
from experiments.data.streaming import is_streamed
from experiments.distributed.compilation import QuickJit, memory_of
from experiments.distributed.devices import (
    device_mesh,
    placed,
    slice_size,
    to_host,
)
from experiments.problems.problem import (
    Batch,
    ModelState,
    Task,
    examples_in,
    some_examples,
)
from experiments.training import process_shard
from experiments.training.lanes import LANES, as_lane, map_lanes
from experiments.training.scoring import Score, compile_streamed, score_lanes
from experiments.training.step import (
    Rows,
    TrainSpec,
    TrainState,
    batch_rows,
    epoch_order,
    initial_variables,
    noise_key,
    order_key,
    run_on_device,
    run_whole_batches,
    state_from_params,
)
from experiments.training.windows import Layout, Order, Windows

_ROWS = PartitionSpec("lanes", None, "data")
_WINDOWS = PartitionSpec("lanes", "data")  # of streamed examples
_EVERYWHERE = PartitionSpec()
_DTYPES = (np.float32, np.float32, np.uint32)


class Point(NamedTuple):
    """What distinguishes one run of a program."""

    learning_rate: float
    beta: float
    seed: int  # of initial parameters and data order


class Points(NamedTuple):
    """The points of all lanes; within a lane, scalars."""

    learning_rate: Float32[Array, "*lanes"]
    beta: Float32[Array, "*lanes"]
    seed: UInt32[Array, "*lanes"]


class Start(Protocol):
    """Initial parameters and optimizer states."""

    def __call__(self, points: Points) -> TrainState: ...


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


class ScoreRuns(Protocol):
    """Mean loss and metric over a split, arrays [lanes]."""

    def __call__(self, state: TrainState, split: Batch) -> Score: ...


@dataclass(frozen=True)
class Program:
    """Compiled training of some runs at a time, for any points."""

    start: Start
    train_steps: TrainSteps
    score: ScoreRuns
    spec: TrainSpec
    lanes: int  # requested
    padded_lanes: int  # lanes plus repetitions that give every device equally many
    memory: int  # bytes that XLA plans for, on all devices of this process
    compile_seconds: float
    close: Callable[[], None] = lambda: None  # ends threads that read ahead


def compile_program(
    spec: TrainSpec, lanes: int, splits: Splits, *, test: bool = False
) -> Program:
    """Compiles the training of some runs, whatever memory they need.

    Args:
      spec: what the runs share.
      lanes: how many runs train at a time.
      splits: what all runs read.
      test: whether to compile the scoring of the test split as well.

    Returns:
      The program, for as many points as its `padded_lanes`.
    """
    began = time.perf_counter()
    groups = _groups(lanes, jax.device_count(), spec.task.whole_batches)
    padded = -(-lanes // groups) * groups
    mesh = device_mesh(groups)
    points = as_arrays([Point(0.01, 0.9, 0)] * padded)
    by_lane = NamedSharding(mesh, LANES)
    draw = partial(_initial_variables, mesh, spec.task)
    few = some_examples(splits.train)
    variables = jax.tree.map(
        lambda x: x.update(sharding=by_lane), jax.eval_shape(draw, points.seed, few)
    )
    init_states = QuickJit(partial(_init_states, spec), out_shardings=by_lane)
    lowered = init_states.lower(points, *variables)
    state = lowered.out_info
    with ThreadPoolExecutor(max_workers=1) as thread:
        compiling = thread.submit(
            _compile_steps, spec, mesh, points, state, splits.train
        )
        scored = {"validation": splits.validation}
        if test:
            scored["test"] = splits.test
        scoring = {
            _shapes(split): _compile_score(spec.task, mesh, state, split)
            for split in scored.values()
        }
        init = lowered.compile()
        steps = compiling.result()
    needed = [steps.memory, *(memory for _, memory in scoring.values())]
    memory = max(needed) * jax.local_device_count()

    def start(points: Points) -> TrainState:
        return init(points, *draw(points.seed, few))

    def score(state: TrainState, split: Batch) -> Score:
        key = _shapes(split)
        if key not in scoring:
            scoring[key] = _compile_score(spec.task, mesh, state, split)
        return scoring[key][0](state.params, state.model_state, split)

    seconds = time.perf_counter() - began
    return Program(
        start, steps.train, score, spec, lanes, padded, memory, seconds, steps.close
    )


def as_arrays(points: Sequence[Point]) -> Points:
    """The points as the arrays that a program takes."""
    return Points._make(map(np.array, zip(*points, strict=True), _DTYPES))


def _groups(lanes: int, devices: int, whole_batches: bool) -> int:
    """How many groups of devices train lanes of their own.

    A step that must see its whole batch is computed by one device or, in global view,
    by all; so fewer lanes than devices, but more than one, are padded.
    """
    if whole_batches:
        return devices if lanes > 1 else 1
    return max(n for n in range(1, devices + 1) if devices % n == 0 and n <= lanes)


class _Steps(NamedTuple):
    """Compiled training steps."""

    train: TrainSteps
    memory: int  # bytes on each device
    close: Callable[[], None] = lambda: None


def _compile_score(
    task: Task, mesh: Mesh, state: TrainState, split: Batch
) -> tuple[Callable[..., Score], int]:
    """The scoring of a split of these sizes, and the bytes on each device."""
    variables = state.params, state.model_state
    if is_streamed(split):
        return compile_streamed(mesh, task, *variables, split)
    compiled = score_lanes.lower(mesh, task, *variables, split).compile()
    return compiled, memory_of(compiled)


def _compile_steps(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Batch
) -> _Steps:
    """The training steps, for data in memory or not."""
    if is_streamed(train):
        compile_streamed_steps = (
            _compile_streamed_whole_batches
            if spec.task.whole_batches
            else _compile_streamed_steps
        )
        return compile_streamed_steps(spec, mesh, points, state, train)
    if spec.task.whole_batches:
        return _compile_whole_batches(spec, mesh, points, state, train)
    if mesh.shape["lanes"] == 1 and jax.process_count() > 1:
        return _compile_sharded_steps(spec, mesh, points, state, train)
    rows_of = partial(_rows, mesh, examples_in(train), spec.batch_size)
    rows = rows_of(points.seed, np.int32(0))
    numbers = np.zeros(2, np.int32)
    steps = QuickJit(partial(run_on_mesh, spec, mesh), donate_argnums=1)
    compiled = steps.lower(points, state, rows, *numbers, train).compile()

    def train_steps(points, state, epoch, start_step, stop_step, train) -> TrainState:
        epoch, *numbers = map(np.int32, (epoch, start_step, stop_step))
        return compiled(points, state, rows_of(points.seed, epoch), *numbers, train)

    return _Steps(train_steps, memory_of(compiled))


def _compile_whole_batches(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Batch
) -> _Steps:
    """Steps on whole batches; an epoch's last, smaller batch has its own program."""
    full, rest = divmod(examples_in(train), spec.batch_size)
    rows_of = partial(_whole_rows, mesh, examples_in(train), spec.batch_size)
    rows = rows_of(points.seed, np.int32(0))
    numbers = np.zeros(4, np.int32)
    steps = QuickJit(partial(run_whole_on_mesh, spec, mesh), donate_argnums=1)
    compiled = [
        steps.lower(points, state, part, *numbers, train).compile() if count else None
        for part, count in zip(rows, (full, rest), strict=True)
    ]
    order: dict[tuple[bytes, int], Any] = {}  # of the epoch that was used last

    def train_steps(points, state, epoch, start_step, stop_step, train) -> TrainState:
        key = np.asarray(points.seed).tobytes(), int(epoch)
        if key not in order:
            order.clear()
            order[key] = rows_of(points.seed, np.int32(epoch))
        parts = (0, full), (full, full + bool(rest))
        for part, program, (first, end) in zip(
            order[key], compiled, parts, strict=True
        ):
            start, stop = max(start_step, first), min(stop_step, end)
            if program is not None and start < stop:
                numbers = map(np.int32, (epoch, first, start, stop))
                state = program(points, state, part, *numbers, train)
        return state

    memory = max(memory_of(each) for each in compiled if each is not None)
    return _Steps(train_steps, memory)


def _compile_sharded_steps(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Batch
) -> _Steps:
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

    return _Steps(train_steps, memory_of(compiled))


def _compile_streamed_steps(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Examples
) -> _Steps:
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

    return _streamed(Windows(layout), order, call, memory_of(compiled))


def _compile_streamed_whole_batches(
    spec: TrainSpec, mesh: Mesh, points: Points, state: TrainState, train: Examples
) -> _Steps:
    """Steps on whole batches, on windows of examples."""
    examples, batch_size, lanes = examples_in(train), spec.batch_size, len(points.seed)
    full, steps = examples // batch_size, -(-examples // batch_size)
    layout = Layout(mesh, lanes, steps, batch_size, False, train.images.shape[1:])
    real = np.arange(steps * batch_size).reshape(steps, batch_size) < examples
    window_rows = layout.rows()
    last = window_rows[full:, : examples - full * batch_size]
    program = QuickJit(
        partial(run_whole_on_mesh, spec, mesh, train_by_lane=True), donate_argnums=1
    )
    by_lane, numbers = NamedSharding(mesh, LANES), np.zeros(4, np.int32)
    parts = []  # first step, last step + 1, rows, program
    for first, end, rows in (0, full, window_rows[:full]), (full, steps, last):
        if first < end:
            rows = placed(by_lane, np.broadcast_to(rows, (lanes, *rows.shape)))
            lowered = program.lower(points, state, rows, *numbers, layout.shapes())
            parts.append((first, end, rows, lowered.compile()))

    def order(points: Points, epoch: int) -> Order:
        rows = _whole_rows(mesh, examples, batch_size, points.seed, np.int32(epoch))
        flat = [to_host(part).reshape(lanes, -1) for part in rows]
        indices = np.zeros((lanes, steps * batch_size), np.int32)
        indices[:, :examples] = np.concatenate(flat, axis=1)
        return Order(indices.reshape(lanes, steps, batch_size), real)

    def call(points, state, epoch, start_step, stop_step, train) -> TrainState:
        for first, end, rows, compiled in parts:
            start, stop = max(start_step, first), min(stop_step, end)
            if start < stop:
                numbers = map(np.int32, (epoch, first, start, stop))
                state = compiled(points, state, rows, *numbers, train)
        return state

    memory = max(memory_of(compiled) for *_, compiled in parts)
    return _streamed(Windows(layout), order, call, memory)


def _streamed(
    windows: Windows,
    order: Callable[[Points, int], Order],
    call: TrainSteps,
    memory: int,
) -> _Steps:
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

    return _Steps(train_steps, memory, windows.close)


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

    def train_on_window(
        point: Points, state: TrainState, rows: Rows, window: Batch, *steps: Array
    ) -> TrainState:
        return train_lane(point, state, rows, *steps, window)

    if train_spec == _WINDOWS:
        return map_lanes(
            mesh,
            train_on_window,
            lanes=(points, state, rows, train),
            lanes_spec=(LANES, LANES, _ROWS, _WINDOWS),
            shared=(start_step, stop_step),
            shared_spec=_EVERYWHERE,
        )
    return map_lanes(
        mesh,
        train_lane,
        lanes=(points, state, rows),
        lanes_spec=(LANES, LANES, _ROWS),
        shared=(start_step, stop_step, train),
        shared_spec=(_EVERYWHERE, _EVERYWHERE, train_spec),
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

    def train_on_window(
        point: Points, state: TrainState, rows: Array, window: Batch, *numbers: Array
    ) -> TrainState:
        transformation = spec.optimizer(point.learning_rate, point.beta)
        epoch, first, start, stop = numbers
        noise = noise_key(point.seed, epoch)
        return run_whole_batches(
            spec, transformation, share, state, noise, rows, first, start, stop, window
        )

    def train_on_all(
        point: Points, state: TrainState, rows: Array, *shared: Any
    ) -> TrainState:
        *numbers, train = shared
        return train_on_window(point, state, rows, train, *numbers)

    lanes: tuple[Any, ...] = points, state, rows
    shared: tuple[Any, ...] = epoch, first_row, start_step, stop_step
    train_lane: Callable[..., TrainState] = train_on_all
    if train_by_lane:
        lanes, train_lane = (*lanes, train), train_on_window
    else:
        shared = *shared, train
    if in_global_view:
        lane = jax.tree.map(lambda x: x[0], lanes)
        trained = as_lane(train_lane(*lane, *shared))
        return jax.lax.with_sharding_constraint(trained, NamedSharding(mesh, LANES))
    return map_lanes(
        mesh,
        train_lane,
        lanes=lanes,
        lanes_spec=LANES,
        shared=shared,
        shared_spec=_EVERYWHERE,
    )


def _init_states(
    spec: TrainSpec, points: Points, params: PyTree, model_state: ModelState
) -> TrainState:
    """Optimizer states for drawn parameters; leaves [lanes, ...]."""

    def init_lane(point: Points, params: PyTree, model_state: ModelState) -> TrainState:
        transformation = spec.optimizer(point.learning_rate, point.beta)
        return state_from_params(transformation, params, model_state)

    lanes = points, params, model_state
    if len(points.seed) == 1:  # a user's optimizer need not support vmap
        return as_lane(init_lane(*jax.tree.map(lambda x: x[0], lanes)))
    return jax.vmap(init_lane)(*lanes)


@partial(QuickJit, static_argnums=(0, 1))
def _initial_variables(
    mesh: Mesh, task: Task, seeds: Array, few: Batch
) -> tuple[PyTree, ModelState]:
    """Parameters and model states of all lanes; one program serves all optimizers."""

    def draw(seed: Array) -> tuple[PyTree, ModelState]:
        return initial_variables(task, few, seed)

    by_lane = NamedSharding(mesh, LANES)
    return jax.lax.with_sharding_constraint(jax.vmap(draw)(seeds), by_lane)


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


def _shapes(split: Batch) -> tuple[object, ...]:
    leaves = jax.tree.leaves(split)
    return is_streamed(split), *((x.shape, np.dtype(x.dtype)) for x in leaves)
