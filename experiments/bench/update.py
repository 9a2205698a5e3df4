"""The update alone, in GB/s: ours, Optax's, PyTorch's and what the machine can do."""

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
from experiments.peers import peer_process
from optax_momentum import pack, sgd

BYTES = 20  # a float32 parameter and step: read g, θ and m, write θ and m
STREAM = "a += b, at 12 bytes"
TURNS = 9
LEARNING_RATE, BETA = 1e-3, 0.9


class Case(NamedTuple):
    """Parameters of one shape."""

    leaves: int
    shape: tuple[int, ...]
    steps: int  # measured together, in a turn

    @property
    def parameters(self) -> int:
        return self.leaves * math.prod(self.shape)

    def __str__(self) -> str:
        leaves = "1 leaf" if self.leaves == 1 else f"{self.leaves} leaves"
        return f"{leaves} of {'x'.join(map(str, self.shape))}"


CASES = (
    Case(1, (50_000_000,), 2),
    Case(200, (512, 512), 2),
    Case(1000, (64, 64), 10),
)


def bench_update(peers: Path | None) -> None:
    """Measures each case, prints JSON lines to stdout and a table to stderr.

    Args:
      peers: Python interpreter of an environment with PyTorch.

    Raises:
      UsageError: that interpreter is missing or lacks PyTorch.
    """
    title = f"the update, GB/s at {BYTES} bytes a parameter"
    table.print_records(
        title, (record for case in CASES for record in _measure(case, peers))
    )


def compile_step(transformation: optax.GradientTransformation, params: Any) -> Any:
    """The whole update of such parameters, which it overwrites, compiled.

    Args:
      transformation: makes the updates that are applied.
      params: arrays, or their shapes and dtypes; the gradients are like them.

    Returns:
      The compiled function (params, state, gradients) ↦ (params, state).
    """

    def step(params: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
        updates, state = transformation.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(transformation.init, params)
    jitted = jax.jit(step, donate_argnums=(0, 1))
    return jitted.lower(params, state, params).compile()


def _measure(case: Case, peers: Path | None) -> Iterator[Mapping[str, object]]:
    """The records of one case, all its programs taken in turn."""
    with ExitStack() as stack:
        theirs = {}
        if peers is not None:  # first, as they may be refused
            arguments = (case.leaves, *case.shape)
            peer = stack.enter_context(
                peer_process.start(peers, "update_pytorch.py", *map(str, arguments))
            )
            for kind in ("fused", "foreach"):
                theirs[f"{peer.greeting}, {kind}"] = _their_steps(peer, kind, case)
        ours, optaxs = sgd(LEARNING_RATE, BETA), optax.sgd(LEARNING_RATE, BETA)
        programs = {
            "optax_momentum": _jax_steps(ours, case, lambda tree: tree),
            "optax_momentum, packed": _jax_steps(ours, case, pack),
            f"Optax {optax.__version__}": _jax_steps(optaxs, case, lambda tree: tree),
            **theirs,
            STREAM: _streaming(case),
        }
        seconds = table.seconds_in_turn(programs, TURNS)
    moved = dict.fromkeys(programs, BYTES) | {STREAM: 12}
    rates = {
        name: [moved[name] * case.parameters * case.steps / s / 1e9 for s in own]
        for name, own in seconds.items()
    }
    yield from table.compared(
        rates, unit="GB_per_s", benchmark="update", case=str(case)
    )


def _jax_steps(
    transformation: optax.GradientTransformation,
    case: Case,
    arranged: Callable[[Any], Any],
) -> Callable[[], float]:
    """The steps of a turn in JAX, of a list of parameters or what is made of it."""
    params, gradients = (
        arranged([jnp.full(case.shape, value) for _ in range(case.leaves)])
        for value in (1.0, 0.5)
    )
    state = transformation.init(params)
    step = compile_step(transformation, params)

    def advance(steps: int) -> None:
        nonlocal params, state
        for _ in range(steps):
            params, state = step(params, state, gradients)
        jax.block_until_ready((params, state))

    return partial(_seconds, advance, case.steps)


def _their_steps(
    peer: peer_process.PeerProcess, kind: str, case: Case
) -> Callable[[], float]:
    """The same of PyTorch, which measures it itself."""
    return lambda: float(peer.ask(f"{kind} {case.steps}"))


def _streaming(case: Case) -> Callable[[], float]:
    """As many sums in place of two vectors of that many parameters."""
    a, b = (jnp.full(case.parameters, value) for value in (1.0, 0.5))
    add = jax.jit(lambda a, b: a + b, donate_argnums=0)

    def advance(steps: int) -> None:
        nonlocal a
        for _ in range(steps):
            a = add(a, b)
        jax.block_until_ready(a)

    return partial(_seconds, advance, case.steps)


def _seconds(advance: Callable[[int], None], steps: int) -> float:
    """So long take so many steps, after one that wakes the threads up."""
    advance(1)
    start = time.perf_counter()
    advance(steps)
    return time.perf_counter() - start
