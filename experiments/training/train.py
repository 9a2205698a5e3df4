"""Training: steps as one compiled loop that starts and ends wherever it is told."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike

from experiments.data.examples import Examples, in_batches, sum_in_slices
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import (
    device_mesh,
    on_all_devices,
    replicated_shapes,
    slice_size,
)
from experiments.networks import cnn
from experiments.training import process_shard
from experiments.training.scoring import Network, Score, weighted_sums


class Underway(NamedTuple):
    """What a step changes: with the seed, all that the next one depends on."""

    params: cnn.Params
    state: Any  # of the transformation
    sums: Score  # of loss and hits over the images of this epoch so far


# Underway, the epoch's key, the first step and the one not taken any more, the images.
Advance = Callable[[Underway, Array, ArrayLike, ArrayLike, Examples], Underway]

_NUMBERS = np.int32(0), np.int32(0)  # in the place of steps, as their types


def compile_steps(
    transformation: optax.GradientTransformation,
    train: Examples,
    classes: int,
    batch_size: int,
    network: Network = cnn,
    halted: Callable[[optax.OptState], Array] | None = None,
) -> Advance:
    """Any number of steps of an epoch as one program.

    Its arguments' memory it takes over. Each sum is of the batches before their own
    steps. The order of the images is a pure function of the key, and a step's images
    of that and its number: where an epoch is cut changes no bit.

    Args:
      transformation: steps with gradients of mean losses.
      train: the images.
      classes: of their labels.
      batch_size: images a step; the epoch's last one may have fewer.
      network: what is trained.
      halted: true of a state after which no further step is taken.
    """
    draw = partial(begin, transformation, train, classes, network=network)
    underway = replicated_shapes(jax.eval_shape(draw, 0))
    own = network, transformation, batch_size, halted, device_mesh()
    sizes = len(train.labels), batch_size, jax.device_count()
    if jax.process_count() > 1:
        return _compile_parts(own, sizes, underway, train)
    rows = batch_rows(order_key(0, 0), *sizes)
    steps = QuickJit(partial(share_out, *own, PartitionSpec()), donate_argnums=0)
    compiled = steps.lower(underway, rows, *_NUMBERS, train).compile()

    def advance(underway, key, first, last, train) -> Underway:
        return compiled(underway, batch_rows(key, *sizes), first, last, train)

    return advance


def _compile_parts(
    own: Any, sizes: tuple[int, int, int], underway: Any, train: Examples
) -> Advance:
    """The same where each process hands over its own images, once an epoch."""
    rows = jax.eval_shape(lambda: batch_rows(order_key(0, 0), *sizes))
    steps = QuickJit(partial(share_out, *own, process_shard.BY_IMAGE), donate_argnums=0)
    rows, images = process_shard.shapes(train, rows)
    compiled = steps.lower(underway, rows, *_NUMBERS, images).compile()
    parts: dict[bytes, Any] = {}

    def advance(underway, key, first, last, train) -> Underway:
        epoch = np.asarray(jax.random.key_data(key)).tobytes()
        if epoch not in parts:
            parts.clear()  # of the epoch before
            parts[epoch] = process_shard.own_part(train, batch_rows(key, *sizes))
        rows, images = parts[epoch]
        return compiled(underway, rows, first, last, images)

    return advance


def begin(
    transformation: optax.GradientTransformation,
    train: Examples,
    classes: int,
    seed: ArrayLike,
    network: Network = cnn,
) -> Underway:
    """A run before its first step."""
    return begun(transformation, initial_params(train, classes, seed, network))


def begun(transformation: optax.GradientTransformation, params: cnn.Params) -> Underway:
    """The same of parameters that are there."""
    zeros = Score(jnp.zeros(()), jnp.zeros(()))
    state = QuickJit(transformation.init)(params)  # one program, not one for each leaf
    return Underway(params, *on_all_devices((state, zeros)))


def steps_of(examples: Examples, batch_size: int) -> int:
    """Steps of an epoch."""
    return -(-len(examples.labels) // batch_size)


def initial_params(
    train: Examples, classes: int, seed: ArrayLike, network: Network = cnn
) -> cnn.Params:
    """Parameters for the images of a split: a function of the seed alone."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    _, height, width, channels = train.images.shape
    shape = height, width, channels
    return on_all_devices(_draw_params(network, key, shape, classes))


