"""Disks that are full, failing, slow or read-only."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from failpoints import Failpoint
from reference import Reference, completed, repeated, wrong_state
from sandbox import ProcessResult, Sandbox, send
from tally import FaultMissed, Tally

# A kind of call, a pattern of its path, and a number of such calls in every process.
_CALLS = (
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
_SIZES = (304, 48, 432, 176)  # KiB, all too small for a run
AFTERWARDS = "continues or ends with one line; repeated, the same bits"
_FROM_THREADS = "RuntimeError: Event loop is closed"  # Orbax, after a failed save


def failing_calls(
    sandbox: Sandbox, reference: Reference, random: Random, errors: int
) -> Tally:
    """Makes one kind of call fail from a random call on, for each kind and errno."""
    tally = Tally("ENOSPC, EIO or EROFS from one kind of call on", AFTERWARDS)
    for number, (event, path, calls) in enumerate(_CALLS):
        for error in random.sample(_ERRORS, min(errors, len(_ERRORS))):
            failpoint = Failpoint(event, path, random.randint(1, calls), error=error)
            directory = sandbox.directory / f"call-{number}-{error}"
            trial = sandbox._replace(directory=directory)
            result = trial.run(failpoint=failpoint)
            reached = _failpoint_reached(result)
            unreached = f"{failpoint} was not reached"
            tally.add(_check(trial, reference, result) if reached else unreached)
    return tally


def too_small(sandbox: Sandbox, reference: Reference, trials: int) -> Tally:
    """Runs on a file system that is too small; the next process gets enough space."""
    tally = Tally("a full disk: a tmpfs of 48 to 432 KiB", AFTERWARDS)
    for size in _SIZES[:trials]:
        trial = sandbox._replace(directory=sandbox.directory / f"size-{size}")
        with _mounted(trial.output, size):
            result = trial.run()
            _remount(trial.output, "size=64m")
            complaint = f"{size} KiB were enough"
            if _out_of_space(result):
                complaint = _check(trial, reference, result)
            tally.add(complaint)
    return tally


def filled(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Another program fills the disk while the process trains."""
    with _mounted(sandbox.output, 8192):
        process, started = sandbox.start_training(random)
        other_file = sandbox.output / "other-program"
        with suppress(OSError), other_file.open("wb", buffering=0) as file:
            file.write(bytes(2**23))
            while True:
                file.write(bytes(4096))
        result = sandbox.wait(process, started)
        if not _out_of_space(result):
            raise FaultMissed
        other_file.unlink()
        log = result.log
        if log.count("Traceback") == log.count(_FROM_THREADS):
            log = log.replace("Traceback", "")
        return _check(sandbox, reference, result._replace(log=log))


def read_only(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Makes the file system read-only after a kill, for one process."""
    with _mounted(sandbox.output, 65536):
        sandbox.run(after=random.uniform(0, reference.seconds))
        _remount(sandbox.output, "ro")
        result = sandbox.run()
        _remount(sandbox.output, "rw")
        reported = result.status == 2 and "error: " in result.log
        return _check(sandbox, reference, result) if reported else result.log[-1500:]


def slow(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Makes saves slower than the steps that run meanwhile, and kills a process."""
    failpoint = Failpoint("fsync", r"manifest\.json\.partial$", seconds=0.1)
    process, started = sandbox.start_training(random, failpoint=failpoint)
    send(process.pid, signal.SIGKILL)
    killed = sandbox.wait(process, started)
    if killed.status != -signal.SIGKILL:
        raise FaultMissed
    result = sandbox.run(failpoint=failpoint)
    if not _failpoint_reached(result):
        return "no manifest was slow"
    return wrong_state(killed, reference) or completed(sandbox, reference, result)


def _check(sandbox: Sandbox, reference: Reference, result: ProcessResult) -> str | None:
    """Describes what is wrong with a process on a bad disk, or with the next one."""
    if result.status not in (0, 2) or "Traceback" in result.log:
        return f"status {result.status}: {result.log[-1500:]}"
    if result.status == 2 and "error: " not in result.log:
        return f"it ended without an error line: {result.log[-500:]}"
    return repeated(sandbox, reference, result)


def _failpoint_reached(result: ProcessResult) -> bool:
    return any(event["event"] == "failpoint_reached" for event in result.events)


def _out_of_space(result: ProcessResult) -> bool:
    return os.strerror(errno.ENOSPC) in " ".join(result.log.split())


@contextmanager
def _mounted(directory: Path, size: int) -> Iterator[None]:
    """Mounts a tmpfs of `size` KiB."""
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
