"""A disk that is full, broken or read-only, wherever something is written."""

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from failpoints import Failpoint
from scene import Life, Scene
from tally import Tally
from truth import Truth, difference

_PLACES = (
    ("os.mkdir", r"checkpoints"),
    ("open", r"checkpoints/.*METADATA$"),
    ("os.rename", r"checkpoints/.*tmp$"),
    ("open", r"manifest\.json\.partial$"),
    ("fsync", r"manifest\.json\.partial$"),
    ("os.rename", r"manifest\.json\.partial$"),
    ("open", r"output/(?!.*log).*"),
    ("open", r"runs\.jsonl\.partial$"),
    ("fsync", r"runs\.jsonl\.partial$"),
    ("open", r"curves\.png\.partial$"),
    ("fsync", r"report\.html\.partial$"),
)
_ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
_SIZES = range(48, 1024, 64)  # KiB of a file system, from too small for anything
_AFTERWARDS = "goes on or ends with one line; repeated, the same bits"


def failing_calls(scene: Scene, truth: Truth, random: Random, trials: int) -> Tally:
    """From some moment on, one kind of call fails at one place."""
    tally = Tally("ENOSPC, EIO or EROFS from one kind of call on", _AFTERWARDS)
    for number in range(2 * trials):
        event, path = _PLACES[number % len(_PLACES)]
        error = random.choice(_ERRORS)
        failpoint = Failpoint(event, path, random.randint(1, 3), error=error)
        own = scene._replace(directory=scene.directory / f"call-{number}")
        tally.add(_then(own, truth, own.live(failpoint=failpoint)))
    return tally


def full(scene: Scene, truth: Truth, trials: int) -> Tally:
    """A file system of so few bytes that somewhere they do not suffice."""
    tally = Tally("a full disk: a tmpfs of 48 KiB to 1 MiB", _AFTERWARDS)
    step = max(1, len(_SIZES) // trials)
    for size in _SIZES[step // 2 :: step]:
        own = scene._replace(directory=scene.directory / f"full-{size}")
        with _mounted(own.output, size) as mounted:
            if not mounted:
                return tally
            life = own.live()
            _remount(own.output, "size=64m")
            tally.add(_then(own, truth, life))
    return tally


def read_only(scene: Scene, truth: Truth, random: Random, trials: int) -> Tally:
    """Results on a file system that has become read-only since."""
    tally = Tally("a read-only file system, after a kill", _AFTERWARDS)
    for number in range(trials):
        own = scene._replace(directory=scene.directory / f"read-only-{number}")
        with _mounted(own.output, 65536) as mounted:
            if not mounted:
                return tally
            own.live(after=random.uniform(0, truth.seconds))
            _remount(own.output, "ro")
            life = own.live()
            _remount(own.output, "rw")
            told = life.status == 2 and "error: " in life.said
            tally.add(_then(own, truth, life) if told else life.said[-1500:])
    return tally


def _then(scene: Scene, truth: Truth, life: Life) -> str | None:
    """What is wrong with a life on a bad disk, or with the next on a good one."""
    if life.status not in (0, 2) or "Traceback" in life.said:
        return f"status {life.status}: {life.said[-1500:]}"
    if life.status == 2 and "error: " not in life.said:
        return f"it ended without a line that says why: {life.said[-500:]}"
    whole, again = scene.whole(), scene.live()
    if again.status or "Traceback" in again.said:
        return f"repeated, status {again.status}: {again.said[-1500:]}"
    for event in again.events:
        if event["event"] == "restored" and event["at"] is not None:
            if whole.get(event["work"]) != (*event["at"],):
                return f"{event} is not the newest of {whole}"
    return difference(scene, truth)


@contextmanager
def _mounted(directory: Path, size: int) -> Iterator[bool]:
    """A tmpfs of so many KiB, where this user may mount one."""
    directory.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={size}k"]
    command = ["mount", *options, "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def _remount(directory: Path, option: str) -> None:
    command = ["mount", "-o", f"remount,{option}", str(directory)]
    subprocess.run(command, check=True)
