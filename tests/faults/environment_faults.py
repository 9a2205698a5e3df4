"""Faults around a process: NaN gradients, a damaged cache, devices, variables."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

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

# Variables, and how the error begins of those that are refused.
_VARIABLES = {
    "JAX_ENABLE_X64=1": "",
    "JAX_DEBUG_NANS=1": "",
    "JAX_DEFAULT_PRNG_IMPL=rbg": "",
    "JAX_THREEFRY_PARTITIONABLE=0": "",
    "JAX_NUMPY_DTYPE_PROMOTION=strict": "",
    "MPLBACKEND=module://matplotlib_inline.backend_inline": "",
    "NO_COLOR=1": "",
    "COLUMNS=20": "",
    "JAX_DISABLE_JIT=1": "error: JAX_DISABLE_JIT is set, ",
    "JAX_ENABLE_X64=maybe": "error: JAX refuses a variable of the environment, ",
    "JAX_PLATFORMS=cuda": "error: JAX_PLATFORMS=cuda: JAX can't start its devices: ",
    "JAX_PLATFORMS=cpuu": "error: JAX_PLATFORMS=cpuu: JAX can't start its devices: ",
    "XLA_FLAGS=--xla_no_flag=1": "error: XLA refuses XLA_FLAGS=--xla_no_flag=1: ",
}
_USER_CODE = """
import math
from flax import nnx
from optax_momentum import keras

def optimizers(learning_rate):
    return {"keras": keras(learning_rate, 0.9)}

def network(image_shape, classes, rngs):
    linear = nnx.Linear(math.prod(image_shape), classes, rngs=rngs)
    return nnx.Sequential(lambda x: x.reshape(len(x), -1), linear)
"""


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


def variables(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Trains one run under each variable, or is refused in one line that names it."""
    for number, (variable, error) in enumerate(_VARIABLES.items()):
        name, _, value = variable.partition("=")
        directory = sandbox.directory / str(number)
        done = _start(directory, {name: value}, subprocess.PIPE)
        refused = done.stderr.startswith(error) and done.stderr.count("\n") == 1
        recorded = runs.read(directory / "output")
        if error and not (done.returncode == 2 and refused and not recorded):
            return f"{variable}: status {done.returncode}: {done.stderr[-900:]}"
        if not error and (done.returncode or len(recorded) != 1):
            return f"{variable}: status {done.returncode}: {done.stderr[-900:]}"
    return None


def lost_output(sandbox: Sandbox, reference: Reference, random: Random) -> str | None:
    """Trains although nothing can be printed, to a full disk or into a closed pipe."""
    reader, closed = os.pipe()
    os.close(reader)
    for output, status in ((os.open("/dev/full", os.O_WRONLY), 1), (closed, 0)):
        directory = sandbox.directory / f"status {status}"
        done = _start(directory, {}, output)
        os.close(output)
        recorded = runs.read(directory / "output")
        said = done.stderr.startswith("standard output is lost (")
        if done.returncode != status or not said or len(recorded) != 1:
            return f"status {done.returncode}, {len(recorded)} runs: {done.stderr}"
        if done.stderr.count("\n") != 1:
            return f"more than one line: {done.stderr[-900:]}"
    return None


def _start(directory: Path, variables: dict[str, str], output: int) -> Any:
    """Runs a small comparison in a new process with these variables, to its end."""
    directory.mkdir(parents=True)
    user_code = directory / "mine.py"
    user_code.write_text(_USER_CODE)
    images = write_images(directory / "images.npz")
    command = "compare --epochs 1 --seeds 1 --batch-size 64".split()
    command += ["--dataset", str(images), "--output", str(directory / "output")]
    command += ["--arms", f"{user_code}:optimizers", "--model", f"{user_code}:network"]
    return subprocess.run(
        [sys.executable, "-m", "experiments", *command],
        env={**os.environ, **variables},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
