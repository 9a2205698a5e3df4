"""Signals that ask a run to stop: heard between two calls of the compiled program."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):
    """A run that was asked to stop has stopped; `signal` says by which."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.signal = number


@contextmanager
def awaited() -> Iterator[Callable[[], int | None]]:
    """Defers SIGTERM and the first SIGINT; yields who tells which has come, or None.

    A second SIGINT stops at once, as `KeyboardInterrupt`; what came after the last time
    of asking comes when the context ends. Only the main thread of a process hears
    signals: in any other nothing is deferred.
    """
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in heard:
            raise KeyboardInterrupt
        heard.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    numbers = signal.SIGTERM, signal.SIGINT
    before = [signal.signal(number, hear) for number in numbers]
    try:
        yield lambda: heard[0] if heard else None
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if heard:
        signal.raise_signal(heard[0])
