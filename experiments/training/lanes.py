"""Many training runs as one program: lanes, which differ in numbers alone.

Devices share the lanes out, and each trains its own: no step waits for another device.
A CPU trains one lane after another, as its cache holds what one needs; other devices
train all of theirs in step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.data.examples import Examples, Splits
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import device_mesh, slice_size
from experiments.networks import cnn
from experiments.training import train
from experiments.training.scoring import Network, Score, score_apart
from experiments.training.train import Underway

Transformation = Callable[[Any, Any], optax.GradientTransformation]

_LANES, _ROWS = PartitionSpec("lanes"), PartitionSpec("lanes", None, "data")
_DTYPES = (np.float32, np.float32, np.uint32)


class Point(NamedTuple):
    """All that one run has of its own; in a program, arrays of shape [lanes]."""

    learning_rate: float  # float32
    beta: float  # float32
    seed: int  # uint32; of the initial parameters and of the data order


class Program(NamedTuple):
    """The training of some lanes at a time, compiled once for all points."""

    start: Callable[..., Underway]  # points ↦ a run a lane
    # Points, runs, epoch, its first step and the one not taken any more, train ↦ runs.
    advance: Callable[..., Underway]
    validate: Callable[..., Score]  # params, validation ↦ Score [lanes]
    score: Callable[..., Score]  # the same of any split, compiled when it is called
    batch_size: int  # images a step of one run
    lanes: int  # asked for
    filled: int  # lanes, and repetitions that give every device as many
    memory: int  # bytes that XLA says it needs, of this process's devices


def compile_lanes(
    transformation: Transformation,
    lanes: int,
    splits: Splits,
    batch_size: int,
    network: Network = cnn,
) -> Program:
    """Compiles the training of some lanes, whatever memory they need.

    Args:
      transformation: of (learning_rate, beta), which it gets as traced scalars.
      lanes: how many; where these are fewer than the devices, some devices share the
        images of each batch instead.
      splits: what all runs read.
      batch_size: images a step of one run.
      network: what is trained.

    Returns:
      The program, for as many points as `filled` says.
    """
    devices = jax.device_count()
    groups = max(n for n in range(1, devices + 1) if devices % n == 0 and n <= lanes)
    filled = -(-lanes // groups) * groups
    mesh = device_mesh(groups)

    def begin(point: Point, params: cnn.Params) -> Underway:
        return train.begun(transformation(point.learning_rate, point.beta), params)

    initial = partial(_initial, mesh, network, splits.classes, splits.train)

    points = as_arrays([Point(0.01, 0.9, 0)] * filled)
    by_lane = NamedSharding(mesh, _LANES)
    params = jax.eval_shape(initial, points.seed)
    params = jax.tree.map(lambda x: x.update(sharding=by_lane), params)
    beginning = QuickJit(jax.vmap(begin), out_shardings=by_lane).lower(points, params)
    underway = beginning.out_info
    rows_of = partial(_rows, mesh, len(splits.train.labels), batch_size)
    rows = rows_of(points.seed, np.int32(0))
    steps = partial(_steps, network, transformation, batch_size, mesh)
    numbers = np.zeros(2, np.int32)
    advancing = QuickJit(steps, donate_argnums=1)
    compiled = advancing.lower(points, underway, rows, *numbers, splits.train).compile()
    scored = mesh, network, underway.params, splits.validation
    validate = _score.lower(*scored).compile()
    memory = max(map(_memory_of, (compiled, validate))) * jax.local_device_count()
    began = beginning.compile()

    def start(points: Point) -> Underway:
        return began(points, initial(points.seed))

    def advance(points, underway, epoch, first, last, train) -> Underway:
        rows = rows_of(points.seed, epoch)
        return compiled(points, underway, rows, first, last, train)

    programs = start, advance, validate, partial(_score, mesh, network)
    return Program(*programs, batch_size, lanes, filled, memory)


def as_arrays(points: Sequence[Point]) -> Point:
    """The points as the one of arrays that a program takes."""
    return Point._make(map(np.array, zip(*points, strict=True), _DTYPES))


@partial(QuickJit, static_argnums=(0, 1, 2))
def _initial(
    mesh: Mesh, network: Network, classes: int, examples: Examples, seeds: Array
) -> cnn.Params:
    """What lanes begin with: one program for all methods."""

    def of_lane(seed: Array) -> cnn.Params:
        return train.initial_params(examples, classes, seed, network)

    by_lane = NamedSharding(mesh, _LANES)
    return jax.lax.with_sharding_constraint(jax.vmap(of_lane)(seeds), by_lane)


@partial(QuickJit, static_argnums=(0, 1, 2))
def _rows(
    mesh: Mesh, images: int, batch_size: int, seeds: Array, epoch: Array
) -> tuple[Array, Array]:
    """Every lane's `train.batch_rows`, in the order of its seed; likewise."""

    def of_lane(seed: Array) -> tuple[Array, Array]:
        key = train.order_key(seed, epoch)
        return train.batch_rows(key, images, batch_size, mesh.shape["data"])

    by_row = NamedSharding(mesh, _ROWS)
    return jax.lax.with_sharding_constraint(jax.vmap(of_lane)(seeds), by_row)


@partial(QuickJit, static_argnums=(0, 1))
def _score(mesh: Mesh, network: Network, params: cnn.Params, split: Examples) -> Score:
    """Of every lane."""
    of_lane = partial(score_apart, network=network)
    return _each_lane(mesh, of_lane, (params,), (split,))


def _steps(
    network: Network,
    transformation: Transformation,
    batch_size: int,
    mesh: Mesh,
    points: Point,
    underway: Underway,
    rows: tuple[Array, Array],
    first: Array,
    last: Array,
    examples: Examples,
) -> Underway:
    """`train.take_steps` of every lane."""
    size = slice_size(batch_size, mesh.shape["data"])

    def of_lane(point: Point, *rest: Any) -> Any:
        own = transformation(point.learning_rate, point.beta)
        return train.take_steps(network, own, size, None, *rest)

    lanes, shared = (points, underway, rows), (first, last, examples)
    return _each_lane(mesh, of_lane, lanes, shared, (_LANES, _LANES, _ROWS))


def _each_lane(
    mesh: Mesh,
    function: Callable[..., Any],
    lanes: Any,
    shared: Any,
    specs: Any = _LANES,
) -> Any:
    """`function(*lane, *shared)` of every lane, each device calling it for its own."""

    def on_device(lanes: Any, shared: Any) -> Any:
        def call(lane: Any) -> Any:
            return function(*lane, *shared)

        one_after_another = jax.default_backend() == "cpu"
        return jax.lax.map(call, lanes) if one_after_another else jax.vmap(call)(lanes)

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(specs, PartitionSpec()),
        out_specs=_LANES,
        check_vma=False,  # as in `train`
    )(lanes, shared)


def _memory_of(compiled: Any) -> int:
    """Bytes that a compiled program takes on each device, donated ones counted once."""
    sizes = compiled.memory_analysis()
    outputs = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return sizes.argument_size_in_bytes + outputs + sizes.temp_size_in_bytes
