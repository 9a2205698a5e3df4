"""The speed of the update alone, in GB/s: ours, Optax's, PyTorch's, the machine's."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from experiments.bench import table
from experiments.bench.table import Timed
from experiments.peers import process
from optax_momentum import pack, sgd

BYTES = 20  # per float32 parameter and step: read g, θ and m, write θ and m
STREAM = "a += b, at 12 bytes"
TURNS = 9
LEARNING_RATE, BETA = 1e-3, 0.9


class UpdateCase(NamedTuple):
    """Parameters of one shape, and how long a turn steps them."""

    leaves: int
    shape: tuple[int, ...]
    steps: int  # in one turn

    @property
    def parameters(self) -> int:
        return self.leaves * math.prod(self.shape)

    def __str__(self) -> str:
        leaves = "1 leaf" if self.leaves == 1 else f"{self.leaves} leaves"
        return f"{leaves} of {'x'.join(map(str, self.shape))}"


CASES = (
    UpdateCase(1, (50_000_000,), 2),
    UpdateCase(200, (512, 512), 2),
    UpdateCase(1000, (64, 64), 10),
)


def bench_update(peers: Path | None) -> None:
    """Measures each case, prints JSON lines to stdout and a table to stderr.

    Raises:
      UsageError: the peers' interpreter is missing or lacks PyTorch.
    """
    title = f"the update, GB/s at {BYTES} bytes per parameter"
    records = (record for case in CASES for record in _measure(case, peers))
    table.print_records(title, records)


def compile_step(transformation: optax.GradientTransformation, params: PyTree) -> Any:
    """Compiles (params, state, gradients) ↦ (params, state), overwriting the first two.

    `transformation` includes the learning rate; only shapes and dtypes of `params` are
    used.
    """

    def step(params: PyTree, state: PyTree, gradients: PyTree) -> tuple[PyTree, PyTree]:
        updates, state = transformation.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(transformation.init, params)
    jitted = jax.jit(step, donate_argnums=(0, 1))
    return jitted.lower(params, state, params).compile()


def _measure(case: UpdateCase, peers: Path | None) -> Iterator[Mapping[str, object]]:
    """The records of one case, whose programs run in turn."""
    with ExitStack() as stack:
        peer_programs = {}
        if peers is not None:  # first: they may be missing
            arguments = map(str, (case.leaves, *case.shape))
            start = process.start(peers, "update_pytorch.py", *arguments)
            peer = stack.enter_context(start)
            for kind in ("fused", "foreach"):
                steps = peer.timed(f"{kind} {case.steps}")
                peer_programs[f"{peer.greeting}, {kind}"] = steps
        ours, theirs = sgd(LEARNING_RATE, BETA), optax.sgd(LEARNING_RATE, BETA)
        programs = {
            "optax_momentum": _jax_steps(ours, case, lambda tree: tree),
            "optax_momentum, packed": _jax_steps(ours, case, pack),
            f"Optax {optax.__version__}": _jax_steps(theirs, case, lambda tree: tree),
            **peer_programs,
            STREAM: _streaming(case),
        }
        gigabytes = case.parameters * case.steps / 1e9  # at one byte per parameter
        work = {name: BYTES * gigabytes for name in programs}
        work[STREAM] = 12 * gigabytes
        labels = {"benchmark": "update", "case": str(case)}
        yield from table.compare(programs, TURNS, work=work, unit="GB_per_s", **labels)


def _jax_steps(
    transformation: optax.GradientTransformation,
    case: UpdateCase,
    arrange: Callable[[PyTree], PyTree],
) -> Timed:
    """The steps of a turn in JAX; `arrange` may pack the list of parameters."""
    leaves = range(case.leaves)
    params = arrange([jnp.full(case.shape, 1.0) for _ in leaves])
    gradients = arrange([jnp.full(case.shape, 0.5) for _ in leaves])
    state = transformation.init(params)
    step = compile_step(transformation, params)

    def take_steps(steps: int) -> None:
        nonlocal params, state
        for _ in range(steps):
            params, state = step(params, state, gradients)
        jax.block_until_ready((params, state))

    return partial(_seconds, take_steps, case.steps)


def _streaming(case: UpdateCase) -> Timed:
    """As many in-place sums of two vectors with as many elements."""
    a, b = (jnp.full(case.parameters, value) for value in (1.0, 0.5))
    add = jax.jit(lambda a, b: a + b, donate_argnums=0)

    def take_steps(steps: int) -> None:
        nonlocal a
        for _ in range(steps):
            a = add(a, b)
        jax.block_until_ready(a)

    return partial(_seconds, take_steps, case.steps)


def _seconds(take_steps: Callable[[int], None], steps: int) -> float:
    """The seconds that the steps take, after one that wakes the threads."""
    take_steps(1)
    start = time.perf_counter()
    take_steps(steps)
    return time.perf_counter() - start
