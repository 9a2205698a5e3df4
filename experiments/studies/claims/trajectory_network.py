"""Claim 1 on the network: how straight its path is, and how often its loss rises."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from experiments.data.examples import Examples, in_batches, sum_in_slices
from experiments.distributed.devices import device_mesh, on_all_devices, slice_size
from experiments.studies.claims.verdict import Measured, Prediction, difference, ratio
from experiments.studies.lifecycle import OpenStudy
from experiments.training import step as train_step
from experiments.training.program import Point, as_arrays
from experiments.training.scoring import Network, weighted_sums
from optax_momentum import keras

LEARNING_RATE, BETA = 0.01, 0.9
BATCH_SIZE = 64
WATCHED = 128  # training images whose loss is taken after every step

# (learning rate, beta): keras at beta 0 is SGD.
ARMS = {
    "sgd": (LEARNING_RATE, 0.0),
    "sgd_large_step": (LEARNING_RATE / (1 - BETA), 0.0),
    "ema": (LEARNING_RATE * (1 - BETA), BETA),
    "keras": (LEARNING_RATE, BETA),
}
# With their settled steps.
TITLES = {
    "sgd": "SGD, 0.01",
    "sgd_large_step": "SGD, 0.1",
    "ema": "Momentum, 0.01",
    "keras": "Momentum, 0.1",
}
FIXED = {"arms": ARMS, "batch_size": BATCH_SIZE, "watched": WATCHED}
_PAIRS = {
    "settled step": ("keras", "sgd_large_step", LEARNING_RATE / (1 - BETA)),
    "learning rate": ("keras", "sgd", LEARNING_RATE),
}
_SEEN: dict[str, tuple[str, Literal["below", "above"], float, Any]] = {
    "straightness": ("path length over distance, momentum / SGD", "below", 1, ratio),
    "cosine": ("cosine of successive steps, momentum − SGD", "above", 0, difference),
    "rises": (
        "share of steps that raise the loss of the same training images, "
        "momentum − SGD",
        "below",
        0,
        difference,
    ),
}
PREDICTIONS = tuple(
    Prediction(
        f"network {name} {what}",
        f"network: {words}, both with {what} {value:g}",
        side,
        bound,
    )
    for what, (_, _, value) in _PAIRS.items()
    for name, (words, side, bound, _) in _SEEN.items()
)


class Walk(NamedTuple):
    """What is seen of training runs; arrays [runs]."""

    straightness: Array  # length of the path over distance between its ends
    cosine: Array  # mean, of successive steps
    rises: Array  # share of steps after which the watched loss is higher
    losses: Array  # [runs, steps], the watched loss after every step


def measure(study: OpenStudy, budget: Any) -> dict[str, Any]:
    """The walks of all arms with all seeds, as JSON values."""
    context = study.context
    rows = context.folds["hold-out"].train
    dataset = context.dataset
    images, labels = dataset.train_images[rows], dataset.train_labels[rows]
    examples = Examples(*on_all_devices((images, labels)))
    seeds = range(budget.seed, budget.seed + budget.seeds)
    points = [Point(*arm, seed) for arm in ARMS.values() for seed in seeds]
    walks = walk(context.network, points, examples, dataset.classes, budget.walk_epochs)
    parted = [
        Walk._make(each[i * len(seeds) : (i + 1) * len(seeds)] for each in walks)
        for i in range(len(ARMS))
    ]
    arms = dict(zip(ARMS, parted, strict=True))
    return {
        **_tests(arms),
        "walks": {
            arm: {
                "straightness": own.straightness.tolist(),
                "cosine": own.cosine.tolist(),
                "rises": own.rises.tolist(),
                "losses": own.losses[0].tolist(),
            }
            for arm, own in arms.items()
        },
    }


def walk(
    network: Network,
    points: Sequence[Point],
    examples: Examples,
    classes: int,
    epochs: int,
) -> Walk:
    """Trains with momentum from all points, of which devices take equal shares.

    A run starts from the parameters and sees the images in the order that `train_runs`
    gives its seed.
    """
    mesh = device_mesh(math.gcd(len(points), jax.device_count()))
    lanes = PartitionSpec("lanes")
    of_lane = partial(_walk, network, min(WATCHED, len(examples.labels)))

    def all_walks(points: Point, examples: Examples) -> Walk:
        seeds = jnp.asarray(points.seed)

        def rows_of(seed: ArrayLike) -> Any:
            def of_epoch(epoch: Array) -> tuple[Array, Array]:
                key = train_step.order_key(seed, epoch)
                order = jax.random.permutation(key, len(examples.labels))
                return in_batches(order, BATCH_SIZE)

            rows = jax.vmap(of_epoch)(jnp.arange(epochs))
            return jax.tree.map(lambda x: x.reshape(-1, BATCH_SIZE), rows)

        def initial(seed: ArrayLike) -> Any:
            shape = train_step.image_shape(examples)
            return train_step.initial_params(shape, classes, seed, network)

        own = points, jax.vmap(initial)(seeds), jax.vmap(rows_of)(seeds)
        return jax.shard_map(
            lambda own, examples: jax.lax.map(partial(of_lane, examples), own),
            mesh=mesh,
            in_specs=(lanes, PartitionSpec()),
            out_specs=lanes,
            check_vma=False,
        )(own, examples)

    walks = jax.jit(all_walks)(as_arrays(points), examples)
    return Walk._make(map(np.asarray, walks))


def _walk(
    network: Network,
    watched: int,
    examples: Examples,
    run: tuple[Point, Any, tuple[Array, Array]],
) -> Walk:
    """One training run, seen step by step: its point, first parameters, and batches."""
    point, params, rows = run
    transformation = keras(point.learning_rate, point.beta)
    first, unravel = ravel_pytree(params)
    same = jax.tree.map(jnp.ravel, in_batches(jnp.arange(watched), BATCH_SIZE))

    def loss_sum(flat: Array, rows: tuple[Array, Array]) -> Array:
        return weighted_sums(network, unravel(flat), examples, *rows)[0]

    def mean(function: Any, flat: Array, rows: tuple[Array, Array]) -> Array:
        size = slice_size(len(rows[0]), 1)
        total = sum_in_slices(partial(function, flat), rows, size)
        return total / jnp.sum(rows[1])

    def step(carry: Any, rows: tuple[Array, Array]) -> tuple[Any, Any]:
        flat, state, before = carry
        gradient = mean(jax.grad(loss_sum), flat, rows)
        updates, state = transformation.update(gradient, state)
        move = jnp.asarray(updates)
        flat = flat + move
        length = jnp.linalg.norm(move)
        cosine = jnp.vdot(move, before) / (length * jnp.linalg.norm(before))
        return (flat, state, move), (length, cosine, mean(loss_sum, flat, same))

    start = first, transformation.init(first), jnp.ones_like(first)
    (last, _, _), (lengths, cosines, losses) = jax.lax.scan(step, start, rows)
    return Walk(
        jnp.sum(lengths) / jnp.linalg.norm(last - first),
        jnp.mean(cosines[1:]),  # the first step has none before it
        jnp.mean((losses[1:] > losses[:-1]).astype(jnp.float32)),
        losses,
    )


def _tests(arms: dict[str, Walk]) -> dict[str, Measured]:
    return {
        f"network {name} {what}": compare(
            getattr(arms[first], name), getattr(arms[second], name)
        )
        for what, (first, second, _) in _PAIRS.items()
        for name, (_, _, _, compare) in _SEEN.items()
    }
