"""Runs one of the `programs` in another library's Python environment."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from experiments.records.config import UsageError

PROGRAMS = Path(__file__).parent / "programs"


class PeerProcess(NamedTuple):
    """A running program, which answers each line that it gets with one line."""

    greeting: str  # the first line that it printed: its library and version
    ask: Callable[[str], str]  # sends a line and returns the answer

    def timed(self, request: str) -> Callable[[], float]:
        """Makes a request whenever it is called; the answer is the seconds it took."""
        return lambda: float(self.ask(request))


class CannotRun(UsageError):
    """The program has ended; the reason is the last line of its stderr."""


@contextmanager
def start(python: Path, program: str, *arguments: str) -> Iterator[PeerProcess]:
    """Starts one of the `programs`, waits for its greeting and ends it on leaving.

    Raises:
      UsageError: there is no such interpreter.
      CannotRun: the program ended before its greeting or before an answer.
    """
    with tempfile.TemporaryFile("w+") as stderr:  # unlike a pipe, it can't fill up
        try:
            process = subprocess.Popen(
                [python, PROGRAMS / program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        except OSError as error:
            message = f"--peers {python} is not a Python interpreter: {error.strerror}."
            raise UsageError(message) from None
        requests, answers = process.stdin, process.stdout
        assert requests and answers  # they are pipes

        def read_answer() -> str:
            line = answers.readline().strip()
            if not line:
                status = process.wait()
                stderr.seek(0)
                reason = stderr.read().strip().rpartition("\n")[2]
                raise CannotRun(
                    f"--peers {python} can't run {program}: "
                    f"{reason or f'it ended with status {status}.'}"
                )
            return line

        def ask(line: str) -> str:
            with suppress(BrokenPipeError):  # it has ended; reading the answer says why
                print(line, file=requests, flush=True)
            return read_answer()

        with process:
            try:
                yield PeerProcess(read_answer(), ask)
            finally:
                with suppress(BrokenPipeError):
                    requests.close()
