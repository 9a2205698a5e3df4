"""Seconds to reach the final accuracy of the tutorial's Keras run on CIFAR-10."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from experiments.bench import table
from experiments.data import image_dataset
from experiments.data.examples import Splits, split
from experiments.networks import cnn
from experiments.peers import process
from experiments.problems.image_classification import image_classification
from experiments.records.config import UsageError
from experiments.training.engine import compile_to_fit, train_runs
from experiments.training.points import Point
from experiments.training.program import compile_program
from experiments.training.step import TrainSpec, constant
from optax_momentum import keras

EPOCHS = 3  # of our runs; the tutorial trains 10
BATCH_SIZE = 32
TASK = image_classification(cnn, classes=10)
FALLING = 0.4  # the last part of the steps, in which the learning rate falls
LEARNING_RATES = (0.01, 0.02, 0.03)
BETAS = (0.8, 0.9, 0.95)
TUNING_SEEDS = (100, 101, 102)  # none of them is measured
SEEDS = (0, 1, 2)


def bench_accuracy(python: Path | None, data_dir: Path | None) -> None:
    """Tunes on validation data, then measures; JSON lines to stdout, a table to stderr.

    Our runs train for a few epochs. The learning rate is constant, then falls linearly
    to 0; a sweep on the validation split chooses its first value and beta. The seconds
    include every compilation, as in a first run.

    Raises:
      UsageError: there is no interpreter, it lacks Keras, or CIFAR-10 is not prepared.
    """
    if python is None:
        raise UsageError(
            "bench accuracy needs --peers PYTHON: the accuracy to reach is Keras's."
        )
    jax.config.update("jax_compilation_cache_dir", None)
    splits = load_cifar10(data_dir)
    title = "seconds to reach the accuracy of the tutorial's Keras run"
    table.print_records(title, _measure(python, splits))


def _measure(python: Path, splits: Splits) -> Iterator[Mapping[str, object]]:
    """One record for Keras, then one for each of our seeds."""
    baseline = _keras(python, splits)
    goal = baseline["validation_accuracy"]
    yield {**baseline, "reached": True, "theirs_over_this": 1.0}
    best = _tuned(splits)
    for seed in SEEDS:
        jax.clear_caches()
        spec = TrainSpec(constant(_decaying(splits)(*best)), BATCH_SIZE, TASK)
        program = compile_program(spec, 1, splits, test=True)
        outcome = train_runs(program, [Point(*best, seed)], splits, EPOCHS, test=True)
        assert outcome.test is not None
        seconds = program.compile_seconds + outcome.seconds
        accuracy = float(outcome.validation.metric[0, -1])
        yield {
            "benchmark": "accuracy",
            "program": f"optax_momentum, learning rate {best[0]}, beta {best[1]}",
            "seed": seed,
            "epochs": EPOCHS,
            "seconds": round(seconds, 1),
            "validation_accuracy": accuracy,
            "test_accuracy": float(outcome.test.metric[0]),
            "reached": accuracy >= goal,
            "theirs_over_this": round(baseline["seconds"] / seconds, 2),
        }


def _keras(python: Path, splits: Splits) -> dict:
    """The record of the tutorial's momentum run, which Keras times itself."""
    with saved(splits) as path:
        arguments = python, "accuracy_keras.py", path, str(SEEDS[0])
        with process.start(*arguments) as peer:
            answer = json.loads(peer.ask("fit"))
    return {"benchmark": "accuracy", "program": peer.greeting, **answer}


def load_cifar10(data_dir: Path | None) -> Splits:
    return split(image_dataset.load("cifar10", data_dir))


@contextmanager
def saved(splits: Splits) -> Iterator[str]:
    """The path of a temporary file with all arrays, for programs of other systems."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        names = "train", "validation", "test"
        arrays: dict[str, Any] = {
            f"{name}_{field}": np.asarray(array)
            for name in names
            for field, array in getattr(splits, name)._asdict().items()
        }
        np.savez(file, **arrays)
        file.flush()
        yield file.name


def _tuned(splits: Splits) -> tuple[float, float]:
    """The (learning_rate, beta) with the best mean final validation accuracy."""
    settings = [(rate, beta) for rate in LEARNING_RATES for beta in BETAS]
    points = [Point(*setting, seed) for setting in settings for seed in TUNING_SEEDS]
    spec = TrainSpec(_decaying(splits), BATCH_SIZE, TASK)
    program = compile_to_fit(spec, len(points), splits)
    outcome = train_runs(program, points, splits, EPOCHS)
    accuracy = np.nan_to_num(outcome.validation.metric[:, -1])
    means = accuracy.reshape(len(settings), -1).mean(axis=1)
    return settings[int(np.argmax(means))]


def _decaying(splits: Splits):
    """Keras's Nesterov momentum, whose learning rate falls to 0 at the end."""
    steps = EPOCHS * -(-len(splits.train.labels) // BATCH_SIZE)

    def transformation(learning_rate, beta) -> optax.GradientTransformation:
        def rate(step: ArrayLike) -> jax.Array:
            remaining = 1 - jnp.asarray(step, jnp.float32) / steps
            return learning_rate * jnp.minimum(1, remaining / FALLING)

        return keras(rate, beta, nesterov=True)

    return transformation
