"""A study_context on few invented images, with a network that compiles fast."""

import io
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
    """Random images, the mean of each telling its class."""
    random = np.random.default_rng(7)
    labels = (np.arange(images + 12) % classes).astype(np.int32)
    pixels = (
        random.integers(0, 90, (images + 12, 4, 5, 1))
        + 60 * labels[:, None, None, None]
    )
    pixels = pixels.astype(np.uint8)
    return image_dataset.Dataset(
        "invented",
        pixels[:images],
        labels[:images],
        pixels[images:],
        labels[images:],
        classes,
    )


def study_context(
    output: Path,
    folds: dict[str, Fold] | None = None,
    arms: dict[str, Arm] | None = None,
    dataset: image_dataset.Dataset | None = None,
) -> StudyContext:
    """An empty one, in a directory that is there."""
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
    defaults = dict(
        dataset="invented",
        data_digest="0123456789abcdef",
        arm="momentum",
        learning_rate=0.07,
        beta=0.83,
        batch_size=8,
        epochs=2,
        seed=1003,
        network="mlp",
        test=False,
    )
    return Config(**{**defaults, **settings})
