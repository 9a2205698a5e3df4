"""Programs that XLA compiles in less time and a CPU runs as fast."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
from jax.core import Tracer


class Jitted:
    """A function as `jax.jit` makes it, but for the level of LLVM's optimization.

    Its third level, XLA's default for CPUs, takes up to four times as long as the first
    and gives programs that are no faster: see docs/performance.md.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self._function, self._options = function, options
        self._within = jax.jit(function, **options)
        self._alone = cache(self._of_its_own)  # the first call knows the devices

    def __call__(self, *arguments: Any) -> Any:
        leaves = jax.tree.leaves(arguments)
        # What encloses the function decides how it is compiled: JAX takes no options.
        traced = any(isinstance(leaf, Tracer) for leaf in leaves)
        return (self._within if traced else self._alone())(*arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        return self._alone().lower(*arguments)

    def _of_its_own(self) -> Any:
        quick = {"xla_backend_optimization_level": 1}
        on_cpu = jax.default_backend() == "cpu"
        options = {**self._options, "compiler_options": quick if on_cpu else None}
        return jax.jit(self._function, **options)
