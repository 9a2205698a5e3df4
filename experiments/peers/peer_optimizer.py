"""An optimizer that lives in another Python environment, stepped line by line."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.peers import peer_process
from experiments.peers.peer_process import PeerProcess
from experiments.records.config import UsageError
from optax_momentum.testing import Optimizer


class Peer(NamedTuple):
    """A library that answers: it names its version and builds its own SGD."""

    version: str
    build: Callable[..., Optimizer]  # the library's own options; raises what it refuses


class Refused(Exception):
    """The library's own error, as text."""


@contextmanager
def peer(python: Path, program: str) -> Iterator[Peer | None]:
    """Starts a peer's process; None where that environment has not got its library.

    Args:
      python: the environment's interpreter.
      program: a file of `experiments/peers`.

    Raises:
      UsageError: there is no such interpreter, or it is another program, or ended
        midway.
    """
    with ExitStack() as stack:
        process = None
        with suppress(peer_process.CannotRun):
            process = stack.enter_context(peer_process.start(python, program))
        yield process and Peer(_version(python, process), partial(_build, process))


def _version(python: Path, process: PeerProcess) -> str:
    """The library's, if it is our program that greets."""
    try:
        return json.loads(process.greeting)
    except ValueError:
        raise UsageError(
            f"--peers {python} is no Python interpreter: it answers "
            f"{process.greeting!r:.80}."
        ) from None


def _build(process: PeerProcess, **options: Any) -> Optimizer:
    def ask(**request: Any) -> np.ndarray:
        answer = json.loads(process.ask(json.dumps(request)))
        if isinstance(answer, str):
            raise Refused(answer)
        return np.asarray(answer, np.float64)

    def begin(start: np.ndarray) -> Callable[[np.ndarray, float], np.ndarray]:
        ask(options=options, start=start.tolist())
        return lambda g, rate: ask(gradient=g.tolist(), rate=rate)

    ask(options=options, start=[0.0])  # what it refuses, it refuses now
    return begin
