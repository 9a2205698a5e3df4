"""The engine: trains K ≥ 1 runs of one configuration, as many at a time as fit."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from experiments.data import memory
from experiments.data.examples import Examples, Splits
from experiments.data.streaming import is_streamed
from experiments.distributed import processes
from experiments.distributed.devices import slice_size, to_host
from experiments.problems.problem import examples_in
from experiments.records.config import (
    Config,
    UsageError,
    check_at_least_one,
    in_float32,
)
from experiments.training import nonfinite
from experiments.training.checkpoints import Checkpoints
from experiments.training.epochs import Progress, Training, train_epochs
from experiments.training.points import Point, as_arrays
from experiments.training.program import Program, compile_program
from experiments.training.scoring import Score
from experiments.training.step import TrainSpec, TrainState, steps_per_epoch

_STREAMED_STEPS = 16  # that are timed
_SMALLEST_SIDE = 18  # pixels: the built-in network refuses smaller images


class Outcome(NamedTuple):
    """What the runs measured, in the order of their points."""

    train: Score  # NumPy arrays [points, epochs]
    validation: Score  # [points, epochs]
    test: Score | None  # [points], after the last epoch, if requested
    skipped_steps: Int[np.ndarray, " points"]  # gradient or result was not finite
    images_per_second: float  # of all runs together, training epochs only
    seconds: float  # everything but compilation
    resumed: int  # times resumed from a checkpoint


class _Measured(NamedTuple):
    """What the runs of one program measured; see `Outcome`."""

    train: Score
    validation: Score
    test: Score | None
    skipped_steps: Int[np.ndarray, " points"]


def compile_to_fit(
    spec: TrainSpec,
    lanes: int,
    splits: Splits,
    *,
    test: bool = False,
    memory_limit: int | None = None,
) -> Program:
    """Compiles one program for all runs, or for the largest equal share that fits.

    Args:
      spec: what the runs share.
      lanes: how many runs there are to train at a time.
      splits: what all runs read.
      test: whether the runs score the test split.
      memory_limit: bytes on all devices together; None stands for all memory of the
        devices, or half of the host's where they are its CPU.

    Returns:
      The program; `memory` says what it needs and `lanes` how many runs it trains.

    Raises:
      UsageError: not even one run fits; the message says which size of the images or
        of a batch would.
    """
    check_at_least_one("--batch-size", spec.batch_size, "it is the images of one step")
    limit = _device_memory() if memory_limit is None else memory_limit
    limit = processes.all_gather_json(limit)[0]
    chunks = 1
    while True:
        share = -(-lanes // chunks)
        program = compile_program(spec, share, splits, test=test)
        if program.memory <= limit:
            return program
        if share == 1:
            raise _too_large(program, splits, limit, test)
        chunks = min(2 * chunks, lanes)


def _too_large(program: Program, splits: Splits, limit: int, test: bool) -> UsageError:
    """The error for a run that doesn't fit, with the sizes that would.

    The memory grows in proportion to the pixels, but for a small part, to which a tenth
    is left; and linearly with the images that a device takes at once.
    """
    spec, needed = program.spec, program.memory
    remedies = []
    if isinstance(splits.train, Examples):
        _, height, width, _ = splits.train.images.shape
        pixels = height * width * limit * 9 // (10 * needed)
        if (side := math.isqrt(pixels)) >= _SMALLEST_SIDE:
            remedies.append(f"--image-size {side}")
    devices = jax.device_count()
    most = slice_size(spec.batch_size, devices)
    if most > 1:
        smallest = replace(spec, batch_size=devices)
        least = compile_program(smallest, 1, splits, test=test).memory
        if least <= limit:
            fitting = 1 + (limit - least) * (most - 1) // (needed - least)
            remedies.append(f"--batch-size {fitting * devices}")
    remedy = " or ".join(remedies) or "smaller examples or a smaller network"
    return UsageError(
        f"one run needs {needed / 1e6:,.3f} MB of memory, but there are "
        f"{limit / 1e6:,.3f} MB for it: choose {remedy}."
    )


def seconds_per_step(program: Program, splits: Splits) -> float:
    """Seconds of a step of all lanes, timed on a few steps of discarded runs."""
    lanes = as_arrays([Point(0.01, 0.9, 0)] * program.padded_lanes)
    state = program.start(lanes)
    steps = steps_per_epoch(splits.train, program.spec.batch_size)

    def seconds_of(count: int) -> float:
        nonlocal state
        start = time.perf_counter()
        state = program.train_steps(lanes, state, 0, 0, count, splits.train)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / count

    try:
        seconds = seconds_of(1)
        if is_streamed(splits.train):  # what is read while nothing trains counts, too
            program.close()
            return seconds_of(min(_STREAMED_STEPS, steps))
        if seconds < 1:  # most of that may be the compilation of what draws the order
            seconds = seconds_of(1)
        if seconds < 0.05:
            seconds = seconds_of(min(8, steps))
        return seconds
    finally:
        program.close()


def train_runs(
    program: Program,
    points: Sequence[Point],
    splits: Splits,
    epochs: int,
    *,
    test: bool = False,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[], None] = lambda: None,
    refuse_nonfinite: Config | None = None,
) -> Outcome:
    """Trains a run for each point and validates after each epoch.

    Initial parameters and data order are functions of the seed alone, so runs of equal
    seeds are paired. No run changes a bit of another, not even by NaN.

    Args:
      program: from `compile_to_fit`, for any points and equal splits.
      points: any number of them, all different in float32.
      splits: what all runs read.
      epochs: passes of each run over the training images.
      test: whether to score the test split after the last epoch.
      checkpoints: where the runs are saved meanwhile, if the points are no more than
        `program.lanes`.
      on_epoch: called after each epoch of `program.lanes` runs.
      refuse_nonfinite: the config of a single run that ends at the first step whose
        gradient or result is not finite.

    Raises:
      UsageError: the points are unfit for training, there are no epochs, or a step is
        refused.
      Stopped: by a signal; the runs are saved in the checkpoints.
    """
    check_points(points)
    check_at_least_one("--epochs", epochs, "it is the passes over the training images")
    start = time.perf_counter()
    chunks, courses = [], []
    try:
        for first in range(0, len(points), program.lanes):
            chunk = points[first : first + program.lanes]
            training = _training(program, chunk, splits, refuse_nonfinite)
            course = train_epochs(training, epochs, checkpoints, lambda _: on_epoch())
            chunks.append(_scores(program, course, splits, len(chunk), test))
            courses.append(course)
    finally:
        program.close()
    measured = jax.tree.map(lambda *arrays: np.concatenate(arrays), *chunks)
    images = len(points) * epochs * examples_in(splits.train)
    return Outcome(
        *measured,
        images_per_second=images / sum(course.seconds for course in courses),
        seconds=time.perf_counter() - start,
        resumed=max(course.resumed for course in courses),
    )


def check_points(points: Sequence[Point]) -> None:
    """Raises `UsageError` unless there are points, all trainable and all different."""
    if not points:
        raise UsageError("the grid is empty: give it at least one point.")
    earlier = {}
    for point in points:
        if not 0 <= point.seed < 2**32:
            raise UsageError(f"--seed must lie in [0, 2^32), got {point.seed}.")
        rate, beta = in_float32(point.learning_rate), in_float32(point.beta)
        if not (0 < rate < math.inf and 0 <= beta < 1):
            raise UsageError(
                f"the grid has {point}: in float32 its learning rate must be above 0 "
                "and finite, and its beta in [0, 1). Leave it out."
            )
        twin = earlier.get((rate, beta, point.seed))
        if twin is not None:
            raise UsageError(
                f"the grid repeats {twin}: {point} equals it in float32. Leave one out."
            )
        earlier[rate, beta, point.seed] = point


def _training(
    program: Program, points: Sequence[Point], splits: Splits, refusing: Config | None
) -> Training:
    """The program with these points, for `train_epochs`; repetitions pad them."""
    padding = [points[-1]] * (program.padded_lanes - len(points))
    lanes = as_arrays([*points, *padding])
    steps = steps_per_epoch(splits.train, program.spec.batch_size)

    def train_steps(
        state: TrainState, epoch: int, start_step: int, stop_step: int
    ) -> TrainState:
        return program.train_steps(
            lanes, state, epoch, start_step, stop_step, splits.train
        )

    training = Training(
        start=lambda: program.start(lanes),
        train_steps=train_steps,
        validate=lambda state: program.score(state, splits.validation),
        steps=steps,
        examples=examples_in(splits.train),
    )
    if refusing is None:
        return training
    task = program.spec.task
    refusal = partial(nonfinite.refusal, refusing, task, splits.train, steps)
    return training._replace(refused=refusal)


def _scores(
    program: Program, course: Progress, splits: Splits, points: int, test: bool
) -> _Measured:
    """Train, validation and test scores and skipped steps, without the padding."""
    state = course.train_state
    curves: Any = [course.curves[:, field, :points].T for field in range(4)]
    scores = program.score(state, splits.test) if test else None
    tested = jax.tree.map(lambda x: to_host(x)[:points], scores)
    skipped = nonfinite.skipped_steps(state.opt_state, points)
    return _Measured(Score(*curves[:2]), Score(*curves[2:]), tested, skipped)


def _device_memory() -> int:
    """Bytes of all devices; of a host's memory, which others use too, half."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return sum(each["bytes_limit"] for each in stats)
    return memory.total() // 2
