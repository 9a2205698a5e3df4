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

from experiments.data.examples import Examples, in_batches, sum_in_slices
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import on_all_devices, slice_size
from experiments.networks import cnn
from experiments.networks.network import RandomKey, random_key
from experiments.training.scoring import Network, Score, weighted_sums

# Indices of images, a row a step, and their weights: 0 for padding.
Rows = tuple[Int[Array, "steps images"], Float[Array, "steps images"]]
# An optimizer for a learning rate and a beta, which may be traced scalars.
OptimizerOf = Callable[[Any, Any], optax.GradientTransformation]


def constant(transformation: optax.GradientTransformation) -> OptimizerOf:
    """An optimizer whose learning rate and beta are fixed already."""
    return lambda learning_rate, beta: transformation


class TrainState(NamedTuple):
    """All that a step changes. With the seed, it decides every later step."""

    params: cnn.Params
    opt_state: PyTree
    sums: Score  # loss and hits summed over this epoch's images so far


@dataclass(frozen=True)
class TrainSpec:
    """What all runs of a program share."""

    optimizer: OptimizerOf  # takes gradients of mean losses
    batch_size: (
        int  # images in one step of one run; an epoch's last step may have fewer
    )
    network: Network = cnn
    halted: Callable[[optax.OptState], Array] | None = None  # true: take no more steps


def state_from_params(
    transformation: optax.GradientTransformation, params: cnn.Params
) -> TrainState:
    """A run before its first step."""
    zero = jnp.zeros((), jnp.float32)
    zeros = Score(zero, zero)
    opt_state = QuickJit(transformation.init)(params)  # one program, not one per leaf
    return TrainState(params, *on_all_devices((opt_state, zeros)))


def steps_per_epoch(examples: Examples, batch_size: int) -> int:
    """Steps of one epoch, the last of which may have fewer images."""
    return -(-len(examples.labels) // batch_size)


def image_shape(examples: Examples) -> tuple[int, int, int]:
    """Height, width and channels."""
    _, height, width, channels = examples.images.shape
    return height, width, channels


def initial_params(
    image_shape: tuple[int, int, int],
    classes: int,
    seed: ArrayLike,
    network: Network = cnn,
) -> cnn.Params:
    """Draws the parameters of a run: a function of its seed alone."""
    key = jax.random.fold_in(random_key(seed), 0)
    return on_all_devices(_draw_params(network, key, image_shape, classes))


@partial(QuickJit, static_argnums=(0, 2, 3))
def _draw_params(
    network: Network, key: Array, image_shape: tuple[int, int, int], classes: int
) -> cnn.Params:
    """Compiles as one program; drawn leaf by leaf, forty would be compiled."""
    return network.init(key, image_shape, classes)


def order_key(seed: ArrayLike, epoch: ArrayLike) -> RandomKey:
    """The key of the order in which a run sees the images of an epoch."""
    key = jax.random.fold_in(jax.random.fold_in(random_key(seed), 1), epoch)
    return on_all_devices(key)


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
    order = jax.random.permutation(key, jnp.arange(images, dtype=jnp.int32))
    return in_batches(order, batch_size, multiple)


def run_on_device(
    spec: TrainSpec,
    transformation: optax.GradientTransformation,
    slice_size: int,
    state: TrainState,
    rows: Rows,
    start_step: Int[Array, ""],
    stop_step: Int[Array, ""],
    train: Examples,
) -> TrainState:
    """Takes steps on one device: gradients of its shard, then the common update.

    Runs within `shard_map` over the mesh axis `data`.

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

    def step(carry: tuple[Array, TrainState]) -> tuple[Array, TrainState]:
        number, (params, opt_state, sums) = carry
        totals = shard_sums(spec.network, slice_size, params, rows, number, train)
        flat, unravel = ravel_pytree(totals)  # one all-reduce, not one per array
        score, gradients, count = unravel(jax.lax.psum(flat, "data"))
        gradients = jax.tree.map(lambda g: g / count, gradients)
        updates, opt_state = transformation.update(gradients, opt_state, params)
        stepped: Any = optax.apply_updates(params, updates)
        sums = jax.tree.map(jnp.add, sums, score)
        return number + 1, TrainState(stepped, opt_state, sums)

    def continues(carry: tuple[Array, TrainState]) -> Array:
        number, (_, opt_state, _) = carry
        more = number < stop_step
        return more if spec.halted is None else more & ~spec.halted(opt_state)

    sums = jax.tree.map(lambda x: jnp.where(start_step == 0, 0.0, x), state.sums)
    carry = start_step, state._replace(sums=sums)
    return jax.lax.while_loop(continues, step, carry)[1]


def shard_sums(
    network: Network,
    slice_size: int,
    params: cnn.Params,
    rows: Rows,
    number: Int[Array, ""],
    train: Examples,
) -> tuple[Score, cnn.Params, Array]:
    """Sums over a device's shard of one batch: loss and hits, gradients, images."""

    def loss_sum(params: cnn.Params, rows: PyTree) -> tuple[Array, Array]:
        return weighted_sums(network, params, train, *rows)

    shard = jax.tree.map(
        lambda x: jax.lax.dynamic_index_in_dim(x, number, keepdims=False), rows
    )
    of_slice = partial(jax.value_and_grad(loss_sum, has_aux=True), params)
    score, gradients = sum_in_slices(of_slice, shard, slice_size)
    return Score(*score), gradients, jnp.sum(shard[1])
