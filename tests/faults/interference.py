"""Signals that ask or halt, a second process, a clock that jumps, no more memory.

Each function makes one of them happen to a process that trains, and returns what was
wrong with what came of it.
"""

import re
import resource
import signal
import time
from pathlib import Path
from random import Random

from scene import Life, Scene, send
from tally import Missed
from truth import Truth, completed, repeated, wrong_state

_DAY = 86400.0
_HALT = 1.5  # seconds
_HANGING = 15  # seconds after which a process without memory is killed


def termination(scene: Scene, truth: Truth, random: Random) -> str | None:
    """SIGTERM: nothing that was done is done again."""
    process, started = scene.underway(random)
    send(process.pid, signal.SIGTERM)
    stopped = scene.ended(process, started)
    complaint = _stopped(stopped, 143, "stopped by SIGTERM")
    complaint = complaint or repeated(scene, truth, stopped)
    if complaint:
        return complaint
    first = next(e for e in scene.events() if e["event"] == "restored")
    last = stopped.events[-1]
    same = (first["work"], first["at"]) == (last["work"], last["at"])
    return None if same else f"{last} was done, {first} restored"


def interrupts(scene: Scene, truth: Truth, random: Random) -> str | None:
    """SIGINT, twice in a row: an impatient user's."""
    process, started = scene.underway(random)
    send(process.pid, signal.SIGINT)
    time.sleep(random.uniform(0, 0.02))
    if process.exitcode is not None:
        raise Missed
    send(process.pid, signal.SIGINT)
    life = scene.ended(process, started)
    return _stopped(life, 130, "stopped") or repeated(scene, truth, life)


def halt(scene: Scene, truth: Truth, random: Random) -> str | None:
    """SIGSTOP, a while, and SIGCONT."""
    process, started = scene.underway(random)
    send(process.pid, signal.SIGSTOP)
    time.sleep(_HALT)
    if process.exitcode is not None:
        raise Missed
    send(process.pid, signal.SIGCONT)
    return completed(scene, truth, scene.ended(process, started))


def clock(scene: Scene, truth: Truth, random: Random) -> str | None:
    """The time of day jumps a day forth; and, for the next process, two days back."""
    for jump in (_DAY, -_DAY):
        process, started = scene.underway(random, clock=jump)
        send(process.pid, signal.SIGKILL)
        life = scene.ended(process, started)
        if complaint := wrong_state(life, truth):
            return complaint
    return repeated(scene, truth, life)


def second_writer(scene: Scene, truth: Truth, random: Random) -> str | None:
    """A second process on the directory of one that works, and is halted meanwhile."""
    first, started = scene.underway(random)
    send(first.pid, signal.SIGSTOP)
    beside = Scene(scene.directory / "second", scene.command, scene.cache)
    beside.directory.mkdir()
    beside.output.symlink_to(scene.output)
    second = beside.live()
    if first.exitcode is not None:
        raise Missed
    send(first.pid, signal.SIGCONT)
    life = scene.ended(first, started)
    if second.status == 2 and "is in use by another process" in second.said:
        return completed(scene, truth, life)
    return f"status {second.status}: {second.said[-500:]}"


def memory(scene: Scene, truth: Truth, random: Random) -> str | None:
    """From some moment on no memory is to be had."""
    process, started = scene.underway(random)
    status = Path(f"/proc/{process.pid}/status").read_text()
    used = 1024 * int(re.findall(r"VmData:\s*(\d+)", status)[0])
    resource.prlimit(process.pid, resource.RLIMIT_DATA, (used, used))
    process.join(_HANGING)
    if process.exitcode is None:
        send(process.pid, signal.SIGKILL)
    life = scene.ended(process, started)
    if life.status == 0:
        raise Missed
    return repeated(scene, truth, life)


def _stopped(life: Life, status: int, words: str) -> str | None:
    if life.status == status and words in life.said and "Traceback" not in life.said:
        return None
    return f"status {life.status}: {life.said[-1500:]}"
