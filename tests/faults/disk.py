"""A disk that is full, broken, slow or read-only, wherever something is written."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from failpoints import Failpoint
from scene import Life, Scene, send
from tally import Missed, Tally
from truth import Truth, completed, repeated, wrong_state

# A kind of call, the file, and how many such calls a life makes, or more.
_PLACES = (
    ("os.mkdir", r"checkpoints", 3),
    ("open", r"checkpoints/.*METADATA$", 3),
    ("os.rename", r"checkpoints/.*tmp$", 3),
    ("open", r"manifest\.json\.partial$", 3),
    ("fsync", r"manifest\.json\.partial$", 3),
    ("os.rename", r"manifest\.json\.partial$", 3),
    ("open", r"output/(?!.*log).*", 3),
    ("open", r"runs\.jsonl\.partial$", 3),
    ("fsync", r"runs\.jsonl\.partial$", 3),
    ("open", r"curves\.png\.partial$", 1),
    ("fsync", r"report\.html\.partial$", 1),
)
_ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
_SIZES = (304, 48, 432, 176)  # KiB of file systems that are all too small
AFTERWARDS = "goes on or ends with one line; repeated, the same bits"
_FROM_THREADS = "RuntimeError: Event loop is closed"  # Orbax's, when a save fails


def failing_calls(scene: Scene, truth: Truth, random: Random, errors: int) -> Tally:
    """From some moment on one kind of call fails: each kind, with so many errors."""
    tally = Tally("ENOSPC, EIO or EROFS from one kind of call on", AFTERWARDS)
    for number, (event, path, calls) in enumerate(_PLACES):
        for error in random.sample(_ERRORS, min(errors, len(_ERRORS))):
            failpoint = Failpoint(event, path, random.randint(1, calls), error=error)
            own = scene._replace(directory=scene.directory / f"call-{number}-{error}")
            life = own.live(failpoint=failpoint)
            met = _struck(life)
            tally.add(_told(own, truth, life) if met else f"{failpoint} missed")
    return tally


def too_small(scene: Scene, truth: Truth, trials: int) -> Tally:
    """A file system of so few bytes that somewhere they do not suffice."""
    tally = Tally("a full disk: a tmpfs of 48 to 432 KiB", AFTERWARDS)
    for size in _SIZES[:trials]:
        own = scene._replace(directory=scene.directory / f"size-{size}")
        with _mounted(own.output, size):
            life = own.live()
            _remount(own.output, "size=64m")
            met = _short_of_room(life)
            tally.add(_told(own, truth, life) if met else f"room in {size} KiB")
    return tally


def filled(scene: Scene, truth: Truth, random: Random) -> str | None:
    """Somebody else fills the disk while it trains, inside of a save or not."""
    with _mounted(scene.output, 8192):
        process, started = scene.underway(random)
        other = scene.output / "somebody-elses"
        with suppress(OSError), other.open("wb", buffering=0) as file:
            file.write(bytes(2**23))
            while True:
                file.write(bytes(4096))
        life = scene.ended(process, started)
        if not _short_of_room(life):
            raise Missed
        other.unlink()
        said = life.said
        if said.count("Traceback") == said.count(_FROM_THREADS):
            said = said.replace("Traceback", "")
        return _told(scene, truth, life._replace(said=said))


def read_only(scene: Scene, truth: Truth, random: Random) -> str | None:
    """Results on a file system that has become read-only since a kill."""
    with _mounted(scene.output, 65536):
        scene.live(after=random.uniform(0, truth.seconds))
        _remount(scene.output, "ro")
        life = scene.live()
        _remount(scene.output, "rw")
        told = life.status == 2 and "error: " in life.said
        return _told(scene, truth, life) if told else life.said[-1500:]


def slow(scene: Scene, truth: Truth, random: Random) -> str | None:
    """Every save lasts longer than the steps meanwhile; and one is cut off."""
    failpoint = Failpoint("fsync", r"manifest\.json\.partial$", seconds=0.1)
    process, started = scene.underway(random, failpoint=failpoint)
    send(process.pid, signal.SIGKILL)
    killed = scene.ended(process, started)
    if killed.status != -signal.SIGKILL:
        raise Missed
    life = scene.live(failpoint=failpoint)
    if not _struck(life):
        return "no manifest was slow"
    return wrong_state(killed, truth) or completed(scene, truth, life)


def _told(scene: Scene, truth: Truth, life: Life) -> str | None:
    """What is wrong with a life on a bad disk, or with the next on a good one."""
    if life.status not in (0, 2) or "Traceback" in life.said:
        return f"status {life.status}: {life.said[-1500:]}"
    if life.status == 2 and "error: " not in life.said:
        return f"it ended without a line that says why: {life.said[-500:]}"
    return repeated(scene, truth, life)


def _struck(life: Life) -> bool:
    return any(event["event"] == "struck" for event in life.events)


def _short_of_room(life: Life) -> bool:
    return os.strerror(errno.ENOSPC) in " ".join(life.said.split())


@contextmanager
def _mounted(directory: Path, size: int) -> Iterator[None]:
    """A tmpfs of so many KiB."""
    directory.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={size}k"]
    subprocess.run(["mount", *options, "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def _remount(directory: Path, option: str) -> None:
    command = ["mount", "-o", f"remount,{option}", str(directory)]
    subprocess.run(command, check=True)


def can_mount(directory: Path) -> bool:
    """Whether this user may mount a file system."""
    with suppress(OSError, subprocess.CalledProcessError), _mounted(directory, 64):
        return True
    return False
