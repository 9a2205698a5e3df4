"""The states and records of an undisturbed command, and comparisons with them."""

from itertools import pairwise
from typing import NamedTuple

from sandbox import ProcessResult, Sandbox


class Reference(NamedTuple):
    """What an undisturbed command computes."""

    states: dict[tuple[str, int, int], str]  # digests by directory, epoch and step
    records: dict[str, bytes]
    steps: int  # in one epoch
    seconds: float  # that one process takes
    intervals: list[int]  # steps between two saves


def measure_reference(sandbox: Sandbox) -> Reference:
    """Runs the command undisturbed three times: to compile, to journal, to time it."""
    _, single, result = (
        _undisturbed(sandbox._replace(directory=sandbox.directory / name), saves)
        for name, saves in {"warm": False, "reference": False, "timed": True}.items()
    )
    reached = [event for event in single.events if event["event"] == "reached"]
    states = {(event["work"], *event["at"]): event["digest"] for event in reached}
    seconds = result.events[-1]["time"] - result.started
    steps = 1 + max(step for _, _, step in states)
    saved_at = [e["at"][0] * steps + e["at"][1] for e in result.events if e["at"]]
    intervals = [b - a for a, b in pairwise(saved_at) if b > a]
    records = sandbox._replace(directory=sandbox.directory / "reference").records()
    return Reference(states, records, steps, seconds, intervals)


def _undisturbed(sandbox: Sandbox, saves: bool) -> ProcessResult:
    result = sandbox.run(saves=saves)
    if result.status or sandbox.leftovers():
        raise SystemExit(f"the undisturbed command fails:\n{result.log}")
    return result


def wrong_state(result: ProcessResult, reference: Reference) -> str | None:
    """Describes the first state that differs from the reference, if any does."""
    for event in result.events:
        at = event.get("at")
        if at is not None and event["digest"] != reference.states[event["work"], *at]:
            return f"a state differs from the reference: {event}"
    return None


def completed(
    sandbox: Sandbox, reference: Reference, result: ProcessResult
) -> str | None:
    """Describes what is wrong with a process that should have finished the command."""
    if result.status or "Traceback" in result.log:
        return f"status {result.status}: {result.log[-1500:]}"
    if complaint := wrong_state(result, reference):
        return complaint
    if sandbox.records() != reference.records:
        return "the records differ from the reference"
    return ", ".join(f"{path} is left over" for path in sandbox.leftovers()) or None


def repeated(
    sandbox: Sandbox, reference: Reference, before: ProcessResult
) -> str | None:
    """Runs the command again after a disturbed process; describes what is wrong.

    The second process must resume from the newest intact checkpoints and finish.
    """
    if complaint := wrong_state(before, reference):
        return complaint
    newest, result = sandbox.newest_checkpoints(), sandbox.run()
    for event in result.events:
        if event["event"] == "restored":
            at = tuple(event["at"] or (0, 0))
            if at != newest.get(event["work"], (0, 0)):
                return f"{event} is not the newest of {newest}"
    complaint = completed(sandbox, reference, result)
    return complaint and f"repeated, {complaint}"
