"""SIGKILL, at random moments and inside every stage of a save, again and again."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from scene import At, Life, Scene
from stages import STAGES
from tally import Tally
from truth import Truth

# A save begins when that of the call before has ended: a process that dies after some
# call may have lost this one's, whose save had not begun, and the one's before.
_LOST_CALLS = 2
_SURVIVED = "the newest whole checkpoint goes on, to the same bits; no leftovers"

Disturbance = dict[str, Any]  # of `Scene.live`


@dataclass
class Deaths(Tally):
    """The kills of one kind, and what came after them."""

    restored: int = 0  # checkpoints
    states: int = 0  # compared, the restored ones among them
    records: int = 0  # compared
    lost: list[int] = field(default_factory=list)  # steps that were taken again
    recoveries: list[float] = field(default_factory=list)  # seconds, imports excluded


def random_kills(
    scene: Scene, truth: Truth, random: Random, what: str, kills: int
) -> Deaths:
    """Lives that end at uniformly random moments of an uninterrupted one's time."""
    fault = f"SIGKILL at a random moment, {what}"
    own = scene._replace(directory=scene.directory / f"kills-{random.random()}")
    return _until(
        Deaths(fault, _SURVIVED),
        own,
        truth,
        kills,
        lambda: {
            "after": random.uniform(0, truth.seconds),
            "first_call": random.randint(1, 9),
        },
    )


def stage_kills(
    scene: Scene, truth: Truth, random: Random, stage: str, kills: int
) -> Deaths:
    """Lives that end inside a stage of a save."""
    own = scene._replace(directory=scene.directory / f"kills-{random.random()}")
    return _until(
        Deaths(f"SIGKILL while {stage}", _SURVIVED),
        own,
        truth,
        kills,
        lambda: {"failpoint": STAGES[stage](random)},
    )


def _until(
    deaths: Deaths,
    scene: Scene,
    truth: Truth,
    kills: int,
    disturb: Callable[[], Disturbance],
) -> Deaths:
    """Chains of lives, each to the command's end, until there were enough kills."""
    for chain in range(3 * kills + 9):
        if deaths.trials == kills:
            break
        own = scene._replace(directory=scene.directory / f"chain-{chain}")
        _chain(own, truth, deaths, lambda: disturb() if deaths.trials < kills else {})
    if deaths.trials < kills:
        deaths.broken(f"{deaths.trials} kills instead of {kills}")
    return deaths


def _chain(
    scene: Scene, truth: Truth, deaths: Deaths, disturb: Callable[[], Disturbance]
) -> None:
    """Lives that follow one another, until one comes to the command's end."""
    reached: dict[str, list[At]] = {}  # since the last resume, by work
    while True:
        whole = scene.whole()
        life = scene.live(**disturb())
        complaints = _compare(life, truth, whole, reached, deaths)
        if life.status not in (0, -signal.SIGKILL) or "Traceback" in life.said:
            complaints.append(f"status {life.status}: {life.said[-2000:]}")
        if life.status != -signal.SIGKILL:
            break
        deaths.add("; ".join(complaints) or None)
    records = scene.records()
    deaths.records += len(records)
    if records != truth.records:
        complaints.append(f"{scene.output}: other records than uninterrupted")
    complaints += [f"{path} is left over" for path in scene.leftovers()]
    if complaints:
        deaths.broken("; ".join(complaints))


def _compare(
    life: Life,
    truth: Truth,
    whole: dict[str, At],
    reached: dict[str, list[At]],
    deaths: Deaths,
) -> list[str]:
    """What is wrong with the states of a life."""
    complaints, resuming = [], False
    for event in life.events:
        if event["event"] == "struck":
            break
        work, (epoch, step) = event["work"], event["at"] or (0, 0)
        at = epoch, step
        if event["at"] is not None:
            deaths.states += 1
            if event["digest"] != truth.states[work, *at]:
                complaints.append(f"{work}: another state at {at}")
        if event["event"] == "reached":
            reached[work].append(at)
            if resuming:
                deaths.recoveries.append(event["time"] - life.started)
            resuming = False
            continue
        resuming = event is life.events[0] and event["at"] is not None
        deaths.restored += event["at"] is not None
        if at != whole.get(work, (0, 0)):
            complaints.append(f"{work}: {at} restored, not {whole.get(work)}")
        if work in reached:
            again = [each for each in reached[work] if each > at]
            deaths.lost.append(_steps(truth, max([at, *again])) - _steps(truth, at))
            if len(again) > _LOST_CALLS:
                complaints.append(f"{work}: {again} are lost, all after {at}")
        reached[work] = []
    return complaints


def _steps(truth: Truth, at: At) -> int:
    return at[0] * truth.steps + at[1]
