"""Failpoints: file operations at which a process is killed, or that fail or are slow.

Python's audit hooks announce every file operation before it happens. `STAGES` names the
stages of a save, and draws for each a failpoint inside it.
"""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

# Audit events, which are announced before the operation.
EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree"}
EVENTS |= {"fsync"}  # announced by `arm`, after the operation


class Failpoint(NamedTuple):
    """A file operation, and what goes wrong there: by default, SIGKILL."""

    event: str  # one of `EVENTS`
    path: str  # pattern that the operation's first path matches
    occurrence: int = 1  # counts the matching operations
    later: int = 0  # further file operations before the kill
    files: int = 0  # kill only once the directory `path` has so many files
    kept: float = 1.0  # share of the file that is written, at "fsync"
    error: int = 0  # errno raised by this and all later matching operations
    seconds: float = 0.0  # delay of this and all later matching operations


def arm(failpoint: Failpoint, note: Callable[[], None]) -> None:
    """Installs the failpoint in this process; calls `note` just before it strikes."""
    occurrences, passed = count(1), count(0)
    reached = False

    def strike(path: str) -> None:
        note()
        if failpoint.seconds:
            return time.sleep(failpoint.seconds)
        if failpoint.error:
            raise OSError(failpoint.error, os.strerror(failpoint.error), path)
        os.kill(os.getpid(), signal.SIGKILL)

    def handle(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal reached
        if event not in EVENTS:
            return
        path, matches = str(arguments[0]), _matches(failpoint, event, arguments)
        first = matches and not reached and next(occurrences) == failpoint.occurrence
        if first and event == "fsync":
            os.ftruncate(arguments[1], int(failpoint.kept * os.stat(path).st_size))
        reached = reached or first
        if failpoint.error or failpoint.seconds:
            if reached and matches:
                strike(path)
        elif failpoint.files:
            if first:
                _when_full(Path(path), failpoint.files, strike)
        elif reached and next(passed) == failpoint.later:
            strike(path)

    fsync = os.fsync

    def announced_fsync(file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        fsync(file)
        handle("fsync", (path, file))

    os.fsync = announced_fsync
    sys.addaudithook(handle)


def _matches(failpoint: Failpoint, event: str, arguments: tuple[Any, ...]) -> bool:
    if event != failpoint.event or not re.search(failpoint.path, str(arguments[0])):
        return False
    return event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))


def _when_full(directory: Path, files: int, strike: Callable[[str], None]) -> None:
    """Strikes, from a thread, as soon as the directory has so many files."""

    def watch() -> None:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if sum(not p.is_dir() for p in directory.rglob("*")) >= files:
                strike(str(directory))

    threading.Thread(target=watch, daemon=True).start()


_CHECKPOINT = r"checkpoints/[^/]+/[\d-]+"
_UNFINISHED = rf"{_CHECKPOINT}\.orbax-checkpoint-tmp"
_METADATA = rf"{_UNFINISHED}/(_METADATA|_CHECKPOINT_METADATA|commit_success.txt)$"


def _arrays(random: Random) -> Failpoint:
    """When some of the array files exist."""
    files = random.randint(1, 5)
    return Failpoint("os.mkdir", rf"{_UNFINISHED}$", random.randint(1, 9), files=files)


def _metadata(random: Random) -> Failpoint:
    """Before Orbax writes one of its metadata files, or while the file is empty."""
    return Failpoint("open", _METADATA, random.randint(1, 30), random.randint(0, 1))


def _rename(random: Random) -> Failpoint:
    """Just before or just after the checkpoint is renamed to its final name."""
    occurrence, later = random.randint(1, 9), random.randint(0, 1)
    return Failpoint("os.rename", rf"{_UNFINISHED}$", occurrence, later)


def _written(path: str, occurrences: int) -> Callable[[Random], Failpoint]:
    """While a file is replaced: before writing it, midway, or around the rename."""

    def moment(random: Random) -> Failpoint:
        at = rf"{path}\.partial$", random.randint(1, occurrences)
        written = Failpoint("fsync", *at, kept=random.random())
        renamed = Failpoint("os.rename", *at), Failpoint("os.rename", *at, later=1)
        return random.choice([Failpoint("open", *at), written, *renamed])

    return moment


def _deletion(path: str, occurrences: int) -> Callable[[Random], Failpoint]:
    """When some files of a directory have been deleted."""

    def moment(random: Random) -> Failpoint:
        occurrence, later = random.randint(1, occurrences), random.randint(0, 12)
        return Failpoint("shutil.rmtree", rf"{path}$", occurrence, later)

    return moment


STAGES: dict[str, Callable[[Random], Failpoint]] = {
    "writing the arrays": _arrays,
    "writing Orbax's metadata": _metadata,
    "renaming the checkpoint": _rename,
    "writing the manifest": _written(r"manifest\.json", 9),
    "deleting an old step": _deletion(_CHECKPOINT, 9),
    "recording a run": _written(r"runs\.jsonl", 2),
    "deleting the checkpoints of a recorded run": _deletion(r"checkpoints/[^/]+", 2),
    "writing the page": _written(r"(summary\.json|curves\.png|report\.html)", 3),
}
