"""What a run depends on: gradients, the compile cache, devices."""

import shutil
from pathlib import Path
from random import Random

import numpy as np
from scene import Scene, commanded, images
from tally import Tally
from truth import Truth

from experiments import data, runs, train
from experiments.splits import split

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
    for run in runs.read(own.output):
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
    own = split(data.load(words["--dataset"], None)).train
    batch = int(words["--batch-size"])
    indices, _ = train.batch_rows(train.order_key(0, 0), len(own.labels), batch, 1)
    return int(np.argwhere(np.asarray(indices) == image)[0][0])


def spoilt_cache(scene: Scene, truth: Truth, random: Random, trials: int) -> Tally:
    """Every compiled program on the disk with a bit flipped, or cut."""
    tally = Tally("a spoilt cache of compiled programs", "compiled anew: the same bits")
    for number in range(trials):
        own = scene._replace(directory=scene.directory / f"cache-{number}")
        cache = own.directory / "cache"
        shutil.copytree(scene.cache, cache)
        for file in sorted(cache.iterdir()):
            _spoil(file, random)
        life = own._replace(cache=cache).live()
        if life.status or "Traceback" in life.said:
            tally.add(f"status {life.status}: {life.said[-1500:]}")
        else:
            same = own.records() == truth.records
            tally.add(None if same else "other records than uninterrupted")
    return tally


def _spoil(file: Path, random: Random) -> None:
    content = bytearray(file.read_bytes())
    if random.random() < 0.5:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    else:
        del content[random.randrange(len(content)) :]
    file.write_bytes(content)


def devices(scene: Scene, truth: Truth, random: Random, trials: int) -> Tally:
    """From one device to two, from two to eight: the sums' order is another."""
    tally = Tally(
        "the next process has 2, the one after 8 devices instead of 1",
        "goes on; losses within 1e-4 of an uninterrupted run's",
    )
    for number in range(trials):
        own = scene._replace(directory=scene.directory / f"devices-{number}")
        for count in (1, 2):
            own.live(devices=count, after=random.uniform(0.3, 0.9) * truth.seconds)
        life = own.live(devices=8)
        if life.status or "Traceback" in life.said:
            tally.add(f"status {life.status}: {life.said[-1500:]}")
            continue
        differences = [
            np.abs(np.frombuffer(record) - np.frombuffer(truth.records[name])).max()
            for name, record in own.records().items()
        ]
        largest = max(differences)
        tally.add(None if largest < _CLOSE else f"losses differ by {largest}")
    return tally
