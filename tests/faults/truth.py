"""What a command does when nothing happens, and whether another life did the same."""

from itertools import pairwise
from typing import NamedTuple

from scene import Life, Scene


class Truth(NamedTuple):
    """What happens if nothing does."""

    states: dict[tuple[str, int, int], str]  # digests, by work, epoch and step
    records: dict[str, bytes]
    steps: int  # of an epoch
    seconds: float  # of a life
    intervals: list[int]  # steps from one look to the next


def truth(scene: Scene) -> Truth:
    """An uninterrupted life, in which the host looks after every single step."""
    _, single, life = (
        _by_itself(scene._replace(directory=scene.directory / name), saves)
        for name, saves in {"warm": False, "truth": False, "timed": True}.items()
    )
    reached = [event for event in single.events if event["event"] == "reached"]
    states = {(each["work"], *each["at"]): each["digest"] for each in reached}
    seconds = life.events[-1]["time"] - life.started
    steps = 1 + max(step for _, _, step in states)
    looks = [e["at"][0] * steps + e["at"][1] for e in life.events if e["at"]]
    intervals = [b - a for a, b in pairwise(looks) if b > a]
    records = scene._replace(directory=scene.directory / "truth").records()
    return Truth(states, records, steps, seconds, intervals)


def _by_itself(scene: Scene, saves: bool) -> Life:
    life = scene.live(saves=saves)
    if life.status or scene.leftovers():
        raise SystemExit(f"the command does not work by itself:\n{life.said}")
    return life


def wrong_state(life: Life, truth: Truth) -> str | None:
    """The first state that was not so uninterrupted; None if there is none."""
    for event in life.events:
        at = event.get("at")
        if at is not None and event["digest"] != truth.states[event["work"], *at]:
            return f"another state than uninterrupted: {event}"
    return None


def completed(scene: Scene, truth: Truth, life: Life) -> str | None:
    """What is wrong with a life that should have come to the command's end."""
    if life.status or "Traceback" in life.said:
        return f"status {life.status}: {life.said[-1500:]}"
    if complaint := wrong_state(life, truth):
        return complaint
    if scene.records() != truth.records:
        return "other records than uninterrupted"
    return ", ".join(f"{path} is left over" for path in scene.leftovers()) or None


def repeated(scene: Scene, truth: Truth, before: Life) -> str | None:
    """What is wrong with a life that was disturbed, or with the undisturbed next.

    That takes up the newest checkpoint that was whole, of each piece of work.
    """
    if complaint := wrong_state(before, truth):
        return complaint
    whole, life = scene.whole(), scene.live()
    for event in life.events:
        if event["event"] == "restored":
            at = tuple(event["at"] or (0, 0))
            if at != whole.get(event["work"], (0, 0)):
                return f"{event} is not the newest of {whole}"
    complaint = completed(scene, truth, life)
    return complaint and f"repeated, {complaint}"
