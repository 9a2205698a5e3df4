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


def difference(scene: Scene, truth: Truth) -> str | None:
    """What a command that has come to its end did in another way; None if nothing."""
    for event in scene.events():
        if event["at"] is not None:
            if event["digest"] != truth.states[event["work"], *event["at"]]:
                return f"another state than uninterrupted: {event}"
    if scene.records() != truth.records:
        return "other records than uninterrupted"
    return ", ".join(f"{path} is left over" for path in scene.leftovers()) or None
