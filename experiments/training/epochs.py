"""The course of a run, or of lanes together: epochs, in calls that last seconds.

Between two calls the host looks at the clock, for checkpoints, and for signals. Where
it cuts the epochs changes no bit: a call does what one step after another does.
"""

import signal
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from experiments.distributed import processes
from experiments.distributed.devices import to_host
from experiments.distributed.signals import Stopped, defer_signals
from experiments.networks import cnn
from experiments.records.config import UsageError
from experiments.training.checkpoints import Checkpoints
from experiments.training.scoring import Score
from experiments.training.train import Underway

_CALL = 1.0  # seconds of training between two looks
_FIRST_CALL = 8  # steps, before it is known how long one takes


class Refusal(NamedTuple):
    """A step that was not taken."""

    step: int  # of the epoch
    underway: Underway  # as it was before
    complaint: str


class Training(NamedTuple):
    """What moves a run, or lanes together, from start to end."""

    begin: Callable[[], Underway]
    advance: Callable[[Underway, int, int, int], Underway]  # epoch, first, last step
    validate: Callable[[cnn.Params], Score]
    steps: int  # of an epoch
    images: int  # of an epoch
    refused: Callable[[Underway, int], Refusal | None] = lambda underway, epoch: None


class Course(NamedTuple):
    """Where a run is: with its settings, all that its rest depends on."""

    underway: Underway
    epoch: int  # finished ones
    step: int  # of the next epoch, finished ones
    curves: np.ndarray  # float32 [epochs, 4, ...]: the fields of `runs.Epoch`
    seconds: float  # of training so far
    resumed: int  # how often


def follow(
    training: Training,
    epochs: int,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[], None] = lambda: None,
) -> Course:
    """Trains and validates all epochs that a checkpoint does not have already.

    Args:
      training: what is trained.
      epochs: passes over the training images.
      checkpoints: where the course is kept meanwhile; None is nowhere.
      on_epoch: called for each epoch that has ended, before or now.

    Raises:
      Stopped: by SIGTERM or SIGINT; the course is saved.
      UsageError: the training refuses a step.
    """
    course = _start(training, epochs, checkpoints)
    for _ in range(course.epoch):
        on_epoch()
    pace = _FIRST_CALL
    with defer_signals() as asked:
        while course.epoch < epochs:
            last = min(course.step + pace, training.steps)
            steps, before = last - course.step, course.seconds
            course = _advanced(training, course, last)
            seconds = course.seconds - before
            pace = max(1, min(8 * pace, int(steps * _CALL / max(seconds, 1e-9))))
            if refusal := training.refused(course.underway, course.epoch):
                raise _refused(course, refusal, checkpoints)
            if course.step == training.steps:
                course = _validated(training, course)
                on_epoch()
            due = checkpoints is not None and checkpoints.due()
            said = processes.all_gather_json([asked() or 0, pace, due])
            number, (_, pace, due) = max(each[0] for each in said), said[0]
            if number:
                raise _stopped(course, checkpoints, number)
            if checkpoints is not None and due:
                checkpoints.save(course, _position(course))
    return course


def _start(training: Training, epochs: int, checkpoints: Checkpoints | None) -> Course:
    underway = training.begin()
    lanes = jax.numpy.shape(underway.sums.loss)
    curves = np.full((epochs, 4, *lanes), np.nan, np.float32)
    fresh = Course(underway, 0, 0, curves, 0.0, 0)
    restored = checkpoints.restore(fresh) if checkpoints is not None else None
    return (
        fresh if restored is None else restored._replace(resumed=restored.resumed + 1)
    )


def _advanced(training: Training, course: Course, last: int) -> Course:
    """A few steps on."""
    start = time.perf_counter()
    underway = jax.block_until_ready(
        training.advance(course.underway, course.epoch, course.step, last)
    )
    seconds = course.seconds + time.perf_counter() - start
    return course._replace(underway=underway, step=last, seconds=seconds)


def _validated(training: Training, course: Course) -> Course:
    """The end of an epoch: its figures are written down."""
    underway = course.underway
    trained = (to_host(each) / training.images for each in underway.sums)
    validation = map(to_host, training.validate(underway.params))
    curves = course.curves.copy()
    curves[course.epoch] = np.stack([*trained, *validation])
    return course._replace(epoch=course.epoch + 1, step=0, curves=curves)


def _refused(
    course: Course, refusal: Refusal, checkpoints: Checkpoints | None
) -> UsageError:
    """The complaint; the run as it was before the step is kept."""
    if checkpoints is None:
        return UsageError(refusal.complaint)
    before = course._replace(underway=refusal.underway, step=refusal.step)
    kept = f" The run as it was before is in {checkpoints.directory}."
    return UsageError(refusal.complaint + (kept if _saved(before, checkpoints) else ""))


def _saved(course: Course, checkpoints: Checkpoints) -> bool:
    """Whether it could be; none of several processes goes before the first knows."""
    checkpoints.save(course, _position(course))
    return processes.all_gather_json(checkpoints.wait())[0]


def _position(course: Course) -> dict[str, int]:
    return {"epoch": course.epoch, "step": course.step}


def _stopped(course: Course, checkpoints: Checkpoints | None, number: int) -> Stopped:
    where = f"after {course.epoch} epochs and {course.step} steps of this run"
    name = signal.Signals(number).name
    if checkpoints is None:
        return Stopped(number, f"stopped by {name} {where}; finished runs are kept.")
    saved = _saved(course, checkpoints)
    which = "which are kept" if saved else "which could not be saved"
    return Stopped(
        number, f"stopped by {name} {where}, {which}: repeat the command to go on."
    )
