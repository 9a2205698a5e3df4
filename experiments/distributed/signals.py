"""What ends a run early; SIGTERM and SIGINT are deferred so that it is saved first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):
    """A run has stopped because of a signal, whose number is `signal`."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.signal = number


class ProcessLost(Exception):
    """Another process has ended unexpectedly."""


@contextmanager
def defer_signals() -> Iterator[Callable[[], int | None]]:
    """Defers SIGTERM and the first SIGINT; yields a function that returns the signal.

    The function returns the number of the first signal received, or None. A second
    SIGINT raises `KeyboardInterrupt` at once. A received signal is raised again when
    the context ends normally. Python handles signals in the main thread only: in any
    other thread, nothing is deferred.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in received:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    numbers = signal.SIGTERM, signal.SIGINT
    previous = [signal.signal(number, handle) for number in numbers]
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])
