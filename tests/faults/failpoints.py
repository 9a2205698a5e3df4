"""Where a process dies, or a call fails or lasts: at file events of Python's audit."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

# What `sys.addaudithook` hears of, each before it happens, and what is told here.
EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree"}
EVENTS |= {"fsync"}  # after it has happened


class Failpoint(NamedTuple):
    """The event at which it happens."""

    event: str  # one of `EVENTS`
    path: str  # a pattern of the event's first path
    occurrence: int = 1
    later: int = 0  # further file events that pass before it
    files: int = 0  # first, so many files must be in the directory of this path
    kept: float = 1.0  # share of the file that is written, at "fsync"
    error: int = 0  # that is raised here and at all matches from now on
    seconds: float = 0.0  # that it lasts here and at all matches from now on
    # With neither of the two, SIGKILL.


def arm(failpoint: Failpoint, note: Callable[[], None]) -> None:
    """Makes it happen there; `note` is called just before."""
    occurrences, passed = count(1), count(0)
    found = False

    def strike(path: str) -> None:
        note()
        if failpoint.seconds:
            return time.sleep(failpoint.seconds)
        if failpoint.error:
            raise OSError(failpoint.error, os.strerror(failpoint.error), path)
        os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal found
        if event not in EVENTS:
            return
        path, matches = str(arguments[0]), _matches(failpoint, event, arguments)
        first = matches and not found and next(occurrences) == failpoint.occurrence
        if first and event == "fsync":
            os.ftruncate(arguments[1], int(failpoint.kept * os.stat(path).st_size))
        found = found or first
        if failpoint.error or failpoint.seconds:
            if found and matches:
                strike(path)
        elif failpoint.files:
            if first:
                _when_full(Path(path), failpoint.files, strike)
        elif found and next(passed) == failpoint.later:
            strike(path)

    fsync = os.fsync

    def heard_fsync(file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        fsync(file)
        hear("fsync", (path, file))

    os.fsync = heard_fsync
    sys.addaudithook(hear)


def _matches(failpoint: Failpoint, event: str, arguments: tuple[Any, ...]) -> bool:
    if event != failpoint.event or not re.search(failpoint.path, str(arguments[0])):
        return False
    return event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))


def _when_full(directory: Path, files: int, strike: Callable[[str], None]) -> None:
    """Strikes, from a thread, as soon as so many files are there."""

    def watch() -> None:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if sum(not p.is_dir() for p in directory.rglob("*")) >= files:
                strike(str(directory))

    threading.Thread(target=watch, daemon=True).start()
