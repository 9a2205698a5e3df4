"""Runs trained together, compared with as many trained one after another."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.bench import table
from experiments.bench.table import Timed
from experiments.data.examples import Examples, Splits
from experiments.distributed.devices import on_all_devices
from experiments.networks import cnn, mlp
from experiments.networks.network import Network
from experiments.optimizers.arms import ARMS
from experiments.peers import process
from experiments.problems.image_classification import image_classification
from experiments.training.points import Point, as_arrays
from experiments.training.program import compile_program
from experiments.training.step import (
    OptimizerOf,
    TrainSpec,
    TrainState,
    constant,
    steps_per_epoch,
)

RUNS = (1, 2, 4, 8, 16)
TURNS = 3
BATCH_SIZE, LEARNING_RATE, BETA, CLASSES = 64, 0.01, 0.9, 10


class SweepCase(NamedTuple):
    """A network, and the random images that every run trains it on."""

    name: str  # the network's, as the peer knows it
    network: Network
    images: tuple[int, int, int, int]  # [image, height, width, channel]
    epochs: int  # in one turn


CASES = (
    SweepCase("cnn", cnn, (1024, 32, 32, 3), 1),
    SweepCase("mlp", mlp, (1149, 8, 8, 1), 20),  # as scikit-learn's training digits
)


def bench_sweep(peers: Path | None) -> None:
    """Measures each case, prints JSON lines to stdout and a table to stderr.

    Raises:
      UsageError: the peers' interpreter is missing or lacks PyTorch.
    """
    records = (record for case in CASES for record in _measure(case, peers))
    table.print_records("sweeps: images per second, of all runs together", records)


def _measure(case: SweepCase, peers: Path | None) -> Iterator[Mapping[str, object]]:
    """The records of one case; the programs run in turn for each number of runs."""
    with ExitStack() as stack:
        peer = None
        if peers is not None:  # first: it may be missing
            arguments = "train_pytorch.py", str(case.images[0]), case.name
            peer = stack.enter_context(process.start(peers, *arguments))
        splits = _splits(case.images)
        keras = ARMS["keras"].transformation
        alone = _epochs(constant(keras(LEARNING_RATE, BETA)), case, splits, 1, 1)
        for runs in RUNS:
            together = _epochs(keras, case, splits, runs, case.epochs)
            programs = {
                "optax_momentum, together": together,
                "optax_momentum, one after another": _repeated(alone, case, runs),
            }
            if peer is not None:
                name = f"{peer.greeting}, one after another"
                programs[name] = _repeated(peer.timed("epoch"), case, runs)
            images = runs * case.epochs * case.images[0]
            labels = {"benchmark": "sweep", "network": case.name, "runs": runs}
            work, unit = dict.fromkeys(programs, images), "images_per_second"
            yield from table.compare(programs, TURNS, work=work, unit=unit, **labels)


def _epochs(
    transformation: OptimizerOf, case: SweepCase, splits: Splits, runs: int, epochs: int
) -> Timed:
    """Epochs of all runs in one program."""
    task = image_classification(case.network, CLASSES)
    spec = TrainSpec(transformation, BATCH_SIZE, task)
    program = compile_program(spec, runs, splits)
    seeds = range(program.padded_lanes)
    points = as_arrays([Point(LEARNING_RATE, BETA, seed) for seed in seeds])
    steps = steps_per_epoch(splits.train, BATCH_SIZE)

    def train(state: TrainState) -> TrainState:
        for epoch in range(epochs):
            state = program.train_steps(points, state, epoch, 0, steps, splits.train)
        return state

    return table.timed(train, program.start(points))


def _repeated(epoch: Timed, case: SweepCase, runs: int) -> Timed:
    """The epochs of a turn, one run after another."""
    return lambda: sum(epoch() for _ in range(runs * case.epochs))


def _splits(shape: tuple[int, int, int, int]) -> Splits:
    """Random images, with few in the splits that are not measured."""
    rng = np.random.default_rng(0)
    images = rng.random(shape, dtype=np.float32)
    labels = rng.integers(0, CLASSES, shape[0], dtype=np.int32)
    examples = Examples(*on_all_devices((images, labels)))
    few = Examples(*on_all_devices((images[:2], labels[:2])))
    return Splits(examples, few, few)
