"""Training on 1, 2, 4, ... devices, and the exchanges among them."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree

from experiments.bench import scaling_model, table
from experiments.bench.exchange import exchanges
from experiments.data.examples import Examples
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import device_mesh, slice_size
from experiments.networks import cnn
from experiments.optimizers.arms import ARMS
from experiments.problems.image_classification import image_classification
from experiments.training.lanes import as_lane
from experiments.training.mesh_steps import run_on_mesh
from experiments.training.points import Point, as_arrays
from experiments.training.step import (
    Rows,
    TrainSpec,
    TrainState,
    batch_rows,
    constant,
    initial_variables,
    order_key,
    shard_sums,
    state_from_params,
)
from optax_momentum import reduce_scatter, sharded, sharding_plan

IMAGES = 2048  # random, 32x32x3, float32
BATCH_SIZE = 64
CLASSES = 10
TASK = image_classification(cnn, CLASSES)
LEARNING_RATE, BETA = 0.01, 0.9
TURNS = 5

_EVERYWHERE = PartitionSpec()

Epoch = Callable[[PyTree], PyTree]  # maps a training state to the state an epoch later


def bench_scaling() -> None:
    """Measures, prints JSON lines to stdout and tables to stderr."""
    counts = [2**n for n in range(jax.device_count().bit_length())]
    strong = {n: BATCH_SIZE for n in counts}
    weak = {n: BATCH_SIZE * n for n in counts}
    for name, batches in (("strong", strong), ("weak", weak)):
        title = f"{name} scaling, images per second"
        table.print_records(title, _compared(name, batches))
    table.print_records("exchanges", exchanges(counts[1:]))
    table.print_records("on paper: a step of ResNet-50", scaling_model.steps())
    table.print_records("on paper: its momentum, MB a device", scaling_model.states())


def _compared(name: str, batches: Mapping[int, int]) -> Iterator[dict[str, object]]:
    """Measures epochs on each number of devices, with the state whole and divided."""
    programs = {
        (devices, state): table.timed(*start(device_mesh(count=devices), batch_size))
        for devices, batch_size in batches.items()
        for state, start in (("whole", whole), ("divided", divided))
    }
    seconds = table.seconds_in_turn(programs, TURNS)
    one_device = statistics.median(seconds[1, "whole"])
    for (devices, state), in_turns in seconds.items():
        median = statistics.median(in_turns)
        yield {
            "benchmark": "scaling",
            "scaling": name,
            "devices": devices,
            "batch_size": batches[devices],
            "state": state,
            "images_per_second": round(IMAGES / median, 1),
            "slowest": round(IMAGES / max(in_turns), 1),
            "fastest": round(IMAGES / min(in_turns), 1),
            "times_one_device": round(one_device / median, 3),
        }


def whole(mesh: Mesh, batch_size: int) -> tuple[Epoch, PyTree]:
    """An epoch of a run on these devices only, and the state in which it begins."""
    transformation, state, examples = _init(mesh)
    spec = TrainSpec(constant(transformation), batch_size, TASK)
    points = as_arrays([Point(LEARNING_RATE, BETA, 0)])
    steps = QuickJit(partial(run_on_mesh, spec, mesh, points), donate_argnums=0)
    rows = _rows(mesh, batch_size)
    numbers = np.int32(0), np.int32(len(rows[0]))
    lane = as_lane(rows)
    return lambda state: steps(state, lane, *numbers, examples), as_lane(state)


def divided(mesh: Mesh, batch_size: int) -> tuple[Epoch, PyTree]:
    """The same, but each device keeps only its part of the momentum."""
    transformation, (params, *_), examples = _init(mesh)
    plan = sharding_plan(transformation, params, mesh, "data")
    optimizer = sharded(transformation, plan)
    rows, size = _rows(mesh, batch_size), slice_size(batch_size, mesh.size)

    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(_EVERYWHERE, PartitionSpec(None, "data"), _EVERYWHERE, _EVERYWHERE),
        out_specs=plan.slices,
        check_vma=False,  # see `training/lanes.py`
    )
    def mean_gradients(
        params: PyTree, rows: Rows, number: Int[Array, ""], examples: Examples
    ) -> PyTree:
        _, sums, _ = shard_sums(TASK, size, params, rows, number, examples)
        return reduce_scatter(jax.tree.map(lambda g: g / batch_size, sums), plan)

    @partial(QuickJit, donate_argnums=0)
    def steps(carry: PyTree, rows: Rows, examples: Examples) -> PyTree:
        def step(number: Int[Array, ""], carry: PyTree) -> PyTree:
            params, state = carry
            gradients = mean_gradients(params, rows, number, examples)
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, len(rows[0]), step, carry)

    return lambda carry: steps(carry, rows, examples), (params, optimizer.init(params))


def _init(mesh: Mesh) -> tuple[optax.GradientTransformation, TrainState, Examples]:
    """A run before its first step, and random images, on these devices."""
    rng = np.random.default_rng(0)
    pixels = rng.random((IMAGES, 32, 32, 3), dtype=np.float32)
    labels = rng.integers(0, CLASSES, IMAGES, dtype=np.int32)
    transformation = ARMS["keras"].transformation(LEARNING_RATE, BETA)
    examples = Examples(jnp.asarray(pixels), jnp.asarray(labels))
    params, _ = initial_variables(TASK, examples, seed=0)
    state = state_from_params(transformation, params)
    everywhere = NamedSharding(mesh, _EVERYWHERE)
    return transformation, *jax.device_put((state, examples), everywhere)


def _rows(mesh: Mesh, batch_size: int) -> Rows:
    rows = batch_rows(order_key(0, 0), IMAGES, batch_size, mesh.size)
    return jax.device_put(rows, NamedSharding(mesh, PartitionSpec(None, "data")))
