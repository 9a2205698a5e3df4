"""The problems of claim 4: a model, a loss and data, to be tuned and then tested.

The small problems train in a program of this file, with all runs vmapped: a study
context has one problem, and records each run. The study's own trains in the context.
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
from jaxtyping import Float, Int, PyTree

from experiments.data import image_dataset
from experiments.data.examples import Examples, Splits, in_batches
from experiments.distributed.devices import device_mesh
from experiments.networks import mlp
from experiments.networks.network import Network, random_key
from experiments.records.runs import Run
from experiments.studies import paired, validation
from experiments.studies.claims import linear
from experiments.studies.context import run_all
from experiments.studies.lifecycle import OpenStudy
from experiments.studies.validation import Score
from experiments.training.points import Point, as_arrays
from optax_momentum import keras

BATCH_SIZE = 64
LANES = 20  # runs of a small problem that train together

Logits = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]
Losses = Float[Array, " batch"]
Loss = Callable[[Logits, Labels], Losses]


class Problem(NamedTuple):
    """A training task; a point sets learning rate, beta and seed of a run."""

    title: str
    validate: Callable[[Sequence[Point]], list[Score]]
    test: Callable[[Sequence[Point]], list[float]]  # the metric, or the worst value


def squared(logits: Logits, labels: Labels) -> Losses:
    """Half the squared distance from the one-hot label."""
    return 0.5 * jnp.sum((logits - jax.nn.one_hot(labels, logits.shape[1])) ** 2, -1)


def hinge(logits: Logits, labels: Labels) -> Losses:
    """The largest violation of a margin of 1 between the true class and another.

    References:
      Crammer and Singer 2001, On the Algorithmic Implementation of Multiclass
      Kernel-based Vector Machines, JMLR 2.
    """
    true = jax.nn.one_hot(labels, logits.shape[1])
    true_logit = jnp.sum(logits * true, axis=-1, keepdims=True)
    return jnp.max(logits - true_logit + 1 - true, axis=-1)


MODELS = {"linear": linear, "MLP": mlp}
LOSSES = {
    "squared": squared,
    "cross-entropy": optax.softmax_cross_entropy_with_integer_labels,
    "hinge": hinge,
}


def digits() -> Splits:
    """scikit-learn's digits at their original 8×8 pixels, split as in all studies."""
    dataset = image_dataset.load(image_dataset.EMBEDDED, None)
    train, labels, validation, validation_labels = image_dataset.hold_out(dataset)
    return Splits(
        _examples(train[:, ::3, ::3] / 255, labels),
        _examples(validation[:, ::3, ::3] / 255, validation_labels),
        _examples(dataset.test_images[:, ::3, ::3] / 255, dataset.test_labels),
    )


def table(seed: int) -> Splits:
    """A synthetic table: 2,000 rows of 20 columns, in three overlapping classes.

    Columns are standardized by the mean and standard deviation of the training rows.
    """
    from sklearn.datasets import make_classification  # slow to import

    classes = 3
    kinds: dict[str, Any] = {
        "n_features": 20,
        "n_informative": 8,
        "n_redundant": 6,
        "flip_y": 0.05,
    }
    columns, labels = make_classification(
        2000, n_classes=classes, random_state=seed, **kinds
    )
    columns, labels = np.asarray(columns), np.asarray(labels)
    cuts = ((0, 1200), (1200, 1600), (1600, 2000))
    columns = (columns - columns[:1200].mean(axis=0)) / columns[:1200].std(axis=0)
    columns = columns[:, None, :, None]
    return Splits(
        *(_examples(columns[low:high], labels[low:high]) for low, high in cuts),
    )


def _examples(images: np.ndarray, labels: np.ndarray) -> Examples:
    return Examples(jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32))


