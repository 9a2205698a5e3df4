"""A `jax.jit` that counts its traces, and so its compilations."""

from collections.abc import Callable
from typing import Any

import jax


class CountingJit:
    def __init__(self, function: Callable):
        self.traces = 0

        def traced(*args):
            self.traces += 1
            return function(*args)

        self.jitted = jax.jit(traced)

    def __call__(self, *args) -> Any:
        return self.jitted(*args)
