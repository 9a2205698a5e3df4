"""The faults that happen once a trial: what must come of each, and what causes it."""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import NamedTuple

import disk
import interference
import surroundings
from scene import Scene
from tally import Missed, Tally
from truth import Truth


class Fault(NamedTuple):
    """One row of the figures."""

    fault: str
    promise: str
    cause: Callable[[Scene, Truth, Random], str | None]  # or raises `Missed`


FAULTS = (
    Fault(
        "a slow disk: 0.1 s more for each manifest, and a SIGKILL",
        "the same bits",
        disk.slow,
    ),
    Fault(
        "SIGTERM",
        "ends with 143 and a last save: no step is lost",
        interference.termination,
    ),
    Fault(
        "SIGINT twice",
        "ends with 130 at once; repeated, the same bits",
        interference.interrupts,
    ),
    Fault("SIGSTOP for 1.5 s", "goes on as if nothing had been", interference.halt),
    Fault(
        "the clock jumps by a day, forth and back", "the same bits", interference.clock
    ),
    Fault(
        "a second process on the same directory",
        "refused; the first works on",
        interference.second_writer,
    ),
    Fault(
        "no more memory is to be had (RLIMIT_DATA)",
        "ends, or is killed after 15 s; repeated, the same bits",
        interference.memory,
    ),
    Fault(
        "a spoilt cache of compiled programs",
        "compiled anew: the same bits",
        surroundings.spoilt_cache,
    ),
    Fault(
        "the next process has 2, the one after 8 devices instead of 1",
        "goes on; losses within 1e-4 of an uninterrupted run's",
        surroundings.devices,
    ),
)
ON_MOUNTS = (
    Fault(
        "a disk that somebody else fills while it trains",
        f"{disk.AFTERWARDS} (Orbax's threads may complain)",
        disk.filled,
    ),
    Fault("a read-only file system, after a kill", disk.AFTERWARDS, disk.read_only),
)


def injected(
    fault: Fault, scene: Scene, truth: Truth, random: Random, trials: int
) -> Tally:
    """So many trials, each in a directory of its own; those that missed are none."""
    tally = Tally(fault.fault, fault.promise)
    for number in range(2 * trials + 2):
        if tally.trials == trials:
            return tally
        directory = scene.directory / fault.cause.__name__ / str(number)
        with suppress(Missed):
            own = scene._replace(directory=directory)
            tally.add(fault.cause(own, truth, random))
    if tally.trials < trials:
        tally.broken(f"it happened {tally.trials} times instead of {trials}")
    return tally
