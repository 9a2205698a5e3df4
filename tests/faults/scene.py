"""Where victims live: a command, its directory, and what each life leaves behind."""

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
from victim import Job, live

from experiments.records import runs
from experiments.training.checkpoints import DIRECTORY, MANIFEST, Damaged, read

_STARTED = get_context("forkserver")  # where all imports are done already
_STARTED.set_forkserver_preload(
    ["victim", "matplotlib.backends.backend_svg", "sklearn.model_selection"]
)
_PATIENCE = 120  # seconds, after which a victim hangs

At = tuple[int, int]  # an epoch and a step of it


class Life(NamedTuple):
    """What one process did."""

    status: int  # its exit status; minus the signal that ended it
    events: list[dict[str, Any]]  # of its journal
    said: str
    started: float  # as the events' times


class Scene(NamedTuple):
    """One directory of results, in which victims follow one another."""

    directory: Path
    command: tuple[str, ...]  # without its --output
    cache: Path
    devices: int = 1

    @property
    def output(self) -> Path:
        return self.directory / "output"

    def live(
        self,
        *,
        after: float | None = None,
        then: Callable[[int], object] = lambda pid: send(pid, signal.SIGKILL),
        **job: Any,
    ) -> Life:
        """One process, to its end; after so many seconds something is done to it."""
        process, started = self.start(**job)
        process.join(_PATIENCE if after is None else after)
        if process.exitcode is None and after is not None:
            then(process.pid)
        return self.ended(process, started)

    def start(self, **job: Any) -> tuple[Any, float]:
        """A process, and when it was started."""
        self.directory.mkdir(parents=True, exist_ok=True)
        files = self.directory / "journal", self.directory / "log"
        for file in files:
            file.write_bytes(b"")
        arguments = (*self.command, "--output", str(self.output))
        settings = {"devices": self.devices, **job}
        started = time.monotonic()
        own = Job(arguments, *files, self.cache, **settings)
        process: Any = _STARTED.Process(target=live, args=(own,))
        process.start()
        return process, started

    def ended(self, process: Any, started: float) -> Life:
        """What it did, when it has come to its end."""
        process.join(_PATIENCE)
        status = process.exitcode
        if status is None:  # it says where it hangs
            send(process.pid, signal.SIGUSR1)
            process.join(1)
            send(process.pid, signal.SIGABRT)
            process.join()
        said = (self.directory / "log").read_text()
        return Life(
            -signal.SIGABRT if status is None else status, self.events(), said, started
        )

    def underway(self, random: Random, **job: Any) -> tuple[Any, float]:
        """As `start`; it has saved, trains since, and no run of it has ended."""
        process, started = self.start(**job)
        deadline = started + _PATIENCE
        # A save is noted, then waits for the one before: by the fourth, two are there.
        while sum(event["event"] == "reached" for event in self.events()) < 4:
            if process.exitcode is not None or time.monotonic() > deadline:
                send(process.pid, signal.SIGKILL)
                raise RuntimeError(f"it never trained:\n{self.ended(process, started)}")
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        return process, started

    def events(self) -> list[dict[str, Any]]:
        """The journal of a process so far."""
        journal = (self.directory / "journal").read_bytes()
        return [json.loads(line) for line in journal.splitlines()]

    def whole(self) -> dict[str, At]:
        """The newest checkpoint that is whole, of each piece of work."""
        newest = {}
        for path in sorted((self.output / DIRECTORY).glob(f"*/*/{MANIFEST}")):
            work = json.loads(path.read_bytes())["work"]
            with suppress(Damaged):  # died while it was deleted
                read(path.parent, work)
                newest[path.parent.parent.name] = at(path.parent)
        return newest

    def records(self) -> dict[str, bytes]:
        """What runs have found, bit by bit, by the hash of their settings."""
        return {
            run.config_hash: np.array(
                [*sum(run.epochs, ()), run.test_loss, run.test_accuracy]
            ).tobytes()
            for run in runs.read(self.output)
        }

    def leftovers(self) -> list[Path]:
        """What a command that has come to its end should not have left."""
        return [
            *self.output.rglob("*.partial"),
            *(self.output / DIRECTORY).glob("*"),
        ]


def send(process: int, number: int) -> None:
    """A signal, to a process that may just have ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


def at(checkpoint: Path) -> At:
    """Where a checkpoint stands, as its name says."""
    epoch, step = map(int, checkpoint.name.split("-"))
    return epoch, step


def images(path: Path, white: int | None = None) -> Path:
    """Writes few small images, whose brightness tells the class; one may be white."""
    random = np.random.default_rng(1)
    labels = random.permutation(240) % 3
    pixels = 80 * labels[:, None, None] + random.integers(0, 60, (240, 9, 8))
    pixels = pixels.astype(np.uint8)
    if white is not None:
        pixels[white] = 255
    train, test = slice(192), slice(192, None)
    np.savez(
        path,
        x_train=pixels[train],
        y_train=labels[train],
        x_test=pixels[test],
        y_test=labels[test],
    )
    return path


def studied(images: Path) -> tuple[str, ...]:
    """A study on these images, of which a program trains as many runs as devices."""
    options = "--preset smoke --epochs 1 --batch-size 16 --save-every 0"
    return ("lr-decay", "--dataset", str(images), *options.split())


def commanded(images: Path) -> tuple[str, ...]:
    """A comparison of four arms on these images, which saves whenever it can."""
    options = "--batch-size 16 --epochs 2 --seeds 1 --save-every 0"
    return ("compare", "--dataset", str(images), *options.split())
