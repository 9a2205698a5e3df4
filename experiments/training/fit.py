"""One run: an arm's program, compiled once and run with every seed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax

from experiments.data.examples import Splits
from experiments.records.config import Config, Nonfinite
from experiments.records.runs import Epoch
from experiments.training import nonfinite, train
from experiments.training.checkpoints import Checkpoints
from experiments.training.epochs import Training, follow
from experiments.training.scoring import Score, score


class Program(NamedTuple):
    """One arm's training, compiled once and run with every seed."""

    transformation: optax.GradientTransformation  # guarded, where the policy wants it
    advance: train.Advance
    compile_seconds: float


class Outcome(NamedTuple):
    """What `fit` measured."""

    epochs: tuple[Epoch, ...]
    test: Score
    seconds: float  # training, validation and test; compilation excluded
    images_per_second: float  # of the training epochs alone
    skipped_steps: int  # whose gradient or result was not finite
    resumed: int  # how often it was taken up from a checkpoint


def compile_program(
    transformation: optax.GradientTransformation,
    splits: Splits,
    batch_size: int,
    policy: Nonfinite = "record",
) -> Program:
    """Compiles an arm's steps, and beside them the scoring that all arms share."""
    start = time.perf_counter()
    transformation = nonfinite.guarded(transformation, policy)
    halted = nonfinite.skipped if policy == "stop" else None
    compiling = partial(train.compile_steps, halted=halted)
    arguments = transformation, splits.train, splits.classes, batch_size
    with ThreadPoolExecutor(max_workers=1) as thread:
        advance = thread.submit(compiling, *arguments)
        params = train.initial_params(splits.train, splits.classes, seed=0)
        for split in (splits.validation, splits.test):
            jax.block_until_ready(score(params, split))
    return Program(transformation, advance.result(), time.perf_counter() - start)


def fit(
    program: Program,
    splits: Splits,
    config: Config,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[], None] = lambda: None,
) -> Outcome:
    """Trains for all epochs, validates after each, and reads the test split once.

    The initial parameters and the order of the data are functions of the seed alone,
    so that arms with equal seeds are paired.

    Raises:
      Stopped: by a signal; the run is kept in the checkpoints.
      UsageError: a step whose gradient or result is not finite, where the policy is to
        stop.
    """
    start = time.perf_counter()
    training = _training(program, splits, config)
    course = follow(training, config.epochs, checkpoints, on_epoch)
    underway = course.underway
    test = jax.block_until_ready(score(underway.params, splits.test))
    seconds = time.perf_counter() - start
    epochs = tuple(Epoch(*map(float, row)) for row in course.curves)
    images = config.epochs * training.images
    skipped = nonfinite.skipped_steps(underway.state)
    return Outcome(
        epochs, test, seconds, images / course.seconds, skipped, course.resumed
    )


def _training(program: Program, splits: Splits, config: Config) -> Training:
    """The program with the run's seed, for `follow`."""
    transformation, images, seed = program.transformation, splits.train, config.seed

    def advance(
        underway: train.Underway, epoch: int, first: int, last: int
    ) -> train.Underway:
        key = train.order_key(seed, epoch)
        return program.advance(underway, key, np.int32(first), np.int32(last), images)

    steps = train.steps_of(images, config.batch_size)
    training = Training(
        begin=lambda: train.begin(transformation, images, splits.classes, seed),
        advance=advance,
        validate=lambda params: score(params, splits.validation),
        steps=steps,
        images=len(images.labels),
    )
    if config.nonfinite != "stop":
        return training
    return training._replace(refused=partial(nonfinite.refusal, config, images, steps))
