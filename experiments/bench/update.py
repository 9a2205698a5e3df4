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

    Args:
      peers: Python interpreter of an environment with PyTorch.

    Raises:
      UsageError: that interpreter is missing or lacks PyTorch.
    """
    title = f"the update, GB/s at {BYTES} bytes per parameter"
    table.print_records(
        title, (record for case in CASES for record in _measure(case, peers))
    )


def compile_step(transformation: optax.GradientTransformation, params: Any) -> Any:
    """Compiles an update that overwrites the parameters and the state.

    Args:
      transformation: the optimizer, learning rate included.
      params: arrays, or their shapes and dtypes; the gradients have the same.

    Returns:
      The compiled function (params, state, gradients) ↦ (params, state).
    """

    def step(params: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
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
            arguments = (case.leaves, *case.shape)
            peer = stack.enter_context(
                process.start(peers, "update_pytorch.py", *map(str, arguments))
            )
            for kind in ("fused", "foreach"):
                peer_programs[f"{peer.greeting}, {kind}"] = _peer_steps(
                    peer, kind, case
                )
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
    arrange: Callable[[Any], Any],
) -> Timed:
    """The steps of a turn in JAX; `arrange` may pack the list of parameters."""
    params, gradients = (
        arrange([jnp.full(case.shape, value) for _ in range(case.leaves)])
        for value in (1.0, 0.5)
    )
    state = transformation.init(params)
    step = compile_step(transformation, params)

    def take_steps(steps: int) -> None:
        nonlocal params, state
        for _ in range(steps):
            params, state = step(params, state, gradients)
        jax.block_until_ready((params, state))

    return partial(_seconds, take_steps, case.steps)


def _peer_steps(peer: process.PeerProcess, kind: str, case: UpdateCase) -> Timed:
    """The steps of a turn in PyTorch, which times them itself."""
    return lambda: float(peer.ask(f"{kind} {case.steps}"))


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
