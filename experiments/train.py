"""One training run: a step, an epoch of steps as one compiled scan, and `fit`."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from experiments import model
from experiments.config import Config
from experiments.devices import device_mesh, on_all_devices, replicated, slice_size
from experiments.examples import Examples, Splits, in_batches, sum_in_slices
from experiments.runs import Epoch
from experiments.scoring import Network, Score, score, weighted_sums

TrainEpoch = Callable[..., tuple[model.Params, optax.OptState, Score]]


class Program(NamedTuple):
    """One arm's training, compiled once and run with every seed."""

    transformation: optax.GradientTransformation
    train_epoch: TrainEpoch
    compile_seconds: float


class Outcome(NamedTuple):
    """What `fit` measured."""

    epochs: tuple[Epoch, ...]
    test: Score
    seconds: float  # training, validation and test; compilation excluded
    images_per_second: float  # of the training epochs alone


def compile_program(
    transformation: optax.GradientTransformation, splits: Splits, batch_size: int
) -> Program:
    """Compiles an arm's epoch, and beside it the scoring that all arms share."""
    start = time.perf_counter()
    arguments = transformation, splits.train, splits.classes, batch_size
    with ThreadPoolExecutor(max_workers=1) as thread:
        epoch = thread.submit(compile_epoch, *arguments)
        params = initial_params(splits.train, splits.classes, seed=0)
        for split in (splits.validation, splits.test):
            jax.block_until_ready(score(params, split))
    return Program(transformation, epoch.result(), time.perf_counter() - start)


def compile_epoch(
    transformation: optax.GradientTransformation,
    train: Examples,
    classes: int,
    batch_size: int,
    network: Network = model,
) -> TrainEpoch:
    """One pass over `train` as one program, of (params, state, key, train).

    It returns the next params and state, whose memory it takes over from the arguments,
    and the mean `Score` of the batches, each before its own step.
    """
    epoch = jax.jit(_train_epoch, static_argnums=(0, 1, 2), donate_argnums=(3, 4))
    draw = partial(initial_params, train, classes, network=network)
    params = replicated(jax.eval_shape(draw, 0))
    state = replicated(jax.eval_shape(transformation.init, params))
    arguments = (params, state, order_key(0, 0), train)
    return epoch.lower(network, transformation, batch_size, *arguments).compile()


def fit(
    program: Program,
    splits: Splits,
    config: Config,
    on_epoch: Callable[[], None] = lambda: None,
) -> Outcome:
    """Trains for all epochs, validates after each, and reads the test split once.

    The initial parameters and the order of the data are functions of the seed alone,
    so that arms with equal seeds are paired.
    """
    start = time.perf_counter()
    params = initial_params(splits.train, splits.classes, config.seed)
    state = on_all_devices(program.transformation.init(params))
    epochs, training_seconds = [], 0.0
    for epoch in range(config.epochs):
        key = order_key(config.seed, epoch)
        epoch_start = time.perf_counter()
        params, state, train = jax.block_until_ready(
            program.train_epoch(params, state, key, splits.train)
        )
        training_seconds += time.perf_counter() - epoch_start
        validation = score(params, splits.validation)
        epochs.append(Epoch(*map(float, (*train, *validation))))
        on_epoch()
    test = jax.block_until_ready(score(params, splits.test))
    seconds = time.perf_counter() - start
    images = config.epochs * len(splits.train.labels)
    return Outcome(tuple(epochs), test, seconds, images / training_seconds)


def initial_params(
    train: Examples, classes: int, seed: ArrayLike, network: Network = model
) -> model.Params:
    """Parameters for the images of a split: a function of the seed alone."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    _, height, width, channels = train.images.shape
    init = jax.jit(network.init, static_argnums=(1, 2))  # one program, not forty
    return on_all_devices(init(key, (height, width, channels), classes))


def order_key(seed: ArrayLike, epoch: ArrayLike) -> Array:
    """The key of an epoch's order of the data."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), epoch)
    return on_all_devices(key)


def _train_epoch(
    network: Network,
    transformation: optax.GradientTransformation,
    batch_size: int,
    params: model.Params,
    state: optax.OptState,
    key: Array,
    train: Examples,
) -> tuple[model.Params, optax.OptState, Score]:
    """Every example once, in an order that is a pure function of the key."""
    order = jax.random.permutation(key, len(train.labels))
    size = slice_size(batch_size, jax.device_count())
    rows = in_batches(order, batch_size, size * jax.device_count())
    all_steps = jax.shard_map(
        partial(steps, network, transformation, size),
        mesh=device_mesh(),
        in_specs=(
            PartitionSpec(),
            PartitionSpec(),
            PartitionSpec(None, "data"),
            PartitionSpec(),
        ),
        out_specs=PartitionSpec(),
        check_vma=False,  # it can't see that the gradients' sum is the same everywhere
    )
    return all_steps(params, state, rows, train)


def steps(
    network: Network,
    transformation: optax.GradientTransformation,
    slice_size: int,
    params: model.Params,
    state: optax.OptState,
    rows: tuple[Array, Array],
    train: Examples,
) -> tuple[model.Params, optax.OptState, Score]:
    """A device's share of all steps: its part of each batch, and then the same step."""

    def loss_sum(params: model.Params, rows: Any) -> tuple[Array, Array]:
        return weighted_sums(network, params, train, *rows)

    def step(carry: Any, rows: tuple[Array, Array]) -> tuple[Any, Score]:
        params, state = carry
        of_slice = partial(jax.value_and_grad(loss_sum, has_aux=True), params)
        sums = sum_in_slices(of_slice, rows, slice_size), jnp.sum(rows[1])
        flat, unravel = ravel_pytree(sums)  # one exchange, not one for each array
        ((loss, correct), gradients), count = unravel(jax.lax.psum(flat, "data"))
        gradients = jax.tree.map(lambda g: g / count, gradients)
        updates, state = transformation.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), Score(loss, correct)

    (params, state), sums = jax.lax.scan(step, (params, state), rows)
    return params, state, Score(*(jnp.sum(x) / len(train.labels) for x in sums))
