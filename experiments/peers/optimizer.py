"""Another library's SGD, stepped in its own process."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from experiments.peers import process
from experiments.peers.process import PeerProcess
from experiments.records.config import JSON, UsageError
from optax_momentum.testing import Optimizer

Parameters = Float64[np.ndarray, " parameters"]


class PeerLibrary(NamedTuple):
    """A library in another environment."""

    version: str
    build: Callable[..., Optimizer]  # takes the options of the library's SGD


class Refused(Exception):
    """The text of an error that the library raised."""


@contextmanager
def start_library(python: Path, program: str) -> Iterator[PeerLibrary | None]:
    """Starts a library's process; yields None if the environment lacks the library.

    Raises:
      UsageError: `python` is missing or no interpreter, or the process ended early.
    """
    with ExitStack() as stack:
        peer = None
        with suppress(process.CannotRun):
            peer = stack.enter_context(process.start(python, program))
        yield peer and PeerLibrary(_version(python, peer), partial(_build, peer))


def _version(python: Path, peer: PeerProcess) -> str:
    """The library's version, which our program prints first."""
    try:
        return json.loads(peer.greeting)
    except ValueError:
        raise UsageError(
            f"--peers {python} is not a Python interpreter: it answers "
            f"{peer.greeting!r:.80}."
        ) from None


def _build(peer: PeerProcess, **options: JSON) -> Optimizer:
    def ask(**request: JSON) -> Parameters:
        answer = json.loads(peer.ask(json.dumps(request)))
        if isinstance(answer, str):
            raise Refused(answer)
        return np.asarray(answer, np.float64)

    def init(params: Parameters) -> Callable[[Parameters, float], Parameters]:
        ask(options=options, start=params.tolist())
        return lambda gradient, rate: ask(gradient=gradient.tolist(), rate=rate)

    ask(options=options, start=[0.0])  # raises now if the library refuses the options
    return init
