"""A `StudyContext` with a few random images and a network that compiles fast."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.data import image_dataset
from experiments.networks import mlp
from experiments.optimizers.arms import Arm
from experiments.records.config import Config
from experiments.studies.context import Fold, StudyContext, hold_out
from experiments.studies.methods import METHODS
from experiments.training.startup_check import StartupCheck


def small_dataset(images: int = 40, classes: int = 3) -> image_dataset.Dataset:
    """Random images whose brightness shows their class."""
    random = np.random.default_rng(7)
    labels = (np.arange(images + 12) % classes).astype(np.int32)
    noise = random.integers(0, 90, (images + 12, 4, 5, 1))
    pixels = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
    train, test = (pixels[:images], labels[:images]), (pixels[images:], labels[images:])
    return image_dataset.Dataset("invented", *train, *test, classes)


def study_context(
    output: Path,
    folds: dict[str, Fold] | None = None,
    arms: dict[str, Arm] | None = None,
    dataset: image_dataset.Dataset | None = None,
) -> StudyContext:
    """A context without runs, in an existing directory."""
    dataset = small_dataset() if dataset is None else dataset
    return StudyContext(
        output,
        dataset,
        mlp,
        {key: method.arm for key, method in METHODS.items()} if arms is None else arms,
        {**hold_out(dataset), **(folds or {})},
        Console(file=io.StringIO()),
        {},
        StartupCheck(0.0, True, 0.0),
    )


def config(**settings) -> Config:
    """A tuning run of momentum."""
    base = Config("invented", "0123456789abcdef", "momentum", 0.07, 0.83, 8, 2, 1003)
    return replace(base, **{"network": "mlp", "test": False, **settings})
