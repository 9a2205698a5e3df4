"""A `StudyContext` with a few random images and a network that compiles fast."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.data import image_dataset
from experiments.data.examples import Examples
from experiments.networks import mlp
from experiments.optimizers.arms import Arm
from experiments.problems.image_classification import image_classification
from experiments.problems.problem import Problem
from experiments.records.config import Config
from experiments.records.metric import ACCURACY
from experiments.studies.context import StudyContext
from experiments.studies.methods import METHODS
from experiments.studies.subject import Fold, Subject
from experiments.studies.validation import of_classes
from experiments.training.startup_check import StartupCheck


def small_dataset(images: int = 40, classes: int = 3) -> image_dataset.Dataset:
    """Random images whose brightness shows their class."""
    random = np.random.default_rng(7)
    labels = (np.arange(images + 12) % classes).astype(np.int32)
    noise = random.integers(0, 90, (images + 12, 4, 5, 1))
    pixels = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
    train, test = (pixels[:images], labels[:images]), (pixels[images:], labels[images:])
    return image_dataset.Dataset("invented", *train, *test, classes)


def subject_of(dataset: image_dataset.Dataset) -> Subject:
    """The data set with the multilayer perceptron."""
    network: Any = mlp
    task = image_classification(network, dataset.classes)
    held: Any = image_dataset.hold_out(dataset)  # as NumPy arrays
    test: Any = dataset.test_images, dataset.test_labels
    problem = Problem(
        dataset.name,
        Examples(*held[:2]),
        Examples(*held[2:]),
        Examples(*test),
        task.init,
        task.loss,
        metric=ACCURACY,
    )
    return Subject(
        problem,
        task,
        of_classes(dataset.classes),
        image_dataset.digest(dataset),
        network="mlp",
        labels=dataset.train_labels,
    )


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
        subject_of(dataset),
        {key: method.arm for key, method in METHODS.items()} if arms is None else arms,
        folds or {},
        Console(file=io.StringIO()),
        {},
        StartupCheck(0.0, True, 0.0),
    )


def config(**settings) -> Config:
    """A tuning run of momentum."""
    base = Config("invented", "0123456789abcdef", "momentum", 0.07, 0.83, 8, 2, 1003)
    return replace(base, **{"network": "mlp", "test": False, **settings})
