"""Epochs: training in calls of about a second, with checkpoints and signals between.

Where a call begins and ends changes no bit of a run.
"""

import signal
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Float32, PyTree

from experiments.distributed import processes
from experiments.distributed.devices import to_host
from experiments.distributed.signals import Stopped, defer_signals
from experiments.records.config import UsageError
from experiments.training.checkpoints import Checkpoints
from experiments.training.scoring import Score
from experiments.training.step import TrainState

_CALL_SECONDS = 1.0  # training between two looks at clock and signals
_FIRST_CALL = 1  # steps in the first call, before the time of a step is known


class Refusal(NamedTuple):
    """A step that was not taken."""

    step: int  # of the epoch
    train_state: TrainState  # before that step
    message: str


class StateSteps(Protocol):
    """Takes steps `start_step` to `stop_step` − 1 of an epoch; donates `state`."""

    def __call__(
        self, state: TrainState, epoch: int, start_step: int, stop_step: int
    ) -> TrainState: ...


class Training(NamedTuple):
    """What `train_epochs` calls to train some runs together."""

    start: Callable[[], TrainState]
    train_steps: StateSteps
    validate: Callable[[TrainState], Score]
    steps: int  # per epoch
    examples: int  # per epoch
    refused: Callable[[TrainState, int], Refusal | None] = lambda state, epoch: None


class Progress(NamedTuple):
    """How far training has come; with the runs' configs, it decides what follows."""

    train_state: TrainState
    epoch: int  # finished epochs
    step: int  # finished steps of the next epoch
    curves: Float32[np.ndarray, "epochs 4 lanes"]  # fields of `records.runs.Epoch`
    seconds: float  # of training so far
    resumed: int  # times resumed from a checkpoint


def train_epochs(
    training: Training,
    epochs: int,
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Trains and validates every epoch that no checkpoint covers yet.

    Args:
      training: what is trained.
      epochs: passes over the training images.
      checkpoints: where progress is saved meanwhile; None saves nothing.
      on_epoch: called for each finished epoch with what has been done so far, also for
        those that a checkpoint covers.

    Raises:
      Stopped: by SIGTERM or SIGINT; progress is saved.
      UsageError: the training refuses a step.
    """
    progress = _first_progress(training, epochs, checkpoints)
    for _ in range(progress.epoch):
        on_epoch(progress)
    pace = _FIRST_CALL  # steps in the next call
    with defer_signals() as signaled:
        while progress.epoch < epochs:
            stop_step = min(progress.step + pace, training.steps)
            steps, before = stop_step - progress.step, progress.seconds
            progress = _train_steps(training, progress, stop_step)
            seconds = max(progress.seconds - before, 1e-9)
            pace = max(1, min(8 * pace, int(steps * _CALL_SECONDS / seconds)))
            if refusal := training.refused(progress.train_state, progress.epoch):
                raise _refused(progress, refusal, checkpoints)
            if progress.step == training.steps:
                progress = _finish_epoch(training, progress)
                on_epoch(progress)
            due = checkpoints is not None and checkpoints.due()
            # All processes act on the first one's clock, and on a signal to any.
            views = processes.all_gather_json([signaled() or 0, pace, due])
            number, (_, pace, due) = max(view[0] for view in views), views[0]
            if number:
                raise _stopped(progress, checkpoints, number)
            if checkpoints is not None and due:
                _save(progress, checkpoints)
    return progress


def _first_progress(
    training: Training, epochs: int, checkpoints: Checkpoints | None
) -> Progress:
    """Where training begins: at the newest checkpoint, or at the first step."""
    state = training.start()
    lanes = jax.numpy.shape(state.sums.loss)
    curves = np.full((epochs, 4, *lanes), np.nan, np.float32)
    fresh = Progress(state, 0, 0, curves, 0.0, 0)
    saved = checkpoints.restore(_to_saved(fresh)) if checkpoints is not None else None
    if saved is None:
        return fresh
    restored = _from_saved(saved)
    return restored._replace(resumed=restored.resumed + 1)


def _train_steps(training: Training, progress: Progress, stop_step: int) -> Progress:
    """Takes the steps of one call."""
    start = time.perf_counter()
    state = jax.block_until_ready(
        training.train_steps(
            progress.train_state, progress.epoch, progress.step, stop_step
        )
    )
    seconds = progress.seconds + time.perf_counter() - start
    return progress._replace(train_state=state, step=stop_step, seconds=seconds)


def _finish_epoch(training: Training, progress: Progress) -> Progress:
    """Validates and writes the epoch's figures into the curves."""
    state = progress.train_state
    trained = (to_host(total) / training.examples for total in state.sums)
    validation = map(to_host, training.validate(state))
    curves = progress.curves.copy()
    curves[progress.epoch] = np.stack([*trained, *validation])
    return progress._replace(epoch=progress.epoch + 1, step=0, curves=curves)


def _to_saved(progress: Progress) -> dict[str, PyTree]:
    """The tree that a checkpoint holds; its keys are names of the file format."""
    state = progress.train_state
    return {
        "params": state.params,
        "opt_state": state.opt_state,
        "model_state": state.model_state,  # without leaves in earlier checkpoints
        "sums": {"loss": state.sums.loss, "accuracy": state.sums.metric},
        "epoch": progress.epoch,
        "step": progress.step,
        "curves": progress.curves,
        "seconds": progress.seconds,
        "resumed": progress.resumed,
    }


def _from_saved(saved: dict[str, PyTree]) -> Progress:
    sums = Score(saved["sums"]["loss"], saved["sums"]["accuracy"])
    variables = saved["params"], saved["opt_state"]
    state = TrainState(*variables, sums, saved["model_state"])
    names = "epoch", "step", "curves", "seconds", "resumed"
    return Progress(state, *(saved[name] for name in names))


def _save(progress: Progress, checkpoints: Checkpoints) -> None:
    position = {"epoch": progress.epoch, "step": progress.step}
    checkpoints.save(_to_saved(progress), position)


def _save_and_wait(progress: Progress, checkpoints: Checkpoints) -> bool:
    """Saves; returns on all processes whether the first one could write."""
    _save(progress, checkpoints)
    return processes.all_gather_json(checkpoints.wait())[0]


def _refused(
    progress: Progress, refusal: Refusal, checkpoints: Checkpoints | None
) -> UsageError:
    """Saves the run before the refused step; returns the refusal as an error."""
    if checkpoints is None:
        return UsageError(refusal.message)
    before = progress._replace(train_state=refusal.train_state, step=refusal.step)
    where = f" The state before that step is saved in {checkpoints.directory}."
    saved = _save_and_wait(before, checkpoints)
    return UsageError(refusal.message + (where if saved else ""))


def _stopped(
    progress: Progress, checkpoints: Checkpoints | None, number: int
) -> Stopped:
    where = f"after {progress.epoch} epochs and {progress.step} steps of this run"
    name = signal.Signals(number).name
    if checkpoints is None:
        return Stopped(number, f"stopped by {name} {where}; finished runs are kept.")
    saved = _save_and_wait(progress, checkpoints)
    which = "which are saved" if saved else "which could not be saved"
    return Stopped(
        number, f"stopped by {name} {where}, {which}: repeat the command to resume."
    )
