"""What a run depends on: gradients, the compile cache, devices."""

import signal
from pathlib import Path
from random import Random

import numpy as np
from scene import Scene, commanded, images, send
from tally import Tally
from truth import Truth, completed

from experiments.data import image_dataset
from experiments.data.examples import split
from experiments.records import runs
from experiments.training import step

_ARMS = 4
_CLOSE = 1e-4  # in a loss
_STOPS = "ends with one line that names step and gradient, as often as repeated"


def nonfinite_gradients(scene: Scene, random: Random, trials: int) -> list[Tally]:
    """One image makes the gradient of its batch NaN; each policy in turn."""
    stop = Tally("a NaN gradient, --nonfinite stop", _STOPS)
    skip = Tally("a NaN gradient, --nonfinite skip", "left out and counted")
    record = Tally("a NaN gradient, --nonfinite record", "recorded as what it is")
    for number in range(trials):
        image = random.randrange(64)
        directory = scene.directory / f"nonfinite-{number}"
        directory.mkdir(parents=True)
        command = commanded(images(directory / "images.npz", white=image))
        own = scene._replace(directory=directory, command=command)
        stop.add(_stops(own, image))
        skip.add(_goes_on(own, "skip"))
        record.add(_goes_on(own, "record"))
    return [stop, skip, record]


def _stops(scene: Scene, image: int) -> str | None:
    own = _with_policy(scene, "stop")
    step = _step_of(own, image)
    lives = [own.live(poisoned=True) for _ in range(2)]
    for life in lives:
        told = f"at step {step + 1} of epoch 1 the gradient of params[" in life.said
        if life.status != 2 or not told or "Traceback" in life.said:
            return f"status {life.status}, expected step {step + 1}: {life.said[-900:]}"
    epoch, at = next(
        e["at"] or (0, 0) for e in lives[1].events if e["event"] == "restored"
    )
    return None if (epoch, at) == (0, step) else f"kept {epoch, at}, not {step}"


def _goes_on(scene: Scene, policy: str) -> str | None:
    own = _with_policy(scene, policy)
    life = own.live(poisoned=True)
    if life.status or "Traceback" in life.said:
        return f"status {life.status}: {life.said[-900:]}"
    recorded = runs.read(own.output)
    if len(recorded) != _ARMS:
        return f"{len(recorded)} runs are recorded"
    for run in recorded:
        finite = bool(np.isfinite(run.test_loss))
        expected = run.config.epochs if policy == "skip" else 0
        if finite != (policy == "skip") or run.skipped_steps != expected:
            return f"{run.skipped_steps} steps skipped, test loss {run.test_loss}"
    return None


def _with_policy(scene: Scene, policy: str) -> Scene:
    return scene._replace(
        directory=scene.directory / policy,
        command=(*scene.command, "--nonfinite", policy),
    )


def _step_of(scene: Scene, image: int) -> int:
    """The step of the first epoch in which an image is seen, with seed 0."""
    words = dict(zip(scene.command[1::2], scene.command[2::2], strict=True))
    own = split(image_dataset.load(words["--dataset"], None)).train
    batch = int(words["--batch-size"])
    indices, _ = step.batch_rows(step.order_key(0, 0), len(own.labels), batch, 1)
    return int(np.argwhere(np.asarray(indices) == image)[0][0])


def spoilt_cache(scene: Scene, truth: Truth, random: Random) -> str | None:
    """Every compiled program on the disk with a bit flipped, cut, or gone.

    They are found where they were written alone: a copy elsewhere is never read.
    """
    own = scene._replace(cache=scene.directory / "cache")
    first = own._replace(directory=scene.directory / "first")
    if complaint := completed(first, truth, first.live()):
        return complaint
    files = sorted(own.cache.iterdir())
    for file in files:
        _spoil(file, random)
    life = own.live()
    noticed = "Error reading persistent compilation cache" in life.said
    return completed(own, truth, life) if noticed else f"of {files} none was read"


def _spoil(file: Path, random: Random) -> None:
    content = bytearray(file.read_bytes())
    match random.randrange(3):
        case 0:
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
            file.write_bytes(content)
        case 1:
            file.write_bytes(content[: random.randrange(len(content))])
        case _:
            file.unlink()


def devices(scene: Scene, truth: Truth, random: Random) -> str | None:
    """From one device to two, from two to eight: the sums' order is another."""
    lives = []
    for count in (1, 2):
        process, started = scene.underway(random, devices=count)
        send(process.pid, signal.SIGKILL)
        lives.append(scene.ended(process, started))
    life = scene.live(devices=8)
    if life.status or "Traceback" in life.said:
        return f"status {life.status}: {life.said[-1500:]}"
    if any(each.events[0]["at"] is None for each in (lives[1], life)):
        return "nothing was restored"
    ours, theirs = (
        {name: np.frombuffer(record) for name, record in records.items()}
        for records in (scene.records(), truth.records)
    )
    if ours.keys() != theirs.keys():
        return "other runs than uninterrupted"
    largest = max(np.abs(ours[name] - theirs[name]).max() for name in ours)
    return None if largest < _CLOSE else f"losses differ by {largest}"
