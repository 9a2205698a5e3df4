"""A program of `experiments/peers`, run in the environment of another library."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from experiments.records.config import UsageError

PROGRAMS = Path(__file__).parent


class PeerProcess(NamedTuple):
    """A program that is idle but for what it is asked."""

    greeting: str  # the first line that it printed: whose program it is
    ask: Callable[[str], str]  # a line ↦ the line with which it answers


class CannotRun(UsageError):
    """The program has ended, with the last line of its complaints as the reason."""


@contextmanager
def start(python: Path, program: str, *arguments: str) -> Iterator[PeerProcess]:
    """Starts a program and waits for its greeting; it ends with the context.

    Args:
      python: the environment's interpreter.
      program: a file of `experiments/peers`.
      *arguments: of its command line.

    Raises:
      UsageError: there is no such interpreter.
      CannotRun: the program ended where a line was due, there or when asked.
    """
    with tempfile.TemporaryFile("w+") as complaints:  # unlike a pipe, never full
        try:
            process = subprocess.Popen(
                [python, PROGRAMS / program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )
        except OSError as error:
            raise UsageError(
                f"--peers {python} is no Python interpreter: {error.strerror}."
            ) from None
        requests, answers = process.stdin, process.stdout
        assert requests and answers  # they are pipes

        def answer() -> str:
            line = answers.readline().strip()
            if not line:
                status = process.wait()
                complaints.seek(0)
                reason = complaints.read().strip().rpartition("\n")[2]
                raise CannotRun(
                    f"--peers {python} can't run {program}: "
                    f"{reason or f'it ended with status {status}.'}"
                )
            return line

        def ask(line: str) -> str:
            with suppress(BrokenPipeError):  # it has ended: the answer says why
                print(line, file=requests, flush=True)
            return answer()

        with process:
            try:
                yield PeerProcess(answer(), ask)
            finally:
                with suppress(BrokenPipeError):
                    requests.close()