def small(model: str, loss: str, table: str, splits: Splits, epochs: int) -> Problem:
    """A problem that one program trains, `LANES` runs at a time."""
    network, losses_of = MODELS[model], LOSSES[loss]
    classes = int(splits.train.labels.max()) + 1

    def train_and_score(points: Sequence[Point], scored: Examples) -> list[Score]:
        scores = []
        for first in range(0, len(points), LANES):
            chunk = list(points[first : first + LANES])
            padded = as_arrays(chunk + [chunk[-1]] * (LANES - len(chunk)))
            params = _train(network, losses_of, epochs, classes, splits.train, padded)
            losses, accuracies = _score(network, losses_of, params, scored)
            scores += map(_as_score, losses[: len(chunk)], accuracies[: len(chunk)])
        return scores

    return Problem(
        f"{model}, {loss}, {table}",
        lambda points: train_and_score(points, splits.validation),
        lambda points: [s.goodness for s in train_and_score(points, splits.test)],
    )


def _as_score(loss: ArrayLike, accuracy: ArrayLike) -> Score:
    """The score of a run; the worst possible if its loss is not finite."""
    if not np.isfinite(loss):
        return Score(0.0, -math.inf)
    return Score(float(np.asarray(accuracy)), -float(np.asarray(loss)))


def of_study(study: OpenStudy, title: str) -> Problem:
    """The study's own problem; every finished run is recorded."""
    context, measure = study.context, study.context.subject.measure

    def run(points: Sequence[Point], phase: str, *, test: bool) -> list[Run]:
        base = replace(study.base, arm="momentum", test=test)
        return run_all(context, [replace(base, **p._asdict()) for p in points], phase)

    def validate(points: Sequence[Point]) -> list[Score]:
        runs = run(points, "Claim 4: tuning", test=False)
        return [validation.score(each, measure) for each in runs]

    def test(points: Sequence[Point]) -> list[float]:
        return paired.tested(run(points, "Claim 4: testing", test=True), measure)

    return Problem(title, validate, test)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _train(
    network: Network,
    loss: Loss,
    epochs: int,
    classes: int,
    examples: Examples,
    points: Point,
) -> PyTree:
    """The parameters of all runs after all epochs; devices take equal shares of runs.

    On CPU, each device trains its runs sequentially, as `lanes` does.
    """
    on_cpu = jax.default_backend() == "cpu"

    def on_device(points: Point, examples: Examples) -> PyTree:
        train = partial(_train_one, network, loss, epochs, classes, examples)
        return jax.lax.map(train, points) if on_cpu else jax.vmap(train)(points)

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
) -> PyTree:
    """The parameters of one run; its seed sets the first ones and the data order."""
    transformation = keras(point.learning_rate, point.beta)
    start, order = jax.random.split(random_key(point.seed))
    _, height, width, channels = examples.images.shape

    def batch_loss(params: PyTree, rows: tuple[Array, Array]) -> Array:
        indices, weights = rows
        logits = network.apply(params, examples.images[indices])
        losses = loss(logits, examples.labels[indices])
        return jnp.sum(weights * losses) / jnp.sum(weights)

    def step(carry: PyTree, rows: tuple[Array, Array]) -> tuple[PyTree, None]:
        params, state = carry
        gradients = jax.grad(batch_loss)(params, rows)
        updates, state = transformation.update(gradients, state)
        return (optax.apply_updates(params, updates), state), None

    def epoch(carry: PyTree, key: Array) -> tuple[PyTree, None]:
        shuffled = jax.random.permutation(
            key, jnp.arange(len(examples.labels), dtype=jnp.int32)
        )
        return jax.lax.scan(step, carry, in_batches(shuffled, BATCH_SIZE))

    params = network.init(start, (height, width, channels), classes)
    carry = params, transformation.init(params)
    (params, _), _ = jax.lax.scan(epoch, carry, jax.random.split(order, epochs))
    return params


@partial(jax.jit, static_argnums=(0, 1))
def _score(
    network: Network, loss: Loss, params: PyTree, examples: Examples
) -> tuple[Float[Array, " runs"], Float[Array, " runs"]]:
    """The mean loss and accuracy of each run over all examples."""

    def score_one(params: PyTree) -> tuple[Array, Array]:
        logits = network.apply(params, examples.images)
        hits = jnp.argmax(logits, axis=-1).astype(jnp.int32) == examples.labels
        losses = loss(logits, examples.labels)
        return jnp.mean(losses), jnp.mean(hits.astype(jnp.float32))

    return jax.vmap(score_one)(params)
