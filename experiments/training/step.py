"""The training step: gradients of each device's shard of a batch, then one update.

The order of the images is a pure function of seed and epoch, and the images of a step
are a function of that order and the step's number. So an epoch may be cut into calls
anywhere without changing a bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Float, Int, PyTree

from experiments.data.examples import in_batches, sum_in_slices
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import on_all_devices, slice_size
from experiments.networks.network import RandomKey, random_key
from experiments.problems.problem import (
    Batch,
    ModelState,
    Task,
    examples_in,
    some_examples,
    take,
    value_of,
)
from experiments.training.scoring import Score, weighted_sums
from optax_momentum import GuardState

# Indices of images, a row a step, and their weights: 0 for padding.
Rows = tuple[Int[Array, "steps images"], Float[Array, "steps images"]]
# An optimizer for a learning rate and a beta, which may be traced scalars.
OptimizerOf = Callable[[Any, Any], optax.GradientTransformation]


def constant(transformation: optax.GradientTransformation) -> OptimizerOf:
    """An optimizer whose learning rate and beta are fixed already."""
    return lambda learning_rate, beta: transformation


class TrainState(NamedTuple):
    """All that a step changes. With the seed, it decides every later step."""

    params: PyTree
    opt_state: PyTree
    sums: Score  # loss and metric summed over this epoch's examples so far
    model_state: ModelState = ()


@dataclass(frozen=True)
class TrainSpec:
    """What all runs of a program share."""

    optimizer: OptimizerOf  # takes gradients of mean losses
    batch_size: int  # examples in one step; an epoch's last step may have fewer
    task: Task
    halted: Callable[[optax.OptState], Array] | None = None  # true: take no more steps


def state_from_params(
    transformation: optax.GradientTransformation,
    params: PyTree,
    model_state: ModelState = (),
) -> TrainState:
    """A run before its first step."""
    zero = jnp.zeros((), jnp.float32)
    zeros = Score(zero, zero)
    opt_state = QuickJit(transformation.init)(params)  # one program, not one per leaf
    opt_state, sums = on_all_devices((opt_state, zeros))
    return TrainState(params, opt_state, sums, model_state)


def steps_per_epoch(examples: Batch, batch_size: int) -> int:
    """Steps of one epoch, the last of which may have fewer examples."""
    return -(-examples_in(examples) // batch_size)


def initial_variables(
    task: Task, examples: Batch, seed: ArrayLike
) -> tuple[PyTree, ModelState]:
    """Draws parameters and model state of a run: a function of its seed alone."""
    key = jax.random.fold_in(random_key(seed), 0)
    return on_all_devices(_draw(task, key, some_examples(examples)))


@partial(QuickJit, static_argnums=0)
def _draw(task: Task, key: Array, few: Batch) -> tuple[PyTree, ModelState]:
    """Compiles as one program; drawn leaf by leaf, forty would be compiled."""
    return task.init(key, few)


def order_key(seed: ArrayLike, epoch: ArrayLike) -> RandomKey:
    """The key of the order in which a run sees the examples of an epoch."""
    return on_all_devices(_key(seed, 1, epoch))


def noise_key(seed: ArrayLike, epoch: ArrayLike) -> RandomKey:
    """The key of an epoch from which each step's augmentation and Dropout follow."""
    return _key(seed, 2, epoch)


def _key(seed: ArrayLike, stream: int, epoch: ArrayLike) -> RandomKey:
    return jax.random.fold_in(jax.random.fold_in(random_key(seed), stream), epoch)


def epoch_order(key: RandomKey, examples: int) -> Int[Array, " examples"]:
    """All examples once, in the order of an epoch."""
    return jax.random.permutation(key, jnp.arange(examples, dtype=jnp.int32))


def batch_rows(key: RandomKey, images: int, batch_size: int, devices: int) -> Rows:
    """Every image of an epoch once, a row a step, padded to a multiple of `devices`.

    Args:
      key: from `order_key`.
      images: number of training images.
      batch_size: images in one step.
      devices: how many share each step.
    """
    size = slice_size(batch_size, devices)
    return _shuffled(key, images, batch_size, devices * size)


@partial(QuickJit, static_argnums=(1, 2, 3))
def _shuffled(key: RandomKey, images: int, batch_size: int, multiple: int) -> Rows:
    """A separate program: a permutation takes as long to compile as some networks."""
    return in_batches(epoch_order(key, images), batch_size, multiple)


def run_on_device(
    spec: TrainSpec,
    transformation: optax.GradientTransformation,
    slice_size: int,
    state: TrainState,
    rows: Rows,
    start_step: Int[Array, ""],
    stop_step: Int[Array, ""],
    train: Batch,
) -> TrainState:
    """Takes steps on one device: gradients of its shard, then the common update.

    Runs within `shard_map` over the mesh axis `data`, for tasks whose steps may be
    divided (not `whole_batches`).

    Args:
      spec: what is trained.
      transformation: the optimizer.
      slice_size: images whose gradients are computed at once.
      state: the run; replicated over `data`.
      rows: this device's columns of the epoch's rows.
      start_step: first step to take; 0 begins an epoch and clears the sums.
      stop_step: first step not to take.
      train: the images that `rows` index.
    """

    def step(number: Array, state: TrainState) -> TrainState:
        params, opt_state, sums, model_state = state
        totals = shard_sums(spec.task, slice_size, params, rows, number, train)
        flat, unravel = ravel_pytree(totals)  # one all-reduce, not one per array
        score, gradients, count = unravel(jax.lax.psum(flat, "data"))
        gradients = jax.tree.map(lambda g: g / count, gradients)
        updates, opt_state = transformation.update(gradients, opt_state, params)
        stepped: Any = optax.apply_updates(params, updates)
        sums = jax.tree.map(jnp.add, sums, score)
        return TrainState(stepped, opt_state, sums, model_state)

    return _loop(spec, step, state, start_step, stop_step)


