"""Standard output and error that may be lost without ending the command."""

import io
import os
import sys
from errno import EPIPE
from typing import Any


class LastingStream(io.RawIOBase):
    """Writes to a file descriptor until that fails, and drops everything after it.

    What a command writes into its directory matters more than what it prints, so a
    full disk behind `> log`, or `| head` that ends, doesn't stop it.
    """

    def __init__(self, descriptor: int, name: str):
        self._descriptor, self._name = descriptor, name
        self.error: OSError | None = None  # the first one

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        """Writes, and reports the first failure in one line on standard error."""
        if self.error is None:
            try:
                return os.write(self._descriptor, content)
            except OSError as error:
                self.error = error
                if self._name != "standard error":
                    line = f"{self._name} is lost ({error.strerror}); continuing."
                    print(line, file=sys.stderr, flush=True)
        return len(content)


def replace_streams() -> LastingStream:
    """Makes `sys.stdout` and `sys.stderr` lasting; returns what is below the first."""
    streams = LastingStream(1, "standard output"), LastingStream(2, "standard error")
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        previous = getattr(sys, name)
        if not isinstance(previous, io.TextIOWrapper):
            continue  # closed by the caller, or somebody else's
        buffered = io.BufferedWriter(stream)
        lasting = io.TextIOWrapper(
            buffered,
            encoding=previous.encoding,
            errors=previous.errors,
            line_buffering=previous.line_buffering or name == "stderr",
        )
        setattr(sys, name, lasting)
    return streams[0]


def status_of(stream: LastingStream) -> int:
    """1 if what was printed is lost; 0 also where a reader such as `head` left."""
    sys.stdout.flush()
    return int(stream.error is not None and stream.error.errno != EPIPE)
