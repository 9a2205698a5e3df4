"""What a study trains: a problem, and what its plan and its page say about it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from rich.console import Console

from experiments.data import image_dataset
from experiments.data.examples import Examples
from experiments.data.folder import SKIP_BROKEN_SHARE
from experiments.distributed.devices import on_all_devices, to_host
from experiments.networks import cnn
from experiments.networks.network import check_takes
from experiments.problems.augmentations import AUGMENTATIONS
from experiments.problems.check import check_functions
from experiments.problems.image_classification import image_classification
from experiments.problems.problem import (
    Batch,
    Problem,
    Task,
    concatenated,
    digest,
    examples_in,
    some_examples,
    take,
    task_of,
)
from experiments.problems.table import table
from experiments.problems.text import text
from experiments.problems.user_network import network_task
from experiments.problems.user_problem import user_problem
from experiments.records.config import JSON, Config, UsageError, serialized
from experiments.records.metric import ACCURACY
from experiments.reporting import terminal
from experiments.studies.options import StudyOptions
from experiments.studies.validation import Measure, of_classes
from experiments.training.scoring import score
from experiments.training.step import initial_variables

HOLD_OUT = "hold-out"  # the fold of every run that names none


class Fold(NamedTuple):
    """Indices of the examples to train on and to validate with.

    They count through the training examples and, after them, the validation examples.
    """

    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]


class Subject(NamedTuple):
    """A problem with its data, and how it is judged and described."""

    problem: Problem
    task: Task
    measure: Measure
    data_digest: str  # of the arrays, so that changed data are other data
    network: str = "cnn"  # or what else is trained: a user's FILE.py:function
    code: str = ""  # the digest of a user's file
    # Of training and validation examples, for folds with equal shares of each class.
    labels: Int[np.ndarray, " examples"] | None = None
    settings: Mapping[str, JSON] = {}  # for the plan: how the data were changed
    notes: Sequence[str] = ()  # the same in sentences

    @property
    def training_examples(self) -> int:
        """How many are left when others are held out."""
        return examples_in(self.problem.train)

    @property
    def chance(self) -> float | None:
        """The accuracy of always choosing the most frequent class, if there are any."""
        if self.labels is None or self.measure.metric != ACCURACY:
            return None
        counts = np.bincount(self.labels[: self.training_examples])
        return float(counts.max() / self.training_examples)

    def split(self, fold: Fold | None) -> tuple[Batch, Batch]:
        """Training and validation examples of a fold; without one, the held-out."""
        problem = self.problem
        if fold is None:
            return problem.train, problem.validation
        both = concatenated(problem.train, problem.validation)
        return take(both, fold.train), take(both, fold.validation)

    def configured(self, options: StudyOptions, epochs: int) -> Config:
        """The config of its runs before an optimizer is chosen."""
        return Config(
            dataset=self.problem.name,
            data_digest=self.data_digest,
            arm="",
            learning_rate=0.0,
            beta=0.0,
            batch_size=64,
            epochs=epochs,
            seed=0,
            network=self.network,
            code=self.code,
            augment=options.augment or "none",
            label_smoothing=options.label_smoothing or 0.0,
            weight_decay=options.weight_decay or 0.0,
            decay_kernels_only=options.decay_kernels_only,
        )

    def check_batch_size(self, batch_size: int) -> None:
        """Raises `UsageError` if a batch is larger than the training split."""
        if batch_size > self.training_examples:
            raise UsageError(
                f"--batch-size {batch_size} is larger than the "
                f"{self.training_examples} training {self.measure.noun}s of "
                f"{self.problem.name}; choose a smaller one."
            )

    def fitting(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The batch sizes for which there are enough training examples, in order."""
        return tuple(size for size in sizes if size <= self.training_examples)

    def check_fitting(self, sizes: Sequence[int]) -> None:
        """Raises `UsageError` if a batch is larger than the training split."""
        if too_large := sorted(set(sizes).difference(self.fitting(sizes))):
            raise UsageError(
                f"--batch-sizes has {too_large[-1]}, but {self.problem.name} has "
                f"{self.training_examples} training {self.measure.noun}s; choose "
                "smaller ones."
            )


