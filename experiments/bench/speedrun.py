"""The step of `speedrun`: ours in turn with PyTorch's, and with matrix products."""

from contextlib import ExitStack
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import table
from experiments.data.examples import Examples
from experiments.distributed.devices import on_all_devices
from experiments.distributed.matrix_products import matrix_products
from experiments.peers import process
from experiments.speedrun import recipe as recipes
from experiments.speedrun.recipe import Recipe
from experiments.speedrun.steps import compile_steps, initial_state
from experiments.training.step import TrainState

BATCH_SIZE = 1024
TURNS = 3
STEPS = 476  # of the whole recipe


def bench_speedrun(python: Path | None) -> None:
    """Measures, prints JSON lines to stdout and a table to stderr.

    Raises:
      UsageError: the peers' interpreter is missing or lacks PyTorch.
    """
    with ExitStack() as stack:
        peers = {}
        if python is not None:  # first: it may be missing
            start = process.start(python, "speedrun_pytorch.py", str(BATCH_SIZE))
            peer = stack.enter_context(start)
            peers[peer.greeting] = peer.timed("step")
        rate = matrix_products()
        programs = {
            f"optax_momentum on JAX {jax.__version__}": _our_step(),
            **peers,
            "0.36 PFLOP of matrix products, over 476": lambda: (
                recipes.OPERATIONS / rate() / STEPS
            ),
        }
        records = table.compare(
            programs,
            TURNS,
            work=dict.fromkeys(programs, BATCH_SIZE),
            unit="images_per_second",
            benchmark="speedrun",
        )
        table.print_records("a step of speedrun, 1,024 images", records)


def _our_step() -> table.Timed:
    """Times calls that each take one step on random images."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2 * BATCH_SIZE, 32, 32, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, 2 * BATCH_SIZE).astype(np.int32)
    train = Examples(*on_all_devices((pixels, labels)))
    length = recipes.length(2 * BATCH_SIZE, BATCH_SIZE, recipes.EPOCHS)
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    recipe = Recipe((32, 32, 3), 10, BATCH_SIZE, length, dtype)
    state = initial_state(recipe, 0, train)
    steps = compile_steps(recipe, train, state)(0)

    def step(state: TrainState) -> TrainState:
        return steps(state, 0, 0, 1)

    return table.timed(step, state)
