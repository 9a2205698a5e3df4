"""An optimizer that lives in another Python environment, stepped over a pipe."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.config import UsageError
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
      UsageError: there is no such interpreter.
    """
    try:
        process = subprocess.Popen(
            [python, Path(__file__).parent / "peers" / program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError as error:
        raise UsageError(
            f"--peers {python} is no Python interpreter: {error.strerror}."
        ) from None
    with process:
        requests, answers = process.stdin, process.stdout
        assert requests and answers  # they are pipes

        def ask(**request: Any) -> np.ndarray:
            requests.write(f"{json.dumps(request)}\n")
            requests.flush()
            answer = json.loads(answers.readline())
            if isinstance(answer, str):
                raise Refused(answer)
            return np.asarray(answer, np.float64)

        def build(**options: Any) -> Optimizer:
            ask(options=options, start=[0.0])  # what it refuses, it refuses now

            def begin(start: np.ndarray) -> Callable[[np.ndarray, float], np.ndarray]:
                ask(options=options, start=start.tolist())
                return lambda g, rate: ask(gradient=g.tolist(), rate=rate)

            return begin

        version = answers.readline()
        yield Peer(json.loads(version), build) if version else None
        requests.close()
