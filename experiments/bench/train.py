"""Training throughput: ours in turn with Keras and PyTorch, and at other sizes."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import jax
import numpy as np

from experiments.bench import table
from experiments.bench.table import Timed
from experiments.data.examples import Examples, Splits
from experiments.distributed.devices import on_all_devices
from experiments.distributed.matrix_products import matrix_products
from experiments.networks import cnn
from experiments.optimizers.arms import ARMS
from experiments.peers import process
from experiments.problems.image_classification import image_classification
from experiments.problems.problem import (
    Batch,
    Task,
    examples_in,
    some_examples,
    task_of,
)
from experiments.problems.user_network import network_task
from experiments.problems.user_problem import user_problem
from experiments.training.points import Point, as_arrays
from experiments.training.program import compile_program
from experiments.training.step import TrainSpec, TrainState, constant, steps_per_epoch
from experiments.user_code import file_and_function

IMAGES = 8192  # random, 32x32x3, float32
OWN_IMAGES = 1024  # beside a user's network, which may take fifty times as long
BATCH_SIZE = 64
TURNS = 3
CLASSES = 10
TASK = image_classification(cnn, CLASSES)
OPERATIONS = 25.7e6  # per image: multiplications and additions in matrix products
SIZES = [  # (multiple of IMAGES, batch size): one of the two differs from the first
    (1, 64),
    (2, 64),
    (4, 64),
    *((1, batch_size) for batch_size in (32, 128, 256, 512, 1024)),
]


def bench_train(
    python: Path | None, model: str | None = None, problem: str | None = None
) -> None:
    """Measures, prints JSON lines to stdout and tables to stderr.

    Args:
      python: the interpreter of Keras and PyTorch, to be measured in turn.
      model: FILE.py:function of a network, measured beside the built-in one. If it is
        one of this package, the peers train the same.
      problem: FILE.py:function of a problem, measured alone.

    Raises:
      UsageError: the peers' interpreter is missing or lacks their libraries, or the
        user's function is unfit.
    """
    if problem is not None:
        return _bench_problem(problem)
    own: dict[str, Task] = {}
    images, network = IMAGES, "cnn"  # of the peers
    if model is not None:
        own[model], _ = network_task("--model", model, (32, 32, 3), CLASSES)
        images, network = OWN_IMAGES, _of_peers(model)
    with ExitStack() as stack:
        peers = {}
        if python is not None:  # first: they may be missing
            for program in ("train_keras.py", "train_pytorch.py"):
                start = process.start(python, program, str(images), network)
                peer = stack.enter_context(start)
                peers[peer.greeting] = peer.timed("epoch")
        programs = {
            **{
                name: _our_epoch(images, BATCH_SIZE, task) for name, task in own.items()
            },
            f"optax_momentum on JAX {jax.__version__}": _our_epoch(images, BATCH_SIZE),
            **peers,
            "matrix products alone": _products(images),
        }
        _compare("training throughput", programs, dict.fromkeys(programs, images))
    if own:
        return
    names = {f"{n * IMAGES} images, {batch} a step": (n, batch) for n, batch in SIZES}
    programs = {name: _our_epoch(n * IMAGES, b) for name, (n, b) in names.items()}
    sizes = {name: n * IMAGES for name, (n, _) in names.items()}
    _compare("optax_momentum at other sizes", programs, sizes)


def _of_peers(model: str) -> str:
    """Which network Keras and PyTorch train beside a model: the same, or the CNN."""
    file, function = file_and_function("--model", model)
    ours = Path(file).resolve().parent == Path(cnn.__file__).parent
    return function if ours and function in ("resnet20", "separable") else "cnn"


def _compare(
    title: str, programs: Mapping[str, Timed], images: Mapping[str, int]
) -> None:
    """Measures epochs in turn and prints images per second."""
    unit = "images_per_second"
    records = table.compare(programs, TURNS, work=images, unit=unit, benchmark="train")
    table.print_records(title, records)


def _bench_problem(reference: str) -> None:
    """Times epochs of a user's problem."""
    problem, _ = user_problem("--problem", reference)
    count = examples_in(problem.train)
    size = min(BATCH_SIZE, count)
    epoch = _epoch(task_of(problem), on_all_devices(problem.train), size)
    unit = "examples_per_second"
    work = {reference: count}
    records = table.compare(
        {reference: epoch}, TURNS, work=work, unit=unit, benchmark="train"
    )
    table.print_records(f"training throughput, {size} a step", records)


def _our_epoch(images: int, batch_size: int, task: Task = TASK) -> Timed:
    """One epoch of our training, on random images."""
    rng = np.random.default_rng(0)
    pixels = rng.random((images, 32, 32, 3), dtype=np.float32)
    labels = rng.integers(0, CLASSES, images, dtype=np.int32)
    return _epoch(task, Examples(*on_all_devices((pixels, labels))), batch_size)


def _epoch(task: Task, examples: Batch, batch_size: int) -> Timed:
    transformation = ARMS["keras"].transformation(0.01, 0.9)
    few = some_examples(examples, 2)
    spec = TrainSpec(constant(transformation), batch_size, task)
    program = compile_program(spec, 1, Splits(examples, few, few))
    points = as_arrays([Point(0.01, 0.9, 0)])
    steps, epochs = steps_per_epoch(examples, batch_size), iter(range(1 + TURNS))

    def train(state: TrainState) -> TrainState:
        return program.train_steps(points, state, next(epochs), 0, steps, examples)

    return table.timed(train, program.start(points))


def _products(images: int) -> Timed:
    """An epoch's arithmetic as large matrix products, on all devices."""
    rate = matrix_products()
    return lambda: images * OPERATIONS / rate()
