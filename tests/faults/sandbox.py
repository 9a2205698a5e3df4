"""Runs a command in separate processes, one after another in the same directory."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from watched_command import Job, run

from experiments.records import runs
from experiments.training.checkpoints import DIRECTORY, MANIFEST, Damaged, read

_FORKED = get_context("forkserver")  # from a process that has imported everything
_FORKED.set_forkserver_preload(
    [
        "watched_command",
        "experiments.compare.study",
        "experiments.studies.lr_decay.study",
        "matplotlib.backends.backend_svg",
        "sklearn.model_selection",
    ]
)
_TIMEOUT = 120  # seconds after which a process counts as hanging

Position = tuple[int, int]  # epoch, and step in it


class ProcessResult(NamedTuple):
    """What one process did."""

    status: int  # exit status, or minus the number of the signal that ended it
    events: list[dict[str, Any]]  # the journal's lines
    log: str  # stdout and stderr
    started: float  # on the same clock as the events' times


class Sandbox(NamedTuple):
    """A command and the directory in which its processes run one after the other."""

    directory: Path
    command: tuple[str, ...]  # without its --output
    cache: Path
    devices: int = 1

    @property
    def output(self) -> Path:
        return self.directory / "output"

    def run(
        self,
        *,
        after: float | None = None,
        then: Callable[[int], object] = lambda pid: send(pid, signal.SIGKILL),
        **job: Any,
    ) -> ProcessResult:
        """Runs a process to its end; calls `then` on it after `after` seconds."""
        process, started = self.start(**job)
        process.join(_TIMEOUT if after is None else after)
        if process.exitcode is None and after is not None:
            then(process.pid)
        return self.wait(process, started)

    def start(self, **job: Any) -> tuple[Any, float]:
        """Starts a process; returns it and the time."""
        self.directory.mkdir(parents=True, exist_ok=True)
        files = self.directory / "journal", self.directory / "log"
        for file in files:
            file.write_bytes(b"")
        arguments = (*self.command, "--output", str(self.output))
        settings = {"devices": self.devices, **job}
        started = time.monotonic()
        full_job = Job(arguments, *files, self.cache, **settings)
        process: Any = _FORKED.Process(target=run, args=(full_job,))
        process.start()
        return process, started

    def wait(self, process: Any, started: float) -> ProcessResult:
        """Waits for the process to end."""
        process.join(_TIMEOUT)
        status = process.exitcode
        if status is None:  # let it log where it hangs
            send(process.pid, signal.SIGUSR1)
            process.join(1)
            send(process.pid, signal.SIGABRT)
            process.join()
        log = (self.directory / "log").read_text()
        status = -signal.SIGABRT if status is None else status
        return ProcessResult(status, self.events(), log, started)

    def start_training(
        self, random: Random, saves: int = 4, **job: Any
    ) -> tuple[Any, float]:
        """Starts a process and waits until it trains and has saved a checkpoint."""
        process, started = self.start(**job)
        deadline = started + _TIMEOUT
        # A save is journaled before it waits for the previous one: four mean two saved.
        while sum(event["event"] == "reached" for event in self.events()) < saves:
            if process.exitcode is not None or time.monotonic() > deadline:
                send(process.pid, signal.SIGKILL)
                raise RuntimeError(f"it never trained:\n{self.wait(process, started)}")
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        return process, started

    def events(self) -> list[dict[str, Any]]:
        """The lines that the process has written to its journal so far."""
        journal = (self.directory / "journal").read_bytes()
        return [json.loads(line) for line in journal.splitlines()]

    def newest_checkpoints(self) -> dict[str, Position]:
        """The position of the newest intact checkpoint in each directory."""
        newest = {}
        for path in sorted((self.output / DIRECTORY).glob(f"*/*/{MANIFEST}")):
            work = json.loads(path.read_bytes())["work"]
            with suppress(Damaged):  # the process died while deleting it
                read(path.parent, work)
                newest[path.parent.parent.name] = position_of(path.parent)
        return newest

    def records(self) -> dict[str, bytes]:
        """The bytes of every recorded run's metrics, by the hash of its config."""
        records = {}
        for got in runs.read(self.output):
            metrics = [*sum(got.epochs, ()), got.test_loss, got.test_metric]
            records[got.config_hash] = np.array(metrics).tobytes()
        return records

    def leftovers(self) -> list[Path]:
        """Files that a finished command should have deleted."""
        return [*self.output.rglob("*.partial"), *(self.output / DIRECTORY).glob("*")]


def send(process: int, number: int) -> None:
    """Sends a signal to a process, which may have ended already."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


def position_of(checkpoint: Path) -> Position:
    """The position in a checkpoint's name."""
    epoch, step = map(int, checkpoint.name.split("-"))
    return epoch, step


def write_images(path: Path, white: int | None = None) -> Path:
    """Writes small images whose brightness gives their class; one may be white."""
    random = np.random.default_rng(1)
    labels = random.permutation(240) % 3
    noise = random.integers(0, 60, (240, 9, 8))
    pixels = (80 * labels[:, None, None] + noise).astype(np.uint8)
    if white is not None:
        pixels[white] = 255
    train = {"x_train": pixels[:192], "y_train": labels[:192]}
    np.savez(path, x_test=pixels[192:], y_test=labels[192:], **train)
    return path


def write_folder(images: Path, directory: Path) -> Path:
    """Writes the training images as files, one subdirectory a class."""
    from PIL import Image

    arrays = np.load(images)
    pairs = zip(arrays["x_train"], arrays["y_train"], strict=True)
    for number, (pixels, label) in enumerate(pairs):
        path = directory / str(label) / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return directory


def study_command(images: Path) -> tuple[str, ...]:
    """A study that trains one run on each device at the same time."""
    options = "--preset smoke --epochs 1 --batch-size 16 --save-every 0"
    return ("lr-decay", "--dataset", str(images), *options.split())


def compare_command(images: Path) -> tuple[str, ...]:
    """A comparison of four optimizers that saves checkpoints as often as it can."""
    options = "--batch-size 16 --epochs 2 --seeds 1 --save-every 0"
    return ("compare", "--dataset", str(images), *options.split())


def normalized_command(images: Path) -> tuple[str, ...]:
    """Trains a network with model state, on which results depend."""
    code = Path(__file__).with_name("normalized.py")
    options = "--batch-size 16 --epochs 4 --seeds 1 --save-every 0"
    own = "--model", f"{code}:network", "--arms", f"{code}:optimizers"
    return ("compare", "--dataset", str(images), *options.split(), *own)
