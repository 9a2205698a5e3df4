"""Seconds to the accuracy with which the tutorial's Keras run on CIFAR-10 ends."""

import json
import tempfile
from collections.abc import Iterator, Mapping
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
from experiments.peers import peer_process
from experiments.records.config import UsageError
from experiments.training.engine import compile_to_fit, train_runs
from experiments.training.program import Point, compile_program
from experiments.training.step import TrainSpec, constant
from optax_momentum import keras

EPOCHS = 3  # ours; the tutorial's are 10
BATCH_SIZE = 32
FALLING = 0.4  # of the steps: the last ones, over which the learning rate falls
LEARNING_RATES = (0.01, 0.02, 0.03)
BETAS = (0.8, 0.9, 0.95)
TUNING_SEEDS = (100, 101, 102)  # those of the measured runs are others
SEEDS = (0, 1, 2)


def bench_accuracy(python: Path | None, data_dir: Path | None) -> None:
    """Tunes on validation data, then measures; JSON lines to stdout, a table to stderr.

    Our runs last a few epochs; the learning rate stays as it is and then falls
    straight to 0. Its first value and beta are those that a sweep found best on the
    validation split. Every compilation counts, as in a first run.

    Raises:
      UsageError: no interpreter, or one without Keras; or no prepared CIFAR-10.
    """
    if python is None:
        raise UsageError(
            "bench accuracy needs --peers PYTHON: the accuracy to reach is Keras's."
        )
    jax.config.update("jax_compilation_cache_dir", None)
    splits = split(image_dataset.load("cifar10", data_dir))
    title = "seconds to the accuracy of the tutorial's Keras run"
    table.print_records(title, _measure(python, splits))


def _measure(python: Path, splits: Splits) -> Iterator[Mapping[str, object]]:
    """A record of Keras, then one of each of our seeds."""
    theirs = _keras(python, splits)
    seconds, goal = theirs["seconds"], theirs["validation_accuracy"]
    yield {**theirs, "reached": True, "theirs_over_this": 1.0}
    best = _tuned(splits)
    for seed in SEEDS:
        jax.clear_caches()
        spec = TrainSpec(constant(_decaying(splits)(*best)), BATCH_SIZE)
        program = compile_program(spec, 1, splits, test=True)
        outcome = train_runs(program, [Point(*best, seed)], splits, EPOCHS, test=True)
        assert outcome.test is not None
        own = program.compile_seconds + outcome.seconds
        accuracy = float(outcome.validation.accuracy[0, -1])
        yield {
            "benchmark": "accuracy",
            "program": f"optax_momentum, learning rate {best[0]}, beta {best[1]}",
            "seed": seed,
            "epochs": EPOCHS,
            "seconds": round(own, 1),
            "validation_accuracy": accuracy,
            "test_accuracy": float(outcome.test.accuracy[0]),
            "reached": accuracy >= goal,
            "theirs_over_this": round(seconds / own, 2),
        }


def _keras(python: Path, splits: Splits) -> dict:
    """The tutorial's momentum run; it measures itself."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        names = "train", "validation", "test"
        arrays: dict[str, Any] = {
            f"{name}_{field}": np.asarray(array)
            for name in names
            for field, array in getattr(splits, name)._asdict().items()
        }
        np.savez(file, **arrays)
        file.flush()
        arguments = python, "accuracy_keras.py", file.name, str(SEEDS[0])
        with peer_process.start(*arguments) as peer:
            answer = json.loads(peer.ask("fit"))
    return {"benchmark": "accuracy", "program": peer.greeting, **answer}


def _tuned(splits: Splits) -> tuple[float, float]:
    """The (learning_rate, beta) of the best mean validation accuracy at the end."""
    settings = [(rate, beta) for rate in LEARNING_RATES for beta in BETAS]
    points = [Point(*setting, seed) for setting in settings for seed in TUNING_SEEDS]
    spec = TrainSpec(_decaying(splits), BATCH_SIZE)
    program = compile_to_fit(spec, len(points), splits)
    outcome = train_runs(program, points, splits, EPOCHS)
    accuracy = np.nan_to_num(outcome.validation.accuracy[:, -1])
    means = accuracy.reshape(len(settings), -1).mean(axis=1)
    return settings[int(np.argmax(means))]


def _decaying(splits: Splits):
    """Keras's momentum, with Nesterov; its learning rate falls to 0 at the end."""
    steps = EPOCHS * -(-len(splits.train.labels) // BATCH_SIZE)

    def transformation(learning_rate, beta) -> optax.GradientTransformation:
        def rate(step: ArrayLike) -> jax.Array:
            left = 1 - jnp.asarray(step, jnp.float32) / steps
            return learning_rate * jnp.minimum(1, left / FALLING)

        return keras(rate, beta, nesterov=True)

    return transformation
