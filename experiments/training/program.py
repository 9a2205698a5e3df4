"""K ≥ 1 training runs as one compiled program.

Runs of one program share everything but a learning rate, a beta and a seed; each is a
*lane* of the program. Devices divide the lanes among them, and no step waits for
another device. Where lanes are fewer than devices, the devices of one lane share each
batch. A CPU trains its lanes in turn, because its cache holds what one lane needs; a
GPU or TPU trains its lanes in lockstep.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jaxtyping import PyTree

from experiments.data.examples import Splits
from experiments.data.streaming import is_streamed
from experiments.distributed.compilation import QuickJit, memory_of
from experiments.distributed.devices import device_mesh
from experiments.problems.problem import Batch, ModelState, Task, some_examples
from experiments.training.lanes import LANES, as_lane
from experiments.training.mesh_steps import TrainSteps, compile_steps
from experiments.training.points import Point, Points, as_arrays
from experiments.training.scoring import Score, compile_streamed, score_lanes
from experiments.training.step import (
    TrainSpec,
    TrainState,
    initial_variables,
    state_from_params,
)


class Start(Protocol):
    """Initial parameters and optimizer states."""

    def __call__(self, points: Points) -> TrainState: ...


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
            compile_steps, spec, mesh, points, state, splits.train
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


def _groups(lanes: int, devices: int, whole_batches: bool) -> int:
    """How many groups of devices train lanes of their own.

    A step that must see its whole batch is computed by one device or, in global view,
    by all; so fewer lanes than devices, but more than one, are padded.
    """
    if whole_batches:
        return devices if lanes > 1 else 1
    return max(n for n in range(1, devices + 1) if devices % n == 0 and n <= lanes)


def _compile_score(
    task: Task, mesh: Mesh, state: TrainState, split: Batch
) -> tuple[Callable[..., Score], int]:
    """The scoring of a split of these sizes, and the bytes on each device."""
    variables = state.params, state.model_state
    if is_streamed(split):
        return compile_streamed(mesh, task, *variables, split)
    compiled = score_lanes.lower(mesh, task, *variables, split).compile()
    return compiled, memory_of(compiled)


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


def _shapes(split: Batch) -> tuple[object, ...]:
    leaves = jax.tree.leaves(split)
    return is_streamed(split), *((x.shape, np.dtype(x.dtype)) for x in leaves)
