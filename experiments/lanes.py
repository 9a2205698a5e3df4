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
from experiments.examples import Examples, Splits, in_batches
from experiments.scoring import Network, Score, score_apart

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

    start: Callable[..., Any]  # points ↦ params, state
    train_epoch: Callable[..., Any]  # points, params, state, epoch, train ↦ …, Score
    validate: Callable[..., Score]  # params, validation ↦ Score [lanes]
    score: Callable[..., Score]  # the same of any split, compiled when it is called
    lanes: int  # asked for
    filled: int  # lanes, and repetitions that give every device as many
    memory: int  # bytes that XLA says it needs, of all devices together


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

    def initial(point: Point) -> tuple[model.Params, optax.OptState]:
        seed = point.seed
        params = train.initial_params(splits.train, splits.classes, seed, network)
        return params, transformation(point.learning_rate, point.beta).init(params)

    def score(params: model.Params, split: Examples) -> Score:
        of_lane = partial(score_apart, network=network)
        return _each_lane(mesh, of_lane, (params,), split)

    points = as_arrays([Point(0.01, 0.9, 0)] * filled)
    by_lane = NamedSharding(mesh, _LANES)
    start = jax.jit(jax.vmap(initial), out_shardings=by_lane).lower(points)
    params, state = start.out_info
    epoch = partial(_train_epoch, network, transformation, batch_size, mesh)
    train_epoch = jax.jit(epoch, donate_argnums=(1, 2))
    arguments = (points, params, state, np.int32(0), splits.train)
    compiled = train_epoch.lower(*arguments).compile()
    scoring = jax.jit(score)
    validate = scoring.lower(params, splits.validation).compile()
    memory = max(map(_memory_of, (compiled, validate))) * devices
    return Program(start.compile(), compiled, validate, scoring, lanes, filled, memory)


def as_arrays(points: Sequence[Point]) -> Point:
    """The points as the one of arrays that a program takes."""
    return Point._make(map(np.array, zip(*points, strict=True), _DTYPES))


def _train_epoch(
    network: Network,
    transformation: Transformation,
    batch_size: int,
    mesh: Mesh,
    points: Point,
    params: model.Params,
    state: optax.OptState,
    epoch: Array,
    examples: Examples,
) -> tuple[model.Params, optax.OptState, Score]:
    """`train.steps` of every lane: every example once, in the order of its seed."""
    sharing = mesh.shape["data"]
    size = slice_size(batch_size, sharing)

    def rows_of(point: Point) -> tuple[Array, Array]:
        key = train.order_key(point.seed, epoch)
        order = jax.random.permutation(key, len(examples.labels))
        return in_batches(order, batch_size, size * sharing)

    def of_lane(point: Point, *rest: Any) -> Any:
        own = transformation(point.learning_rate, point.beta)
        return train.steps(network, own, size, *rest)

    lanes = points, params, state, jax.vmap(rows_of)(points)
    by_row = PartitionSpec("lanes", None, "data")
    return _each_lane(mesh, of_lane, lanes, examples, (*[_LANES] * 3, by_row))


def _each_lane(
    mesh: Mesh,
    function: Callable[..., Any],
    lanes: Any,
    examples: Examples,
    specs: Any = _LANES,
) -> Any:
    """`function(*lane, examples)` of every lane, each device calling it for its own."""

    def on_device(lanes: Any, examples: Examples) -> Any:
        def call(lane: Any) -> Any:
            return function(*lane, examples)

        one_after_another = jax.default_backend() == "cpu"
        return jax.lax.map(call, lanes) if one_after_another else jax.vmap(call)(lanes)

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(specs, PartitionSpec()),
        out_specs=_LANES,
        check_vma=False,  # as in `train`
    )(lanes, examples)


def _memory_of(compiled: Any) -> int:
    """Bytes that a compiled program takes on each device, donated ones counted once."""
    sizes = compiled.memory_analysis()
    outputs = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return sizes.argument_size_in_bytes + outputs + sizes.temp_size_in_bytes
