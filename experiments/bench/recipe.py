"""The accuracy that the recipe of `speedrun` reaches here, and in PyTorch."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.bench import table
from experiments.data import image_dataset
from experiments.peers import process
from experiments.records.config import UsageError
from experiments.speedrun import record
from experiments.speedrun.options import Speedrun
from experiments.speedrun.recipe import EPOCHS
from experiments.speedrun.study import speedrun

SEEDS = (0,)


def bench_recipe(
    python: Path | None, data_dir: Path | None, epochs: float | None
) -> None:
    """Trains both on CIFAR-10; JSON lines to stdout, a table to stderr.

    Raises:
      UsageError: there is no interpreter, it lacks PyTorch, or CIFAR-10 is not
        prepared.
    """
    if python is None:
        raise UsageError("bench recipe needs --peers PYTHON: it compares systems.")
    epochs = EPOCHS if epochs is None else epochs
    Speedrun(epochs=epochs).check()
    records = _runs(python, data_dir, epochs)
    table.print_records(f"the recipe of speedrun, {epochs} epochs", records)


def _runs(
    python: Path, data_dir: Path | None, epochs: float
) -> Iterator[Mapping[str, Any]]:
    """One record a run, ours first."""
    dataset = image_dataset.load("cifar10", data_dir)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "data.npz"
        np.savez(
            path,
            train_images=np.asarray(dataset.train_images),
            train_labels=dataset.train_labels,
            test_images=np.asarray(dataset.test_images),
            test_labels=dataset.test_labels,
        )
        arguments = python, "recipe_pytorch.py", str(path), str(epochs)
        with process.start(*arguments) as peer:
            for seed in SEEDS:
                yield _record("optax_momentum", seed, _ours(data_dir, epochs, seed))
                answer = json.loads(peer.ask(json.dumps({"seed": seed})))
                yield _record(peer.greeting, seed, answer)


def _ours(data_dir: Path | None, epochs: float, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "speedrun"
        options = Speedrun(
            epochs=epochs, seeds=seed + 1, data_dir=data_dir, output=output
        )
        speedrun(options, Console(quiet=True))
        run = record.read(output, seed)
    assert run is not None
    seconds = run.training_seconds + run.multicrop_seconds
    return {
        "test_accuracy": run.test_accuracy,
        "multicrop_accuracy": run.multicrop_accuracy,
        "seconds": seconds,
    }


def _record(program: str, seed: int, run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "benchmark": "recipe",
        "program": program,
        "seed": seed,
        **run,
        "seconds": round(run["seconds"], 1),
    }
