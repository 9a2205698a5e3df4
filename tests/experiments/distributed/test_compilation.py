"""Functions that are compiled in less time, and computed as by `jax.jit`."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.distributed.compilation import QuickJit


@partial(QuickJit, static_argnums=0)
def shifted(by, x):
    return jnp.sin(x) + by


@pytest.fixture
def options(monkeypatch):
    """What each program is compiled with."""
    seen, compile = [], jax.jit

    def jit(function, compiler_options=None, **rest):
        seen.append(compiler_options)
        return compile(function, compiler_options=compiler_options, **rest)

    monkeypatch.setattr(jax, "jit", jit)
    return seen


def test_alone_traced_and_lowered_it_computes_what_the_function_does():
    x = np.array([0.3, 1.7], np.float32)
    want: Any = jnp.sin(x) + 2
    for got in (
        shifted(2, x),
        shifted.lower(2, x).compile()(x),
        jax.jit(lambda x: shifted(2, x))(x),
        jax.vmap(lambda x: shifted(2, x))(x),
        jax.jvp(partial(shifted, 2), (x,), (x,))[0],
    ):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_memory_that_it_may_take_over_it_takes():
    x = jnp.ones(3)
    QuickJit(lambda x: x + 1, donate_argnums=0)(x)
    assert x.is_deleted()


def test_only_a_cpu_is_told_the_level_and_nobody_before_the_first_call(
    options, monkeypatch
):
    on_cpu, elsewhere = QuickJit(jnp.sin), QuickJit(jnp.cos)
    assert options == [None, None]
    on_cpu(jnp.ones(2))
    on_cpu(jnp.ones(3))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    elsewhere(jnp.ones(2))
    assert options[2:] == [{"xla_backend_optimization_level": 1}, None]
