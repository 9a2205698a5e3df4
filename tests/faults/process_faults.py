"""Faults of a training process: signals, a second process, a clock jump, no memory.

Each function injects one fault and returns a complaint if the promise was broken.
"""

import re
import resource
import signal
import time
from pathlib import Path
from random import Random

from reference import Reference, completed, repeated, wrong_state
from sandbox import ProcessResult, Sandbox, send
from tally import FaultMissed

_DAY = 86400.0
_SUSPENSION = 1.5  # seconds
_MEMORY_TIMEOUT = 15  # seconds after which a process without memory is killed


def termination(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Sends SIGTERM: the next process resumes at the last step."""
    process, started = sandbox.start_training(random)
    send(process.pid, signal.SIGTERM)
    stopped = sandbox.wait(process, started)
    complaint = _stopped(stopped, 143, "stopped by SIGTERM")
    complaint = complaint or repeated(sandbox, reference, stopped)
    if complaint:
        return complaint
    first = next(e for e in sandbox.events() if e["event"] == "restored")
    last = stopped.events[-1]
    same = (first["work"], first["at"]) == (last["work"], last["at"])
    return None if same else f"{last} was the last state, but {first} was restored"


def kill_at_random_step(
    sandbox: Sandbox, reference: Reference, random: Random
) -> str | None:
    """Kills a process after a random step; the next one must resume, not start anew."""
    saves = random.randint(4, len(reference.states) - 8)
    process, started = sandbox.start_training(random, saves)
    send(process.pid, signal.SIGKILL)
    killed = sandbox.wait(process, started)
    if killed.status == 0 or not sandbox.newest_checkpoints():
        raise FaultMissed
    return repeated(sandbox, reference, killed)


def interrupts(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Sends SIGINT twice in a row."""
    process, started = sandbox.start_training(random)
    send(process.pid, signal.SIGINT)
    time.sleep(random.uniform(0, 0.02))
    if process.exitcode is not None:
        raise FaultMissed
    send(process.pid, signal.SIGINT)
    result = sandbox.wait(process, started)
    return _stopped(result, 130, "stopped") or repeated(sandbox, reference, result)


def suspension(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Sends SIGSTOP, and later SIGCONT."""
    process, started = sandbox.start_training(random)
    send(process.pid, signal.SIGSTOP)
    time.sleep(_SUSPENSION)
    if process.exitcode is not None:
        raise FaultMissed
    send(process.pid, signal.SIGCONT)
    return completed(sandbox, reference, sandbox.wait(process, started))


def clock(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Sets the clock a day ahead and, for the next process, a day back."""
    for jump in (_DAY, -_DAY):
        process, started = sandbox.start_training(random, clock=jump)
        send(process.pid, signal.SIGKILL)
        result = sandbox.wait(process, started)
        if complaint := wrong_state(result, reference):
            return complaint
    return repeated(sandbox, reference, result)


def second_writer(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Starts a second process on the directory of one that is suspended meanwhile."""
    first, started = sandbox.start_training(random)
    send(first.pid, signal.SIGSTOP)
    second_trial = Sandbox(sandbox.directory / "second", sandbox.command, sandbox.cache)
    second_trial.directory.mkdir()
    second_trial.output.symlink_to(sandbox.output)
    second = second_trial.run()
    if first.exitcode is not None:
        raise FaultMissed
    send(first.pid, signal.SIGCONT)
    result = sandbox.wait(first, started)
    if second.status == 2 and "is in use by another process" in second.log:
        return completed(sandbox, reference, result)
    return f"status {second.status}: {second.log[-500:]}"


def memory(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Makes every further allocation of memory fail."""
    process, started = sandbox.start_training(random)
    status = Path(f"/proc/{process.pid}/status").read_text()
    used = 1024 * int(re.findall(r"VmData:\s*(\d+)", status)[0])
    resource.prlimit(process.pid, resource.RLIMIT_DATA, (used, used))
    process.join(_MEMORY_TIMEOUT)
    if process.exitcode is None:
        send(process.pid, signal.SIGKILL)
    result = sandbox.wait(process, started)
    if result.status == 0:
        raise FaultMissed
    return repeated(sandbox, reference, result)


def _stopped(result: ProcessResult, status: int, words: str) -> str | None:
    said = words in result.log and "Traceback" not in result.log
    if result.status == status and said:
        return None
    return f"status {result.status}: {result.log[-1500:]}"
