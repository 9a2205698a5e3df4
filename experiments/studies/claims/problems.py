"""The problems of claim 4: a model, a loss and data, to be tuned and then reported.

Small ones are trained by a program of their own, all runs vmapped, since the
context's classifiers know cross-entropy alone; the network is the context's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from experiments.data import image_dataset
from experiments.data.examples import Examples, in_batches
from experiments.distributed.devices import device_mesh
from experiments.networks import mlp
from experiments.records.runs import Run
from experiments.studies import paired, validation
from experiments.studies.claims import linear
from experiments.studies.context import run_all
from experiments.studies.lifecycle import OpenStudy
from experiments.studies.validation import Score
from experiments.training.program import Point, as_arrays
from experiments.training.scoring import Network
from optax_momentum import keras

BATCH_SIZE = 64
LANES = 20  # runs of the small problems that are trained together

Loss = Callable[[Array, Array], Array]  # logits [n, classes], labels [n] ↦ [n]


class Problem(NamedTuple):
    """What can be trained from a point of (learning rate, beta, seed)."""

    title: str
    validate: Callable[[Sequence[Point]], list[Score]]
    test: Callable[[Sequence[Point]], list[float]]  # accuracies; 0 where it diverged


class Parts(NamedTuple):
    """A data set of float32 rows, each an image, and its three parts."""

    train: Examples
    validation: Examples
    test: Examples


def squared(logits: Array, labels: Array) -> Array:
    """Half the squared distance from the one-hot label."""
    return 0.5 * jnp.sum((logits - jax.nn.one_hot(labels, logits.shape[1])) ** 2, -1)


def hinge(logits: Array, labels: Array) -> Array:
    """By how much a wrong class comes closer than 1 to the right one (Crammer)."""
    right = jax.nn.one_hot(labels, logits.shape[1])
    own = jnp.sum(logits * right, axis=-1, keepdims=True)
    return jnp.max(logits - own + 1 - right, axis=-1)


MODELS = {"linear": linear, "MLP": mlp}
LOSSES = {
    "squared": squared,
    "cross-entropy": optax.softmax_cross_entropy_with_integer_labels,
    "hinge": hinge,
}


def digits() -> Parts:
    """scikit-learn's digits, 8×8 as they come, in the context's three parts."""
    dataset = image_dataset.load(image_dataset.EMBEDDED, None)
    train, labels, held_out, held_out_labels = image_dataset.hold_out(dataset)
    return Parts(
        _rows(train[:, ::3, ::3] / 255, labels),
        _rows(held_out[:, ::3, ::3] / 255, held_out_labels),
        _rows(dataset.test_images[:, ::3, ::3] / 255, dataset.test_labels),
    )


def table(seed: int) -> Parts:
    """A synthetic table: 2,000 rows of 20 columns, three overlapping classes.

    Columns are standardised by the mean and deviation of the training rows.
    """
    from sklearn.datasets import make_classification  # slow to import

    columns, labels = make_classification(
        2000,
        n_features=20,
        n_informative=8,
        n_redundant=6,
        n_classes=3,
        flip_y=0.05,
        random_state=seed,
    )
    columns, labels = np.asarray(columns), np.asarray(labels)
    cuts = ((0, 1200), (1200, 1600), (1600, 2000))
    columns = (columns - columns[:1200].mean(axis=0)) / columns[:1200].std(axis=0)
    columns = columns[:, None, :, None]
    return Parts(*(_rows(columns[low:high], labels[low:high]) for low, high in cuts))


def _rows(images: np.ndarray, labels: np.ndarray) -> Examples:
    return Examples(jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32))


def small(model: str, loss: str, table: str, parts: Parts, epochs: int) -> Problem:
    """A problem whose runs are all trained by one program, `LANES` at a time."""
    network, loss_of = MODELS[model], LOSSES[loss]
    classes = int(parts.train.labels.max()) + 1

    def fitted(points: Sequence[Point], part: Examples) -> list[Score]:
        scores = []
        for first in range(0, len(points), LANES):
            chunk = list(points[first : first + LANES])
            filled = as_arrays(chunk + [chunk[-1]] * (LANES - len(chunk)))
            params = _train(network, loss_of, epochs, classes, parts.train, filled)
            losses, accuracies = _score(network, loss_of, params, part)
            scores += map(_judged, losses[: len(chunk)], accuracies[: len(chunk)])
        return scores

    return Problem(
        f"{model}, {loss}, {table}",
        lambda points: fitted(points, parts.validation),
        lambda points: [score.accuracy for score in fitted(points, parts.test)],
    )


def _judged(loss: ArrayLike, accuracy: ArrayLike) -> Score:
    """The worst, where the loss is not finite."""
    if not np.isfinite(loss):
        return Score(0.0, -math.inf)
    return Score(float(np.asarray(accuracy)), -float(np.asarray(loss)))


def network(study: OpenStudy, dataset: str) -> Problem:
    """The context's network on its data: each run is recorded as it ends."""

    def done(points: Sequence[Point], phase: str, test: bool) -> list[Run]:
        configs = [
            replace(study.base, arm="momentum", test=test, **point._asdict())
            for point in points
        ]
        return run_all(study.context, configs, phase)

    classes = study.context.dataset.classes

    def validate(points: Sequence[Point]) -> list[Score]:
        found = done(points, "Claim 4: tuning", False)
        return [validation.score(run, classes) for run in found]

    def tested(points: Sequence[Point]) -> list[float]:
        return paired.accuracies(done(points, "Claim 4: testing", True), classes)

    return Problem(f"network, cross-entropy, {dataset}", validate, tested)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _train(
    network: Network,
    loss: Loss,
    epochs: int,
    classes: int,
    examples: Examples,
    points: Point,
) -> Any:
    """The parameters of all runs after all epochs, of which devices take equal shares.

    As in `lanes`, a CPU trains one run after another.
    """
    on_cpu = jax.default_backend() == "cpu"

    def on_device(points: Point, examples: Examples) -> Any:
        own = partial(_train_one, network, loss, epochs, classes, examples)
        return jax.lax.map(own, points) if on_cpu else jax.vmap(own)(points)

    lanes = PartitionSpec("lanes")
    return jax.shard_map(
        on_device,
        mesh=device_mesh(math.gcd(LANES, jax.device_count())),
        in_specs=(lanes, PartitionSpec()),
        out_specs=lanes,
        check_vma=False,
    )(points, examples)


