"""Event files, which show runs in TensorBoard."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from experiments.records.config import Config, UsageError
from experiments.records.runs import Run


def write_events(output: Path, runs: Sequence[Run]) -> None:
    """Writes a directory OUTPUT/tensorboard/ARM-HASH for each run.

    It holds the metrics of every epoch, the test metrics at the last epoch, and the
    config as hyperparameters. A curve ends where the run diverged. Event files of the
    same run from an earlier call are replaced. The runs may be of different plans.

    Raises:
      UsageError: tensorboardX is not installed, or a file can't be written.
    """
    try:
        from tensorboardX import FileWriter
        from tensorboardX.summary import hparams, scalar
    except ImportError:
        raise UsageError(
            "--tensorboard needs tensorboardX, which is not installed; "
            "`pip install 'tensorboardX>=2.6,<3'` installs it."
        ) from None
    for run in runs:
        arm = re.sub(r"[^A-Za-z0-9_-]+", "-", run.config.arm)[:40]
        directory = output / "tensorboard" / f"{arm}-{run.config_hash}"
        try:
            for old in directory.glob("events.out.tfevents.*"):
                old.unlink()
            with closing(FileWriter(str(directory))) as writer:
                for name, value, epoch in _scalars(run):
                    writer.add_summary(scalar(name, value), epoch)
                metrics = dict.fromkeys(("test_loss", _name(run, "test_metric")))
                for record in hparams(_settings(run.config), metrics):
                    writer.add_summary(record)
        except OSError as error:
            message = f"{directory} can't be written: {error.strerror}."
            raise UsageError(message) from None


def _scalars(run: Run) -> Iterator[tuple[str, float, int]]:
    """Name, value and epoch of every finite metric."""
    epochs = [epoch._asdict() for epoch in run.epochs]
    epochs[-1] |= {"test_loss": run.test_loss, "test_metric": run.test_metric}
    for number, epoch in enumerate(epochs, start=1):
        for field, value in epoch.items():
            if math.isfinite(value):
                yield _name(run, field), value, number


def _name(run: Run, field: str) -> str:
    """The field's name in runs.jsonl."""
    return field if run.metric == "loss" else field.replace("metric", run.metric)


def _settings(config: Config) -> dict[str, str | float]:
    """The config without surrogates, which file names can have, but not events."""
    return {
        name: value.encode(errors="backslashreplace").decode()
        if isinstance(value, str)
        else value
        for name, value in asdict(config).items()
    }