def read_subject(options: StudyOptions, dataset: str, console: Console) -> Subject:
    """Reads what the options name, whole, and says what was changed in doing so.

    Args:
      options: of the study.
      dataset: the images to read if no other problem is named.
      console: prints.

    Raises:
      UsageError: the data, the network or the problem can't be used.
    """
    source = options.problem or options.table or options.text or dataset
    terminal.say(console, f"Reading {source} …")
    if options.problem is not None:
        subject = _of_user(options.problem)
    elif options.table is not None:
        subject = _of_table(options, options.table)
    elif options.text is not None:
        subject = _of_text(options.text)
    else:
        subject = _of_images(options, dataset)
    for sentence in subject.notes:
        terminal.say(console, sentence)
    return subject


def _of_user(reference: str) -> Subject:
    problem, code = user_problem("--problem", reference)
    task = task_of(problem)
    return Subject(
        problem,
        task,
        _of_initial_parameters(problem, task, "example"),
        digest(problem),
        network=reference,
        code=code,
        labels=_labels(problem),
    )


def _of_table(options: StudyOptions, source: str) -> Subject:
    problem, classes, notes = table(
        source, options.target, options.table_task, impute=options.impute
    )
    task = task_of(problem)
    measure = (
        _of_initial_parameters(problem, task, "row")
        if classes is None
        else of_classes(classes)._replace(noun="row")
    )
    return Subject(
        problem,
        task,
        measure,
        digest(problem),
        network="table",
        labels=_labels(problem),
        settings={"target": options.target} if options.target else {},
        notes=notes,
    )


def _of_text(path: Path) -> Subject:
    problem, characters = text(path)
    guessing = Measure(problem.metric, math.log(characters), characters, "passage")
    return Subject(
        problem, task_of(problem), guessing, digest(problem), network="transformer"
    )


def _labels(problem: Problem) -> Int[np.ndarray, " examples"] | None:
    """The classes of training and validation examples, if "label" holds them."""
    if problem.metric.key != "accuracy" or not isinstance(problem.train, dict):
        return None
    if "label" not in problem.train:
        return None
    both = concatenated(problem.train["label"], problem.validation["label"])
    return both if both.ndim == 1 and both.dtype.kind == "i" else None


def _of_initial_parameters(problem: Problem, task: Task, noun: str) -> Measure:
    """A run must become better than the initial parameters of seed 0."""
    variables = initial_variables(task, problem.train, 0)
    found = score(
        task, *variables[:1], on_all_devices(problem.validation), variables[1]
    )
    loss, mean = map(to_host, found)
    worst = problem.metric.of(float(mean))
    return Measure(problem.metric, float(loss), worst, noun, "the initial parameters")


def _of_images(options: StudyOptions, name: str) -> Subject:
    share = SKIP_BROKEN_SHARE if options.skip_broken else 0.0
    if options.skip_broken_up_to is not None:
        share = options.skip_broken_up_to
    dataset = image_dataset.load(
        name,
        options.data_dir,
        skip_broken=share,
        image_size=options.image_size,
        stream=options.stream,
    )
    task, code = _image_task(options, dataset)
    parts = image_dataset.hold_out(dataset)
    splits: tuple[Batch, Batch, Batch] = (
        Examples(parts.images, parts.labels),  # type: ignore[arg-type]
        Examples(parts.validation_images, parts.validation_labels),  # type: ignore[arg-type]
        Examples(dataset.test_images, dataset.test_labels),  # type: ignore[arg-type]
    )
    if options.model is not None:
        few = some_examples(splits[0])
        where = f"--model {options.model}"
        check_functions(where, task.init, task.loss, few, task.metric)
    return Subject(
        Problem(
            dataset.name, *splits, task.init, task.loss, task.augment, metric=ACCURACY
        ),
        task,
        of_classes(dataset.classes),
        image_dataset.digest(dataset),
        network=options.model or "cnn",
        code=code,
        labels=dataset.train_labels,
        settings=serialized(dataset.changes),
        notes=image_dataset.describe_changes(dataset),
    )


def _image_task(
    options: StudyOptions, dataset: image_dataset.Dataset
) -> tuple[Task, str]:
    """What is trained on images, and the digest of its file if it is the user's."""
    _, height, width, channels = dataset.train_images.shape
    augment = AUGMENTATIONS[options.augment or "none"]
    smoothing = options.label_smoothing or 0.0
    if options.model is None:
        check_takes(cnn, dataset.train_images, dataset.classes)
        return image_classification(cnn, dataset.classes, smoothing, augment), ""
    shape = height, width, channels
    classes = dataset.classes
    return network_task("--model", options.model, shape, classes, smoothing, augment)
