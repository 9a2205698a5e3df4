"""Runs trained together, against as many one after another, ours and PyTorch's."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments.bench import table
from experiments.data.examples import Examples, Splits
from experiments.distributed.devices import on_all_devices
from experiments.networks import cnn, mlp
from experiments.optimizers.arms import ARMS
from experiments.peers import peer_process
from experiments.training.program import Point, as_arrays, compile_program
from experiments.training.scoring import Network
from experiments.training.step import TrainSpec, constant, steps_per_epoch

RUNS = (1, 2, 4, 8, 16)
TURNS = 3
BATCH_SIZE, LEARNING_RATE, BETA, CLASSES = 64, 0.01, 0.9, 10


class Case(NamedTuple):
    """What each run trains on: random images, which cost what real ones cost."""

    name: str  # of the network, to the peer
    network: Network
    images: tuple[int, int, int, int]
    epochs: int  # measured together, in a turn


CASES = (
    Case("cnn", cnn, (1024, 32, 32, 3), 1),
    Case("mlp", mlp, (1149, 8, 8, 1), 20),  # scikit-learn's digits, less those held out
)


def bench_sweep(peers: Path | None) -> None:
    """Measures each case, prints JSON lines to stdout and a table to stderr.

    Args:
      peers: Python interpreter of an environment with PyTorch.

    Raises:
      UsageError: that interpreter is missing or lacks PyTorch.
    """
    records = (record for case in CASES for record in _measure(case, peers))
    table.print_records("sweeps, images per second of all runs", records)


def _measure(case: Case, peers: Path | None) -> Iterator[Mapping[str, object]]:
    """The records of one case; for each number of runs, all programs in turn."""
    with ExitStack() as stack:
        peer = None
        if peers is not None:  # first, as it may be refused
            arguments = "train_pytorch.py", str(case.images[0]), case.name
            peer = stack.enter_context(peer_process.start(peers, *arguments))
        splits = _splits(case.images)
        alone = _alone(case, splits)
        for runs in RUNS:
            programs = {
                "optax_momentum, together": _together(case, splits, runs),
                "optax_momentum, one after another": _repeated(alone, case, runs),
            }
            if peer is not None:
                name = f"{peer.greeting}, one after another"
                programs[name] = _repeated(_theirs(peer), case, runs)
            seconds = table.seconds_in_turn(programs, TURNS)
            images = runs * case.epochs * case.images[0]
            rates = {name: [images / s for s in own] for name, own in seconds.items()}
            of = {"benchmark": "sweep", "network": case.name, "runs": runs}
            yield from table.compared(rates, unit="images_per_second", **of)


def _together(case: Case, splits: Splits, runs: int) -> Callable[[], float]:
    """The epochs of a turn, of all runs as one program; returns their seconds."""
    transformation = ARMS["keras"].transformation
    spec = TrainSpec(transformation, BATCH_SIZE, case.network)
    program = compile_program(spec, runs, splits)
    seeds = range(program.padded_lanes)
    points = as_arrays([Point(LEARNING_RATE, BETA, seed) for seed in seeds])
    state = program.start(points)
    steps = steps_per_epoch(splits.train, BATCH_SIZE)

    def turn() -> float:
        nonlocal state
        start = time.perf_counter()
        for epoch in range(case.epochs):
            state = program.train_steps(points, state, epoch, 0, steps, splits.train)
        jax.block_until_ready(state)
        return time.perf_counter() - start

    return turn


def _alone(case: Case, splits: Splits) -> Callable[[], float]:
    """An epoch of one run of ours; returns its seconds."""
    transformation = ARMS["keras"].transformation(LEARNING_RATE, BETA)
    spec = TrainSpec(constant(transformation), BATCH_SIZE, case.network)
    program = compile_program(spec, 1, splits)
    points = as_arrays([Point(LEARNING_RATE, BETA, 0)])
    state = program.start(points)
    steps = steps_per_epoch(splits.train, BATCH_SIZE)

    def epoch() -> float:
        nonlocal state
        start = time.perf_counter()
        state = program.train_steps(points, state, 0, 0, steps, splits.train)
        jax.block_until_ready(state)
        return time.perf_counter() - start

    return epoch


def _theirs(peer: peer_process.PeerProcess) -> Callable[[], float]:
    """The same of PyTorch, which measures it itself."""
    return lambda: float(peer.ask("epoch"))


def _repeated(epoch: Callable[[], float], case: Case, runs: int) -> Callable[[], float]:
    """The epochs of a turn, of some runs one after another; returns their seconds."""
    return lambda: sum(epoch() for _ in range(runs * case.epochs))


def _splits(shape: tuple[int, int, int, int]) -> Splits:
    """Random images; a few of them for what is not measured."""
    rng = np.random.default_rng(0)
    images = rng.random(shape, dtype=np.float32)
    labels = rng.integers(0, CLASSES, shape[0], dtype=np.int32)
    examples, few = (
        Examples(*on_all_devices((images[:n], labels[:n]))) for n in (shape[0], 2)
    )
    return Splits(examples, few, few, CLASSES)
