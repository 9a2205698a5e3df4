"""Training throughput, ours and in turn with it that of Keras and PyTorch."""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments import train
from experiments.arms import ARMS
from experiments.config import UsageError

IMAGES = 8192  # random, 32x32x3, float32
BATCH_SIZE = 64
EPOCHS = 3  # measured, after one that warms up
PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Bench:
    """Measure speed, and print one JSON object a line, ours first.

    train: images per second of training the tutorial's CNN (8,192 random 32x32x3
    float32 images, batch 64, learning rate 0.01, momentum 0.9, shuffling included):
    the median of three epochs after a warm-up.
    """

    what: tyro.conf.Positional[Literal["train"]]
    """What to measure."""

    peers: Path | None = None
    """Python interpreter of an environment that has
    TensorFlow, Keras and PyTorch: their epochs are then
    measured too, in turn with ours."""


def bench(options: Bench) -> None:
    """Measures, prints JSON lines to stdout and a table to stderr.

    Raises:
      UsageError: the peers' interpreter is missing or lacks their libraries.
    """
    with ExitStack() as stack:
        peers = {}
        if options.peers is not None:  # first, as they may be refused
            for program in ("train_keras.py", "train_pytorch.py"):
                name, epoch = stack.enter_context(_peer(options.peers, program))
                peers[name] = epoch
        epochs = {f"optax_momentum on JAX {jax.__version__}": _our_epoch(), **peers}
        seconds: dict[str, list[float]] = {name: [] for name in epochs}
        for turn in range(1 + EPOCHS):
            for name, epoch in epochs.items():
                measured = epoch()
                if turn > 0:
                    seconds[name].append(measured)
    rates = {name: [IMAGES / s for s in own] for name, own in seconds.items()}
    ours = statistics.median(next(iter(rates.values())))
    table = Table(title="training throughput, images per second")
    for heading in ("program", "median", "slowest", "fastest", "ours / this"):
        table.add_column(heading, justify="left" if heading == "program" else "right")
    for name, own in rates.items():
        median = statistics.median(own)
        record = {
            "benchmark": "train",
            "program": name,
            "images_per_second": round(median, 1),
            "slowest": round(min(own), 1),
            "fastest": round(max(own), 1),
            "ours_over_this": round(ours / median, 3),
        }
        print(json.dumps(record), flush=True)
        figures = (median, min(own), max(own))
        table.add_row(name, *(f"{f:,.0f}" for f in figures), f"{ours / median:.2f}")
    Console(stderr=True).print(table)


def _our_epoch() -> Callable[[], float]:
    """One epoch of our training on every call; returns its seconds."""
    rng = np.random.default_rng(0)
    images = rng.random((IMAGES, 32, 32, 3), dtype=np.float32)
    labels = rng.integers(0, 10, IMAGES, dtype=np.int32)
    examples = train.Examples(*train.on_all_devices((images, labels)))
    transformation = ARMS["keras"].transformation(0.01, 0.9)
    program = train.compile_epoch(transformation, examples, 10, BATCH_SIZE)
    params = train.initial_params(examples, 10, seed=0)
    carry = (params, train.on_all_devices(transformation.init(params)))
    keys = (train.order_key(0, epoch) for epoch in range(1 + EPOCHS))

    def epoch() -> float:
        nonlocal carry
        start = time.perf_counter()
        *carry, _ = jax.block_until_ready(program(*carry, next(keys), examples))
        return time.perf_counter() - start

    return epoch


@contextmanager
def _peer(python: Path, program: str) -> Iterator[tuple[str, Callable[[], float]]]:
    """A peer's process, idle but for the epochs that it is asked for."""
    try:
        process = subprocess.Popen(
            [python, PEERS / program, str(IMAGES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        raise UsageError(
            f"--peers {python} is no Python interpreter: {error.strerror}."
        ) from None
    with process:
        requests, answers, complaints = process.stdin, process.stdout, process.stderr
        assert requests and answers and complaints  # they are pipes

        def answer() -> str:
            line = answers.readline().strip()
            if not line:
                reason = complaints.read().strip().rpartition("\n")[2]
                raise UsageError(f"--peers {python} can't run {program}: {reason}")
            return line

        def epoch() -> float:
            requests.write("epoch\n")
            requests.flush()
            return float(answer())

        yield answer(), epoch
        requests.close()