@partial(QuickJit, static_argnums=(0, 2, 3))
def _draw_params(
    network: Network, key: Array, shape: tuple[int, int, int], classes: int
) -> cnn.Params:
    """One program, not forty."""
    return network.init(key, shape, classes)


def order_key(seed: ArrayLike, epoch: ArrayLike) -> Array:
    """The key of an epoch's order of the data."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), epoch)
    return on_all_devices(key)


def batch_rows(
    key: Array, images: int, batch_size: int, devices: int
) -> tuple[Array, Array]:
    """Every image of an epoch once, by its index, a row a step; and weights."""
    size = slice_size(batch_size, devices)
    return _shuffled(key, images, batch_size, devices * size)


@partial(QuickJit, static_argnums=(1, 2, 3))
def _shuffled(
    key: Array, images: int, batch_size: int, multiple: int
) -> tuple[Array, Array]:
    """A program of its own: a permutation takes as long to compile as some networks."""
    order = jax.random.permutation(key, images)
    return in_batches(order, batch_size, multiple)


def share_out(
    network: Network,
    transformation: optax.GradientTransformation,
    batch_size: int,
    halted: Callable[[optax.OptState], Array] | None,
    mesh: Mesh,
    images: PartitionSpec,
    underway: Underway,
    rows: tuple[Array, Array],
    first: Array,
    last: Array,
    train: Examples,
) -> Underway:
    """Steps on a mesh's devices, each of which takes its columns of the rows."""
    size = slice_size(batch_size, mesh.shape["data"])
    everywhere = PartitionSpec()
    columns = PartitionSpec(None, "data")
    all_steps = jax.shard_map(
        partial(take_steps, network, transformation, size, halted),
        mesh=mesh,
        in_specs=(everywhere, columns, everywhere, everywhere, images),
        out_specs=everywhere,
        check_vma=False,  # it can't see that the gradients' sum is the same everywhere
    )
    return all_steps(underway, rows, first, last, train)


def take_steps(
    network: Network,
    transformation: optax.GradientTransformation,
    slice_size: int,
    halted: Callable[[optax.OptState], Array] | None,
    underway: Underway,
    rows: tuple[Array, Array],
    first: Array,
    last: Array,
    train: Examples,
) -> Underway:
    """A device's share of steps: its part of each batch, and then the same step."""

    def step(carry: tuple[Array, Underway]) -> tuple[Array, Underway]:
        number, (params, state, sums) = carry
        totals = own_sums(network, slice_size, params, rows, number, train)
        flat, unravel = ravel_pytree(totals)  # one exchange, not one for each array
        score, gradients, count = unravel(jax.lax.psum(flat, "data"))
        gradients = jax.tree.map(lambda g: g / count, gradients)
        updates, state = transformation.update(gradients, state, params)
        stepped: Any = optax.apply_updates(params, updates)
        sums = jax.tree.map(jnp.add, sums, score)
        return number + 1, Underway(stepped, state, sums)

    def goes_on(carry: tuple[Array, Underway]) -> Array:
        number, (_, state, _) = carry
        return number < last if halted is None else (number < last) & ~halted(state)

    sums = jax.tree.map(lambda x: jnp.where(first == 0, 0.0, x), underway.sums)
    carry = first, underway._replace(sums=sums)
    return jax.lax.while_loop(goes_on, step, carry)[1]


def own_sums(
    network: Network,
    slice_size: int,
    params: cnn.Params,
    rows: tuple[Array, Array],
    number: Array,
    train: Examples,
) -> tuple[Score, cnn.Params, Array]:
    """Of a device's part of one batch: loss and hits, gradients and images, summed."""

    def loss_sum(params: cnn.Params, rows: Any) -> tuple[Array, Array]:
        return weighted_sums(network, params, train, *rows)

    own = jax.tree.map(
        lambda x: jax.lax.dynamic_index_in_dim(x, number, keepdims=False), rows
    )
    of_slice = partial(jax.value_and_grad(loss_sum, has_aux=True), params)
    score, gradients = sum_in_slices(of_slice, own, slice_size)
    return Score(*score), gradients, jnp.sum(own[1])
