"""Faults around a process: NaN gradients, a damaged compile cache, other devices."""

import signal
from pathlib import Path
from random import Random

import numpy as np
from reference import Reference, completed
from sandbox import Sandbox, compare_command, send, write_images
from tally import Tally

from experiments.data import image_dataset
from experiments.data.examples import split
from experiments.records import runs
from experiments.training.step import batch_rows, order_key

_ARMS = 4
_TOLERANCE = 1e-4  # of a loss
_STOPS = "ends with one line that names step and gradient, every time"


def nonfinite_gradients(sandbox: Sandbox, random: Random, trials: int) -> list[Tally]:
    """Makes the gradient of one batch NaN, and tries each --nonfinite policy."""
    stop = Tally("a NaN gradient, --nonfinite stop", _STOPS)
    skip = Tally("a NaN gradient, --nonfinite skip", "left out and counted")
    record = Tally("a NaN gradient, --nonfinite record", "recorded as NaN")
    for number in range(trials):
        image = random.randrange(64)
        directory = sandbox.directory / f"nonfinite-{number}"
        directory.mkdir(parents=True)
        command = compare_command(write_images(directory / "images.npz", white=image))
        trial = sandbox._replace(directory=directory, command=command)
        stop.add(_stops(trial, image))
        skip.add(_finishes(trial, "skip"))
        record.add(_finishes(trial, "record"))
    return [stop, skip, record]


def _stops(sandbox: Sandbox, image: int) -> str | None:
    trial = _with_policy(sandbox, "stop")
    step = _step_of(trial, image)
    results = [trial.run(nan_for_white=True) for _ in range(2)]
    for result in results:
        message = f"at step {step + 1} of epoch 1 the gradient of params["
        if result.status != 2 or message not in result.log or "Traceback" in result.log:
            expected = f"expected step {step + 1}"
            return f"status {result.status}, {expected}: {result.log[-900:]}"
    restored = (e["at"] for e in results[1].events if e["event"] == "restored")
    epoch, at = next(restored) or (0, 0)
    return None if (epoch, at) == (0, step) else f"resumed at {epoch, at}, not {step}"


def _finishes(sandbox: Sandbox, policy: str) -> str | None:
    trial = _with_policy(sandbox, policy)
    result = trial.run(nan_for_white=True)
    if result.status or "Traceback" in result.log:
        return f"status {result.status}: {result.log[-900:]}"
    recorded = runs.read(trial.output)
    if len(recorded) != _ARMS:
        return f"{len(recorded)} runs are recorded"
    for run in recorded:
        finite = bool(np.isfinite(run.test_loss))
        expected = run.config.epochs if policy == "skip" else 0
        if finite != (policy == "skip") or run.skipped_steps != expected:
            return f"{run.skipped_steps} steps skipped, test loss {run.test_loss}"
    return None


def _with_policy(sandbox: Sandbox, policy: str) -> Sandbox:
    command = *sandbox.command, "--nonfinite", policy
    return sandbox._replace(directory=sandbox.directory / policy, command=command)


def _step_of(sandbox: Sandbox, image: int) -> int:
    """The step of the first epoch whose batch contains the image, with seed 0."""
    words = dict(zip(sandbox.command[1::2], sandbox.command[2::2], strict=True))
    examples = split(image_dataset.load(words["--dataset"], None)).train
    batch = int(words["--batch-size"])
    indices, _ = batch_rows(order_key(0, 0), len(examples.labels), batch, 1)
    return int(np.argwhere(np.asarray(indices) == image)[0][0])


def damaged_cache(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Flips a bit of every cached program, truncates it or deletes it.

    JAX finds programs only in the directory to which it has written them: a copy of the
    cache would never be read.
    """
    trial = sandbox._replace(cache=sandbox.directory / "cache")
    first = trial._replace(directory=sandbox.directory / "first")
    if complaint := completed(first, reference, first.run()):
        return complaint
    files = sorted(trial.cache.iterdir())
    for file in files:
        _damage(file, random)
    result = trial.run()
    if "Error reading persistent compilation cache" not in result.log:
        return f"of {files} none was read"
    return completed(trial, reference, result)


def _damage(file: Path, random: Random) -> None:
    content = bytearray(file.read_bytes())
    match random.randrange(3):
        case 0:
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
            file.write_bytes(content)
        case 1:
            file.write_bytes(content[: random.randrange(len(content))])
        case _:
            file.unlink()


def more_devices(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Runs on one, two and eight devices, which add gradients in different orders."""
    results = []
    for count in (1, 2):
        process, started = sandbox.start_training(random, devices=count)
        send(process.pid, signal.SIGKILL)
        results.append(sandbox.wait(process, started))
    result = sandbox.run(devices=8)
    if result.status or "Traceback" in result.log:
        return f"status {result.status}: {result.log[-1500:]}"
    if any(r.events[0]["at"] is None for r in (results[1], result)):
        return "nothing was restored"
    recorded, expected = (
        {name: np.frombuffer(record) for name, record in records.items()}
        for records in (sandbox.records(), reference.records)
    )
    if recorded.keys() != expected.keys():
        return "the recorded runs differ from the reference"
    largest = max(np.abs(recorded[name] - expected[name]).max() for name in recorded)
    return None if largest < _TOLERANCE else f"losses differ by {largest}"
