"""`jax.jit` with a cheaper optimization level on CPUs."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
from jax.core import Tracer
from jaxtyping import PyTree


class QuickJit:
    """A function jitted as by `jax.jit`, but compiled at LLVM -O1 on a CPU.

    XLA's default for CPUs, -O3, takes up to four times as long to compile and gives
    programs that are no faster: see docs/performance.md.
    """

    def __init__(self, function: Callable[..., PyTree], **options: Any):
        self._function, self._options = function, options
        self._inlined = jax.jit(function, **options)
        self._standalone = cache(self._jit)  # the devices are known at the first call

    def __call__(self, *arguments: PyTree) -> PyTree:
        leaves = jax.tree.leaves(arguments)
        # JAX accepts compiler options only for the outermost jitted function.
        traced = any(isinstance(leaf, Tracer) for leaf in leaves)
        return (self._inlined if traced else self._standalone())(*arguments)

    def lower(self, *arguments: PyTree) -> jax.stages.Lowered:
        return self._standalone().lower(*arguments)

    def _jit(self) -> jax.stages.Wrapped:
        on_cpu = jax.default_backend() == "cpu"
        compiler_options = {"xla_backend_optimization_level": 1} if on_cpu else None
        options = {**self._options, "compiler_options": compiler_options}
        return jax.jit(self._function, **options)


def memory_of(compiled: Any) -> int:
    """Bytes that a compiled program takes on each device, donated ones counted once."""
    sizes = compiled.memory_analysis()
    outputs = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return sizes.argument_size_in_bytes + outputs + sizes.temp_size_in_bytes
