"""The recipe's training steps as one program: images drawn, moved, learned from."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Bool, Int, PyTree

from experiments.data.examples import Examples
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import device_mesh, on_all_devices
from experiments.networks.network import RandomKey, random_key
from experiments.networks.on_cpu import fast_on_cpu
from experiments.problems.problem import Loss, take
from experiments.speedrun import recipe as recipes
from experiments.speedrun.recipe import Recipe
from experiments.training.epochs import StateSteps
from experiments.training.scoring import Score
from experiments.training.step import (
    TrainState,
    epoch_order,
    noise_key,
    order_key,
)

AXIS = "data"  # of the devices that share each batch


class Order(NamedTuple):
    """How a run sees the images in one epoch."""

    rows: Int[Array, "steps batch"]  # indices of images
    mirrored: Bool[Array, " images"]
    noise: RandomKey  # draws the shifts


def initial_state(recipe: Recipe, seed: int, train: Examples) -> TrainState:
    """A run before its first step: a function of its seed and the images."""
    few = train.images[: recipes.WHITENING_IMAGES]
    return on_all_devices(_initial_state(recipe, np.uint32(seed), few))


@partial(QuickJit, static_argnums=0)
def _initial_state(recipe: Recipe, seed: Array, few: Array) -> TrainState:
    key = jax.random.fold_in(random_key(seed), 0)
    variables, constant = recipes.initial_variables(recipe, key, few)
    opt_state = recipes.optimizer(recipe).init(variables)
    zeros = Score(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))
    return TrainState(variables, opt_state, zeros, constant)


def order_of(recipe: Recipe, images: int, seed: int, epoch: int) -> Order:
    """Every image once, but for a rest that fills no batch; half of them mirrored.

    Which half alternates: what is mirrored in an epoch isn't in the next one.
    """
    steps, batch = recipe.length.per_epoch, recipe.batch_size
    numbers = np.uint32(seed), np.int32(epoch)
    return on_all_devices(_order(steps, batch, images, *numbers))


@partial(QuickJit, static_argnums=(0, 1, 2))
def _order(steps: int, batch: int, images: int, seed: Array, epoch: Array) -> Order:
    order = epoch_order(order_key(seed, epoch), images)
    flips = jax.random.fold_in(random_key(seed), 3)
    first = jax.random.bernoulli(flips, shape=(images,))
    mirrored = first ^ (epoch % 2 == 1)
    return Order(
        order[: steps * batch].reshape(steps, batch), mirrored, noise_key(seed, epoch)
    )


def compile_steps(
    recipe: Recipe, train: Examples, state: TrainState
) -> Callable[[int], StateSteps]:
    """Compiles the steps of all runs of a recipe.

    Args:
      recipe: what the runs share.
      train: the training images, on all devices.
      state: that of any run.

    Returns:
      The steps of the run of a seed, for `train_epochs`.
    """
    mesh = device_mesh()
    program = QuickJit(partial(run_on_mesh, recipe, mesh), donate_argnums=0)
    images = len(train.labels)
    numbers = np.zeros(2, np.int32)
    order = order_of(recipe, images, 0, 0)
    compiled = program.lower(state, order, *numbers, train).compile()

    def of_seed(seed: int) -> StateSteps:
        orders: dict[int, Order] = {}

        def take_steps(
            state: TrainState, epoch: int, start_step: int, stop_step: int
        ) -> TrainState:
            if epoch not in orders:
                orders.clear()  # that of the epoch before
                orders[epoch] = order_of(recipe, images, seed, epoch)
            numbers = map(np.int32, (start_step, stop_step))
            return compiled(state, orders[epoch], *numbers, train)

        return take_steps

    return of_seed


def run_on_mesh(
    recipe: Recipe,
    mesh: Mesh,
    state: TrainState,
    order: Order,
    start_step: Int[Array, ""],
    stop_step: Int[Array, ""],
    train: Examples,
) -> TrainState:
    """Steps of an epoch, each batch shared by the devices."""
    on_device = jax.shard_map(
        partial(_run_on_device, recipe, mesh.shape[AXIS]),
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(),
        check_vma=False,  # it can't tell that a psum is equal on all devices
    )
    return on_device(state, order, start_step, stop_step, train)


def _run_on_device(
    recipe: Recipe,
    devices: int,
    state: TrainState,
    order: Order,
    start_step: Int[Array, ""],
    stop_step: Int[Array, ""],
    train: Examples,
) -> TrainState:
    transformation = recipes.optimizer(recipe)
    loss = fast_on_cpu(recipes.plain_loss(recipe, AXIS))

    def step(number: Array, state: TrainState) -> TrainState:
        batch = share_of_batch(recipe, devices, order, number, train)
        gradients, score, statistics = gradients_of(
            loss, state.params, state.model_state, batch
        )
        changes = jax.tree.map(jnp.subtract, statistics, state.params["statistics"])
        updates, opt_state = transformation.update(
            {"params": gradients, "statistics": changes}, state.opt_state, state.params
        )
        stepped = optax.apply_updates(state.params, updates)
        sums = jax.tree.map(jnp.add, state.sums, score)
        return TrainState(stepped, opt_state, sums, state.model_state)

    sums = jax.tree.map(lambda x: jnp.where(start_step == 0, 0.0, x), state.sums)
    return jax.lax.fori_loop(start_step, stop_step, step, state._replace(sums=sums))


def share_of_batch(
    recipe: Recipe, devices: int, order: Order, number: Array, train: Examples
) -> Examples:
    """A device's images of a step, moved and mirrored; bytes are scaled later."""
    size, place = recipe.batch_size // devices, jax.lax.axis_index(AXIS)
    row = jax.lax.dynamic_index_in_dim(order.rows, number, keepdims=False)
    key = jax.random.fold_in(order.noise, number)
    corners = recipes.corners(key, recipe.batch_size)
    row, corners = (
        jax.lax.dynamic_slice_in_dim(x, place * size, size) for x in (row, corners)
    )
    batch = take(train, row)
    images = recipes.augmented(batch.images, corners, order.mirrored[row])
    return batch._replace(images=images)


def gradients_of(
    loss: Loss, variables: PyTree, constant: PyTree, batch: Examples
) -> tuple[PyTree, Score, PyTree]:
    """Gradients of the mean loss over all devices, summed scores, new statistics."""

    def mean_loss(params: PyTree) -> tuple[Array, tuple[Score, PyTree]]:
        losses, metrics, statistics = loss(
            {**variables, "params": params},
            constant,
            batch,
            random_key(0),  # nothing in the network is drawn
            training=True,
        )
        score = Score(jnp.sum(losses), jnp.sum(metrics["accuracy"]))
        return jnp.mean(losses), (score, statistics)

    gradients, (score, statistics) = jax.grad(mean_loss, has_aux=True)(
        variables["params"]
    )
    gradients = jax.lax.pmean(gradients, AXIS)
    return gradients, jax.lax.psum(score, AXIS), statistics
