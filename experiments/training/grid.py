"""A grid of training runs: trained together, as many at a time as memory holds."""

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.data.examples import Splits
from experiments.distributed import processes
from experiments.distributed.devices import to_host
from experiments.networks import cnn
from experiments.records.config import UsageError, check_at_least_one, in_float32
from experiments.training.checkpoints import Checkpoints
from experiments.training.epochs import Course, Training, follow
from experiments.training.lanes import (
    Point,
    Program,
    Transformation,
    as_arrays,
    compile_lanes,
)
from experiments.training.scoring import Network, Score
from experiments.training.train import Underway, steps_of


class Outcome(NamedTuple):
    """What the runs of a grid measured, in the order of its points."""

    train: Score  # NumPy arrays [points, epochs]
    validation: Score  # [points, epochs]
    test: Score | None  # [points], after the last epoch, where asked for
    images_per_second: float  # of all runs together, and of the training epochs alone
    seconds: float  # of everything, but for compilation
    resumed: int  # how often the runs were taken up from a checkpoint


def compile_grid(
    transformation: Transformation,
    points: Sequence[Point],
    splits: Splits,
    batch_size: int,
    *,
    network: Network = cnn,
    memory_limit: int | None = None,
) -> Program:
    """Compiles one program for all points, or for equal chunks of them that fit.

    Args:
      transformation: of (learning_rate, beta), which it gets as traced scalars.
      points: of the grid.
      splits: what all runs read.
      batch_size: images a step of one run.
      network: what is trained.
      memory_limit: bytes, of all devices together; None stands for all that the
        devices have, and for half of the host's where they are its CPU.

    Returns:
      The program; `memory` and `lanes` say what it needs, and for how many points.

    Raises:
      UsageError: the grid is empty, repeats a point or has a value that no run can be
        trained with, or not even one run fits.
    """
    _check(points)
    return compile_at_most(
        transformation,
        len(points),
        splits,
        batch_size,
        network=network,
        memory_limit=memory_limit,
    )


def compile_at_most(
    transformation: Transformation,
    lanes: int,
    splits: Splits,
    batch_size: int,
    *,
    network: Network = cnn,
    memory_limit: int | None = None,
) -> Program:
    """Compiles one program for so many points, or for a part of them that fits.

    Raises:
      UsageError: not even one run fits.
    """
    check_at_least_one("--batch-size", batch_size, "it is the images of one step")
    limit = _memory_of_devices() if memory_limit is None else memory_limit
    limit = processes.all_gather_json(limit)[0]
    chunks = 1
    while True:
        part = -(-lanes // chunks)
        program = compile_lanes(transformation, part, splits, batch_size, network)
        if program.memory <= limit:
            return program
        if part == 1:
            raise UsageError(
                f"one run needs {program.memory / 1e6:.3f} MB, but the limit is "
                f"{limit / 1e6:.3f} MB: lower --batch-size, or raise the limit."
            )
        chunks = min(2 * chunks, lanes)


def fit_grid(
    program: Program,
    points: Sequence[Point],
    splits: Splits,
    epochs: int,
    *,
    test: bool = False,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[], None] = lambda: None,
) -> Outcome:
    """Trains all points and validates after each epoch; `test` scores that split too.

    A run starts from the parameters and sees the images in the order that `fit.fit`
    gives its seed, and takes the same steps but for rounding, its learning rate and
    beta being float32. No lane changes a bit of another, not even by NaN.

    Args:
      program: from `compile_grid` for this grid, or for another of equal splits.
      points: of the grid, in any number.
      splits: what all runs read; only `test` reads the test split.
      epochs: passes of each run over the training images.
      test: whether to score the test split after the last epoch.
      checkpoints: where the runs are kept meanwhile, of no more points than
        `program.lanes`.
      on_epoch: called after each epoch of `program.lanes` runs.

    Raises:
      UsageError: the points are not a grid, or there are no epochs.
      Stopped: by a signal.
    """
    _check(points)
    check_at_least_one("--epochs", epochs, "it is the passes over the training images")
    start = time.perf_counter()
    fitted, courses = [], []
    for first in range(0, len(points), program.lanes):
        chunk = points[first : first + program.lanes]
        training = _training(program, chunk, splits)
        course = follow(training, epochs, checkpoints, on_epoch)
        fitted.append(_scores(program, course, splits, len(chunk), test))
        courses.append(course)
    joined = jax.tree.map(lambda *chunks: np.concatenate(chunks), *fitted)
    images = len(points) * epochs * len(splits.train.labels)
    rate = images / sum(course.seconds for course in courses)
    resumed = max(course.resumed for course in courses)
    train, validation, tested = joined
    seconds = time.perf_counter() - start
    return Outcome(train, validation, tested, rate, seconds, resumed)


def _training(program: Program, points: Sequence[Point], splits: Splits) -> Training:
    """The program with these points, for `follow`; repetitions fill it."""
    filling = [points[-1]] * (program.filled - len(points))
    lanes = as_arrays([*points, *filling])

    def advance(underway: Underway, epoch: int, first: int, last: int) -> Underway:
        numbers = map(np.int32, (epoch, first, last))
        return program.advance(lanes, underway, *numbers, splits.train)

    return Training(
        begin=lambda: program.start(lanes),
        advance=advance,
        validate=lambda params: program.validate(params, splits.validation),
        steps=steps_of(splits.train, program.batch_size),
        images=len(splits.train.labels),
    )


def _scores(
    program: Program, course: Course, splits: Splits, points: int, test: bool
) -> tuple[Score, Score, Score | None]:
    """Train, validation and test scores, the filling left out."""
    curves: Any = [course.curves[:, field, :points].T for field in range(4)]
    of_test = program.score(course.underway.params, splits.test) if test else None
    tested = jax.tree.map(lambda x: to_host(x)[:points], of_test)
    return Score(*curves[:2]), Score(*curves[2:]), tested


def _check(points: Sequence[Point]) -> None:
    """Raises `UsageError` unless there are points, all trainable and all different."""
    if not points:
        raise UsageError("the grid is empty: give it at least one point.")
    seen = {}
    for point in points:
        if not 0 <= point.seed < 2**32:
            raise UsageError(f"--seed must lie in [0, 2^32), got {point.seed}.")
        rate, beta = in_float32(point.learning_rate), in_float32(point.beta)
        if not (0 < rate < math.inf and 0 <= beta < 1):
            raise UsageError(
                f"the grid has {point}: in float32 its learning rate must be above 0 "
                "and finite, and its beta in [0, 1). Leave it out."
            )
        twin = seen.get((rate, beta, point.seed))
        if twin is not None:
            raise UsageError(
                f"the grid repeats {twin}: {point} equals it in float32. Leave one out."
            )
        seen[rate, beta, point.seed] = point


def _memory_of_devices() -> int:
    """Bytes of all devices; of a host's memory, which others use too, half."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return sum(each["bytes_limit"] for each in stats)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
