"""Steps on whole batches on 1, 2 and 4 devices; prints largest differences as JSON.

It is a separate program because the process of the tests has two devices.
"""

import json
from functools import partial

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from support.small_problem import TRAIN, small_problem

from experiments.distributed.devices import device_mesh
from experiments.optimizers.arms import ARMS
from experiments.problems.problem import task_of
from experiments.training.lanes import as_lane
from experiments.training.mesh_steps import run_whole_on_mesh
from experiments.training.points import Point, as_arrays
from experiments.training.step import (
    TrainSpec,
    TrainState,
    initial_variables,
    order_key,
    state_from_params,
)

TASK = task_of(small_problem())
SPEC = TrainSpec(ARMS["keras"].transformation, 8, TASK)
POINTS = as_arrays([Point(0.05, 0.8, 3)])


def trained(count: int) -> tuple[TrainState, str]:
    """A run after three steps of 8 and one of 5 examples, and the compiled program."""
    mesh = device_mesh(count=count)
    params, model_state = initial_variables(TASK, TRAIN, 3)
    transformation = ARMS["keras"].transformation(0.05, 0.8)
    start = state_from_params(transformation, params, model_state)
    everywhere = NamedSharding(mesh, PartitionSpec())
    order = np.asarray(jax.random.permutation(order_key(3, 0), 29))
    state, train = jax.device_put(
        jax.tree.map(np.asarray, (as_lane(start), TRAIN)), everywhere
    )
    run = jax.jit(partial(run_whole_on_mesh, SPEC, mesh))
    text = ""
    for rows, *numbers in (
        (order[:24].reshape(1, 3, 8), 0, 0, 3),
        (order[None, None, 24:], 3, 3, 4),
    ):
        arguments = POINTS, state, rows, np.int32(0), *map(np.int32, numbers), train
        text += run.lower(*arguments).compile().as_text() or ""
        state = run(*arguments)
    return jax.device_get(state), text


def difference(first, second) -> float:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return max(float(np.max(np.abs(a - b))) for a, b in pairs)


alone, _ = trained(1)
result = {}
for count in (2, 4):
    state, text = trained(count)
    result[count] = {
        "params": difference(state.params, alone.params),
        "model_state": difference(state.model_state, alone.model_state),
        "reduces": "all-reduce" in text,
        "gathers": "all-gather" in text,
    }
print(json.dumps(result))
