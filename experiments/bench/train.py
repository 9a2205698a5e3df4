"""Training throughput: ours in turn with Keras and PyTorch, and at other sizes."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float32

from experiments.bench import table
from experiments.bench.table import Timed
from experiments.data.examples import Examples, Splits
from experiments.distributed.devices import device_mesh, on_all_devices
from experiments.networks import cnn
from experiments.optimizers.arms import ARMS
from experiments.peers import process
from experiments.problems.image_classification import image_classification
from experiments.training.program import Point, as_arrays, compile_program
from experiments.training.step import TrainSpec, TrainState, constant, steps_per_epoch

IMAGES = 8192  # random, 32x32x3, float32
BATCH_SIZE = 64
TURNS = 3
CLASSES = 10
OPERATIONS = 25.7e6  # per image: multiplications and additions in matrix products
SIZES = [  # (multiple of IMAGES, batch size): one of the two differs from the first
    (1, 64),
    (2, 64),
    (4, 64),
    *((1, batch_size) for batch_size in (32, 128, 256, 512, 1024)),
]


def bench_train(python: Path | None) -> None:
    """Measures, prints JSON lines to stdout and tables to stderr.

    Raises:
      UsageError: the peers' interpreter is missing or lacks their libraries.
    """
    with ExitStack() as stack:
        peers = {}
        if python is not None:  # first: they may be missing
            for program in ("train_keras.py", "train_pytorch.py"):
                start = process.start(python, program, str(IMAGES))
                peer = stack.enter_context(start)
                peers[peer.greeting] = peer.timed("epoch")
        programs = {
            f"optax_momentum on JAX {jax.__version__}": _our_epoch(IMAGES, BATCH_SIZE),
            **peers,
            "matrix products alone": _products(),
        }
        _compare("training throughput", programs, dict.fromkeys(programs, IMAGES))
    names = {f"{n * IMAGES} images, {batch} a step": (n, batch) for n, batch in SIZES}
    programs = {name: _our_epoch(n * IMAGES, b) for name, (n, b) in names.items()}
    sizes = {name: n * IMAGES for name, (n, _) in names.items()}
    _compare("optax_momentum at other sizes", programs, sizes)


def _compare(
    title: str, programs: Mapping[str, Timed], images: Mapping[str, int]
) -> None:
    """Measures epochs in turn and prints images per second."""
    unit = "images_per_second"
    records = table.compare(programs, TURNS, work=images, unit=unit, benchmark="train")
    table.print_records(title, records)


def _our_epoch(images: int, batch_size: int) -> Timed:
    """One epoch of our training."""
    rng = np.random.default_rng(0)
    pixels = rng.random((images, 32, 32, 3), dtype=np.float32)
    labels = rng.integers(0, CLASSES, images, dtype=np.int32)
    examples = Examples(*on_all_devices((pixels, labels)))
    transformation = ARMS["keras"].transformation(0.01, 0.9)
    few = jax.tree.map(lambda x: x[:2], examples)
    spec = TrainSpec(
        constant(transformation), batch_size, image_classification(cnn, CLASSES)
    )
    program = compile_program(spec, 1, Splits(examples, few, few))
    points = as_arrays([Point(0.01, 0.9, 0)])
    steps, epochs = steps_per_epoch(examples, batch_size), iter(range(1 + TURNS))

    def train(state: TrainState) -> TrainState:
        return program.train_steps(points, state, next(epochs), 0, steps, examples)

    return table.timed(train, program.start(points))


def _products() -> Timed:
    """An epoch's arithmetic as large matrix products, on all devices."""
    size, repetitions = 1024, 8

    @jax.jit
    def multiply(
        matrices: Float32[Array, "devices size size"],
    ) -> Float32[Array, "devices size size"]:
        return jax.lax.fori_loop(0, repetitions, lambda _, x: x @ matrices, matrices)

    matrices = jnp.ones((jax.device_count(), size, size)) / size
    sharding = NamedSharding(device_mesh(), PartitionSpec("data"))
    seconds = table.timed(multiply, jax.device_put(matrices, sharding))
    epochs = IMAGES * OPERATIONS / (2 * size**3 * repetitions * jax.device_count())
    return lambda: epochs * seconds()
