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

from experiments import model, train
from experiments.devices import device_mesh, slice_size
from experiments.examples import Examples, Splits
from experiments.scoring import Network, Score, score_apart
from experiments.train import Underway

Transformation = Callable[[Any, Any], optax.GradientTransformation]

_LANES = PartitionSpec("lanes")
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
    network: Network = model,
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

    def begin(point: Point) -> Underway:
        own = transformation(point.learning_rate, point.beta)
        return train.begin(own, splits.train, splits.classes, point.seed, network)

    def score(params: model.Params, split: Examples) -> Score:
        of_lane = partial(score_apart, network=network)
        return _each_lane(mesh, of_lane, (params,), (split,))

    points = as_arrays([Point(0.01, 0.9, 0)] * filled)
    by_lane = NamedSharding(mesh, _LANES)
    start = jax.jit(jax.vmap(begin), out_shardings=by_lane).lower(points)
    underway = start.out_info
    advance = partial(_advance, network, transformation, batch_size, mesh)
    numbers = np.zeros(3, np.int32)
    advancing = jax.jit(advance, donate_argnums=1)
    compiled = advancing.lower(points, underway, *numbers, splits.train).compile()
    scoring = jax.jit(score)
    validate = scoring.lower(underway.params, splits.validation).compile()
    memory = max(map(_memory_of, (compiled, validate))) * jax.local_device_count()
    programs = start.compile(), compiled, validate, scoring
    return Program(*programs, batch_size, lanes, filled, memory)


def as_arrays(points: Sequence[Point]) -> Point:
    """The points as the one of arrays that a program takes."""
    return Point._make(map(np.array, zip(*points, strict=True), _DTYPES))


def _advance(
    network: Network,
    transformation: Transformation,
    batch_size: int,
    mesh: Mesh,
    points: Point,
    underway: Underway,
    epoch: Array,
    first: Array,
    last: Array,
    examples: Examples,
) -> Underway:
    """`train.take_steps` of every lane: the images in the order of its seed."""
    sharing = mesh.shape["data"]
    size = slice_size(batch_size, sharing)

    def rows_of(point: Point) -> tuple[Array, Array]:
        key = train.order_key(point.seed, epoch)
        return train.batch_rows(key, len(examples.labels), batch_size, sharing)

    def of_lane(point: Point, *rest: Any) -> Any:
        own = transformation(point.learning_rate, point.beta)
        return train.take_steps(network, own, size, None, *rest)

    lanes = points, underway, jax.vmap(rows_of)(points)
    by_row = PartitionSpec("lanes", None, "data")
    shared = first, last, examples
    return _each_lane(mesh, of_lane, lanes, shared, (_LANES, _LANES, by_row))


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
