"""Kills processes at random moments and inside every stage of a save."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from failpoints import STAGES
from reference import Reference
from sandbox import Position, ProcessResult, Sandbox
from tally import Tally

# A save starts when the previous one has finished, so a killed process may lose the
# saves of its last two calls: one that had not started and one under way.
_LOST_CALLS = 2
_SURVIVED = "resumes from the newest intact checkpoint, to the same bits; no leftovers"

Disturbance = dict[str, Any]  # arguments of `Sandbox.run`


@dataclass
class KillTally(Tally):
    """Kills of one kind, and what was compared after them."""

    restored: int = 0  # checkpoints
    states: int = 0  # compared, including the restored ones
    records: int = 0  # compared
    lost: list[int] = field(default_factory=list)  # steps repeated after each kill
    recoveries: list[float] = field(default_factory=list)  # seconds, without imports


def random_kills(
    sandbox: Sandbox, reference: Reference, random: Random, what: str, kills: int
) -> KillTally:
    """Kills processes at random moments, uniform over an undisturbed one's duration."""
    tally = KillTally(f"SIGKILL at a random moment, {what}", _SURVIVED)

    def disturb() -> Disturbance:
        after = random.uniform(0, reference.seconds)
        return {"after": after, "first_call": random.randint(1, 9)}

    return _kill(tally, kills, sandbox, reference, random, disturb)


def stage_kills(
    sandbox: Sandbox, reference: Reference, random: Random, stage: str, kills: int
) -> KillTally:
    """Kills processes inside one stage of a save."""
    tally = KillTally(f"SIGKILL while {stage}", _SURVIVED)

    def disturb() -> Disturbance:
        return {"failpoint": STAGES[stage](random)}

    return _kill(tally, kills, sandbox, reference, random, disturb)


def _kill(
    tally: KillTally,
    kills: int,
    sandbox: Sandbox,
    reference: Reference,
    random: Random,
    disturb: Callable[[], Disturbance],
) -> KillTally:
    """Repeats the command until its processes were killed often enough."""
    directory = sandbox.directory / f"kills-{random.random()}"
    for chain in range(3 * kills + 9):
        if tally.trials == kills:
            break
        trial = sandbox._replace(directory=directory / f"chain-{chain}")
        _chain(
            trial, reference, tally, lambda: disturb() if tally.trials < kills else {}
        )
    if tally.trials < kills:
        tally.add_failure(f"{tally.trials} kills instead of {kills}")
    return tally


def _chain(
    sandbox: Sandbox,
    reference: Reference,
    tally: KillTally,
    disturb: Callable[[], Disturbance],
) -> None:
    """Runs processes in one directory until one of them finishes the command."""
    reached: dict[str, list[Position]] = {}  # since the last resume, by directory
    while True:
        newest = sandbox.newest_checkpoints()
        result = sandbox.run(**disturb())
        complaints = _compare(result, reference, newest, reached, tally)
        if result.status not in (0, -signal.SIGKILL) or "Traceback" in result.log:
            complaints.append(f"status {result.status}: {result.log[-2000:]}")
        if result.status != -signal.SIGKILL:
            break
        tally.add("; ".join(complaints) or None)
    records = sandbox.records()
    tally.records += len(records)
    if records != reference.records:
        complaints.append(f"{sandbox.output}: the records differ from the reference")
    complaints += [f"{path} is left over" for path in sandbox.leftovers()]
    if complaints:
        tally.add_failure("; ".join(complaints))


def _compare(
    result: ProcessResult,
    reference: Reference,
    newest: dict[str, Position],
    reached: dict[str, list[Position]],
    tally: KillTally,
) -> list[str]:
    """Compares the states in a journal with the reference; returns complaints."""
    complaints, resuming = [], False
    for event in result.events:
        if event["event"] == "failpoint_reached":
            break
        work, (epoch, step) = event["work"], event["at"] or (0, 0)
        at = epoch, step
        if event["at"] is not None:
            tally.states += 1
            if event["digest"] != reference.states[work, *at]:
                complaints.append(f"{work}: a different state at {at}")
        if event["event"] == "reached":
            reached[work].append(at)
            if resuming:
                tally.recoveries.append(event["time"] - result.started)
            resuming = False
            continue
        resuming = event is result.events[0] and event["at"] is not None
        tally.restored += event["at"] is not None
        if at != newest.get(work, (0, 0)):
            complaints.append(f"{work}: {at} restored, not {newest.get(work)}")
        if work in reached:
            again = [position for position in reached[work] if position > at]
            last = max([at, *again])
            tally.lost.append((last[0] - epoch) * reference.steps + last[1] - step)
            if len(again) > _LOST_CALLS:
                complaints.append(f"{work}: {again} are lost, all after {at}")
        reached[work] = []
    return complaints
