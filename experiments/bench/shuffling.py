"""Accuracy of the tutorial's momentum run with a new order of images in each epoch.

And with the first epoch's order in all of them, which is what Keras on TensorFlow does
after `keras.utils.set_random_seed`. Trains in three systems, so that each is a witness.
"""

import json
import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import tee
from pathlib import Path
from typing import Any, Protocol

from experiments.bench import table
from experiments.bench.accuracy import TASK, load_cifar10, saved
from experiments.data.examples import Splits
from experiments.peers import process
from experiments.records.config import UsageError
from experiments.training.engine import train_runs
from experiments.training.points import Point
from experiments.training.program import compile_program
from experiments.training.step import TrainSpec, constant
from optax_momentum import keras

EPOCHS = 10
BATCH_SIZE = 64
LEARNING_RATE = 0.01
BETA = 0.9
SEEDS = (0, 1, 2, 3, 4)
PEERS = ("shuffling_keras.py", "shuffling_pytorch.py")


class Train(Protocol):
    """Trains one run.

    Returns {"test_accuracy": float, "validation_accuracy": a float an epoch}.
    """

    def __call__(self, seed: int, repeats: bool) -> dict[str, Any]: ...


def bench_shuffling(python: Path | None, data_dir: Path | None) -> None:
    """Trains everything; JSON lines to stdout, tables to stderr.

    Raises:
      UsageError: there is no interpreter, it lacks a library, or CIFAR-10 is not
        prepared.
    """
    if python is None:
        raise UsageError("bench shuffling needs --peers PYTHON: it compares systems.")
    splits = load_cifar10(data_dir)
    with ExitStack() as running:
        path = running.enter_context(saved(splits))
        systems = {"optax_momentum": _ours(splits)}
        for name in PEERS:
            peer = running.enter_context(process.start(python, name, path, str(EPOCHS)))
            systems[peer.greeting] = _theirs(peer)
        title = f"accuracy after {EPOCHS} epochs of the tutorial's momentum run"
        for_runs, for_means = tee(_runs(systems))
        table.print_records(title, for_runs)
    table.print_records(f"{title}, {len(SEEDS)} seeds", _summary([*for_means]))


def _runs(systems: Mapping[str, Train]) -> Iterator[Mapping[str, Any]]:
    """One record a run, the systems in turn."""
    for seed in SEEDS:
        for repeats in (False, True):
            for name, train in systems.items():
                yield {
                    "benchmark": "shuffling",
                    "program": name,
                    "order": _order(repeats),
                    "seed": seed,
                    **train(seed, repeats),
                }


def _summary(runs: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Mean and standard deviation over the seeds, for each system and order."""
    for program in dict.fromkeys(run["program"] for run in runs):
        for order in map(_order, (False, True)):
            accuracies = [
                run["test_accuracy"]
                for run in runs
                if (run["program"], run["order"]) == (program, order)
            ]
            yield {
                "benchmark": "shuffling",
                "program": program,
                "order": order,
                "mean_test_accuracy": statistics.mean(accuracies),
                "standard_deviation": statistics.stdev(accuracies),
            }


def _order(repeats: bool) -> str:
    return "that of epoch 1" if repeats else "new each epoch"


def _ours(splits: Splits) -> Train:
    spec = TrainSpec(constant(keras(LEARNING_RATE, BETA)), BATCH_SIZE, TASK)
    program = compile_program(spec, 1, splits, test=True)

    def of_first_epoch(points, state, epoch, *rest):
        return program.train_steps(points, state, 0, *rest)

    repeating = replace(program, train_steps=of_first_epoch)

    def train(seed: int, repeats: bool) -> dict[str, Any]:
        points = [Point(LEARNING_RATE, BETA, seed)]
        chosen = repeating if repeats else program
        outcome = train_runs(chosen, points, splits, EPOCHS, test=True)
        assert outcome.test is not None
        return {
            "test_accuracy": float(outcome.test.metric[0]),
            "validation_accuracy": outcome.validation.metric[0].tolist(),
        }

    return train


def _theirs(peer: process.PeerProcess) -> Train:
    def train(seed: int, repeats: bool) -> dict[str, Any]:
        return json.loads(peer.ask(json.dumps({"seed": seed, "repeats": repeats})))

    return train