def _train_one(
    network: Network,
    loss: Loss,
    epochs: int,
    classes: int,
    examples: Examples,
    point: Point,
) -> Any:
    """Those of one; where it starts, and in which order, is its seed's alone."""
    transformation = keras(point.learning_rate, point.beta)
    start, order = jax.random.split(jax.random.key(point.seed))
    _, height, width, channels = examples.images.shape

    def batch_loss(params: Any, rows: tuple[Array, Array]) -> Array:
        indices, weights = rows
        logits = network.apply(params, examples.images[indices])
        losses = loss(logits, examples.labels[indices])
        return jnp.sum(weights * losses) / jnp.sum(weights)

    def step(carry: Any, rows: tuple[Array, Array]) -> tuple[Any, None]:
        params, state = carry
        gradients = jax.grad(batch_loss)(params, rows)
        updates, state = transformation.update(gradients, state)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry: Any, key: Array) -> tuple[Any, None]:
        shuffled = jax.random.permutation(key, len(examples.labels))
        return jax.lax.scan(step, carry, in_batches(shuffled, BATCH_SIZE))

    params = network.init(start, (height, width, channels), classes)
    carry = params, transformation.init(params)
    (params, _), _ = jax.lax.scan(epoch, carry, jax.random.split(order, epochs))
    return params


@partial(jax.jit, static_argnums=(0, 1))
def _score(
    network: Network, loss: Loss, params: Any, examples: Examples
) -> tuple[Array, Array]:
    """Mean loss and accuracy of every run over all examples."""

    def of_one(params: Any) -> tuple[Array, Array]:
        logits = network.apply(params, examples.images)
        hits = jnp.argmax(logits, axis=-1) == examples.labels
        losses = loss(logits, examples.labels)
        return jnp.mean(losses), jnp.mean(hits.astype(jnp.float32))

    return jax.vmap(of_one)(params)