def run_whole_batches(
    spec: TrainSpec,
    transformation: optax.GradientTransformation,
    share: Callable[[PyTree], PyTree],
    state: TrainState,
    noise: RandomKey,
    rows: Int[Array, "steps batch"],
    first_row: Int[Array, ""],
    start_step: Int[Array, ""],
    stop_step: Int[Array, ""],
    train: Batch,
) -> TrainState:
    """Takes steps each of which sees its whole batch at once, as BatchNorm must.

    Args:
      spec: what is trained.
      transformation: the optimizer.
      share: divides the examples of a batch among devices, in global view.
      state: the run.
      noise: the epoch's key, from `noise_key`.
      rows: indices of examples, a row a step, without padding.
      first_row: the step of the first row.
      start_step: first step to take; 0 begins an epoch and clears the sums.
      stop_step: first step not to take.
      train: the examples that `rows` index.
    """

    def step(number: Array, state: TrainState) -> TrainState:
        params, opt_state, sums, model_state = state
        row = jax.lax.dynamic_index_in_dim(rows, number - first_row, keepdims=False)
        batch, key = share(take(train, share(row))), jax.random.fold_in(noise, number)
        gradients, score, after = whole_batch_gradients(
            spec.task, share, params, model_state, batch, key
        )
        updates, stepped_state = transformation.update(gradients, opt_state, params)
        stepped: Any = optax.apply_updates(params, updates)
        after = _unless_skipped(opt_state, stepped_state, model_state, after)
        sums = jax.tree.map(jnp.add, sums, score)
        return TrainState(stepped, stepped_state, sums, after)

    return _loop(spec, step, state, start_step, stop_step)


def whole_batch_gradients(
    task: Task,
    share: Callable[[PyTree], PyTree],
    params: PyTree,
    model_state: ModelState,
    batch: Batch,
    key: RandomKey,
) -> tuple[PyTree, Score, ModelState]:
    """Gradients of a batch's mean loss, its summed score, and the next model state."""
    key, augment_key = jax.random.split(key)
    if task.augment is not None:
        batch = share(task.augment(augment_key, batch))

    def mean_loss(params: PyTree) -> tuple[Array, tuple[Score, ModelState]]:
        losses, metrics, after = task.loss(
            params, model_state, batch, key, training=True
        )
        values = value_of(task.metric, losses, metrics)
        return jnp.mean(losses), (Score(jnp.sum(losses), jnp.sum(values)), after)

    gradients, (score, after) = jax.grad(mean_loss, has_aux=True)(params)
    return gradients, score, after


def _unless_skipped(
    before: optax.OptState, after: optax.OptState, kept: ModelState, changed: ModelState
) -> ModelState:
    """The changed model state, or the one before if the optimizer skipped the step."""
    if not isinstance(after, GuardState):
        return changed
    assert isinstance(before, GuardState)
    skipped = after.skipped > before.skipped
    return jax.tree.map(lambda old, new: jnp.where(skipped, old, new), kept, changed)


def _loop(
    spec: TrainSpec,
    step: Callable[[Array, TrainState], TrainState],
    state: TrainState,
    start_step: Int[Array, ""],
    stop_step: Int[Array, ""],
) -> TrainState:
    """Takes steps until the last one, or until the run halts."""

    def take_step(carry: tuple[Array, TrainState]) -> tuple[Array, TrainState]:
        number, state = carry
        return number + 1, step(number, state)

    def continues(carry: tuple[Array, TrainState]) -> Array:
        number, state = carry
        more = number < stop_step
        return more if spec.halted is None else more & ~spec.halted(state.opt_state)

    sums = jax.tree.map(lambda x: jnp.where(start_step == 0, 0.0, x), state.sums)
    carry = start_step, state._replace(sums=sums)
    return jax.lax.while_loop(continues, take_step, carry)[1]


def shard_sums(
    task: Task,
    slice_size: int,
    params: PyTree,
    rows: Rows,
    number: Int[Array, ""],
    train: Batch,
) -> tuple[Score, PyTree, Array]:
    """Sums over a device's shard of one batch: loss and metric, gradients, examples."""

    def loss_sum(params: PyTree, rows: PyTree) -> tuple[Array, Array]:
        return weighted_sums(task, params, (), train, *rows, training=True)

    shard = jax.tree.map(
        lambda x: jax.lax.dynamic_index_in_dim(x, number, keepdims=False), rows
    )
    of_slice = partial(jax.value_and_grad(loss_sum, has_aux=True), params)
    score, gradients = sum_in_slices(of_slice, shard, slice_size)
    return Score(*score), gradients, jnp.sum(shard[1])
