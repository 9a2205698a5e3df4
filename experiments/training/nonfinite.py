"""What a run does if a step's gradient, or its update, is not finite."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import Int, PyTree

from experiments.distributed.devices import to_host
from experiments.problems.problem import (
    Batch,
    Task,
    examples_in,
    in_memory,
    take,
)
from experiments.records.config import Config, Nonfinite
from experiments.training.epochs import Refusal
from experiments.training.step import (
    OptimizerOf,
    TrainSpec,
    TrainState,
    epoch_order,
    noise_key,
    order_key,
)
from optax_momentum import GuardState, guard


def train_spec(
    optimizer: OptimizerOf, batch_size: int, task: Task, policy: Nonfinite
) -> TrainSpec:
    """A spec whose optimizer is guarded, and whose runs halt, as the policy says."""
    if policy == "record":
        return TrainSpec(optimizer, batch_size, task)

    def guarded(learning_rate: Any, beta: Any) -> optax.GradientTransformation:
        return guard(optimizer(learning_rate, beta))

    halted = _has_skipped if policy == "stop" else None
    return TrainSpec(guarded, batch_size, task, halted)


def _has_skipped(opt_state: optax.OptState) -> Array:
    assert isinstance(opt_state, GuardState)
    return opt_state.skipped > 0


def skipped_steps(opt_state: optax.OptState, lanes: int) -> Int[np.ndarray, " lanes"]:
    """The number of steps that each of the first lanes skipped."""
    if isinstance(opt_state, GuardState):
        return to_host(opt_state.skipped)[:lanes]
    return np.zeros(lanes, np.int32)


def refusal(
    config: Config,
    task: Task,
    train: Batch,
    steps: int,
    state: TrainState,
    epoch: int,
) -> Refusal | None:
    """The step that was not taken, if there is one, and where it went wrong.

    Args:
      config: of the run.
      task: what it trains.
      train: what it trains on.
      steps: per epoch.
      state: the run, in the only lane, with a guarded optimizer.
      epoch: the epoch that it is in.
    """
    opt_state = state.opt_state
    assert isinstance(opt_state, GuardState)
    if not to_host(_has_skipped(opt_state)).any():
        return None
    step = int(to_host(opt_state.accepted)[0]) - epoch * steps
    lane = jax.tree.map(lambda x: x[0], state)
    what = _nonfinite_value(config, task, train, lane, epoch, step)
    none = jnp.zeros_like(opt_state.skipped)
    before = opt_state._replace(
        skipped=none, consecutive_skips=none, longest_skips=none
    )
    message = (
        f"{config.arm}, seed {config.seed}: at step {step + 1} of epoch {epoch + 1} "
        f"{what} is not finite. Lower --learning-rate, or choose --nonfinite skip to "
        "skip such steps or --nonfinite record to train on."
    )
    return Refusal(step, state._replace(opt_state=before), message)


def _nonfinite_value(
    config: Config,
    task: Task,
    train: Batch,
    state: TrainState,
    epoch: int,
    step: int,
) -> str:
    """Names the first gradient of the step that is not finite, or else the update."""
    examples = examples_in(train)
    order = epoch_order(order_key(config.seed, epoch), examples)
    first = step * config.batch_size
    batch = in_memory(take(train, order[first : first + config.batch_size]))
    noise = jax.random.fold_in(noise_key(config.seed, epoch), step)
    key, augment_key = jax.random.split(noise)
    if task.augment is not None:
        batch = jax.jit(task.augment)(augment_key, batch)

    @partial(jax.jit, static_argnums=0)
    def gradients(task: Task, params: PyTree, batch: Batch) -> PyTree:
        def loss(params: PyTree) -> Array:
            return jnp.mean(
                task.loss(params, state.model_state, batch, key, training=True)[0]
            )

        return jax.grad(loss)(params)

    found = gradients(task, state.params, batch)
    for path, gradient in jax.tree.leaves_with_path(found):
        if not jnp.isfinite(gradient).all():
            return f"the gradient of params{jax.tree_util.keystr(path)}"
    return "every gradient is finite, but the update"
