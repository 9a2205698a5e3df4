"""Signals that ask or halt, a second process, and a clock that jumps."""

import signal
import time
from random import Random

from scene import Life, Scene, send
from tally import Tally
from truth import Truth, difference

_DAY = 86400.0
_HALT = 1.5  # seconds


def terminations(scene: Scene, truth: Truth, random: Random, trials: int) -> Tally:
    """SIGTERM while it trains: nothing that was done is done again."""
    tally = Tally("SIGTERM", "ends with 143 and a last save: no step is lost")
    for number in range(trials):
        own = scene._replace(directory=scene.directory / f"terminated-{number}")
        process, started = own.start()
        _train(own, random)
        send(process.pid, signal.SIGTERM)
        life = own.ended(process, started)
        complaint = _stopped(life, 143, "stopped by SIGTERM")
        tally.add(complaint or _resumed(own, truth, life))
    return tally


def interrupts(scene: Scene, truth: Truth, random: Random, trials: int) -> Tally:
    """SIGINT, twice in a row: an impatient user's."""
    tally = Tally("SIGINT twice", "ends with 130 at once; repeated, the same bits")
    for number in range(trials):
        own = scene._replace(directory=scene.directory / f"interrupted-{number}")
        process, started = own.start()
        _train(own, random)
        send(process.pid, signal.SIGINT)
        time.sleep(random.uniform(0, 0.02))
        if process.exitcode is None:
            send(process.pid, signal.SIGINT)
        life = own.ended(process, started)
        tally.add(_stopped(life, 130, "stopped") or _repeated(own, truth))
    return tally


def halts(scene: Scene, truth: Truth, random: Random, trials: int) -> Tally:
    """SIGSTOP, a while, and SIGCONT."""
    tally = Tally("SIGSTOP for 1.5 s", "goes on as if nothing had been")
    for number in range(trials):
        own = scene._replace(directory=scene.directory / f"halted-{number}")

        def halt(process: int) -> None:
            send(process, signal.SIGSTOP)
            time.sleep(_HALT)
            send(process, signal.SIGCONT)

        own.live(after=random.uniform(0, truth.seconds), then=halt)
        tally.add(difference(own, truth))
    return tally


def clocks(scene: Scene, truth: Truth, random: Random, trials: int) -> Tally:
    """The time of day jumps; then the process is killed, and its successor lives on."""
    tally = Tally("the clock jumps by a day, forth or back", "the same bits")
    for number in range(trials):
        own = scene._replace(directory=scene.directory / f"clock-{number}")
        jump = _DAY if number % 2 else -_DAY
        own.live(after=random.uniform(0, truth.seconds), clock=jump)
        tally.add(_repeated(own, truth))
    return tally


def second_writers(scene: Scene, truth: Truth, random: Random, trials: int) -> Tally:
    """A second process on the directory of one that works."""
    fault = "a second process on the same directory"
    tally = Tally(fault, "refused; the first works on")
    for number in range(trials):
        own = scene._replace(directory=scene.directory / f"shared-{number}")
        first, started = own.start()
        _train(own, random)
        beside = Scene(own.directory / "second", own.command, own.cache)
        (own.directory / "second").mkdir()
        (own.directory / "second" / "output").symlink_to(own.output)
        second = beside.live()
        own.ended(first, started)
        refused = second.status == 2 and "is in use by another process" in second.said
        tally.add(
            difference(own, truth)
            if refused
            else f"status {second.status}: {second.said[-500:]}"
        )
    return tally


def _train(scene: Scene, random: Random) -> None:
    """Waits until the process trains, and a random while more."""
    deadline = time.monotonic() + 120
    while not scene.events() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))


def _stopped(life: Life, status: int, words: str) -> str | None:
    ours = life.status == 0 or (life.status == status and words in life.said)
    if ours and "Traceback" not in life.said:
        return None
    return f"status {life.status}: {life.said[-1500:]}"


def _resumed(scene: Scene, truth: Truth, stopped: Life) -> str | None:
    """What is wrong with the life after a last save."""
    complaint = _repeated(scene, truth)
    if stopped.status == 0 or complaint:
        return complaint
    first = next(e for e in scene.events() if e["event"] == "restored")
    last = stopped.events[-1]
    if last["work"] != first["work"] or last["at"] is None:
        return None  # it had been recorded; or nothing had been done
    lost = first["at"] is None or first["at"] < last["at"]
    return f"{last['at']} was done, {first['at']} restored" if lost else None


def _repeated(scene: Scene, truth: Truth) -> str | None:
    """What is wrong when the same command is given again, or with what it leaves."""
    life = scene.live()
    if life.status or "Traceback" in life.said:
        return f"repeated, status {life.status}: {life.said[-1500:]}"
    return difference(scene, truth)
