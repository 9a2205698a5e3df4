"""`QuickJit` computes what `jax.jit` computes, compiled at another level."""

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
    """The compiler options that each program gets."""
    passed, compile = [], jax.jit

    def jit(function, compiler_options=None, **rest):
        passed.append(compiler_options)
        return compile(function, compiler_options=compiler_options, **rest)

    monkeypatch.setattr(jax, "jit", jit)
    return passed


def test_called_lowered_and_traced_it_computes_the_function():
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


def test_a_donated_argument_is_deleted():
    x = jnp.ones(3)
    QuickJit(lambda x: x + 1, donate_argnums=0)(x)
    assert x.is_deleted()


def test_only_a_cpu_gets_the_level_and_only_at_the_first_call(options, monkeypatch):
    on_cpu, elsewhere = QuickJit(jnp.sin), QuickJit(jnp.cos)
    assert options == [None, None]
    on_cpu(jnp.ones(2))
    on_cpu(jnp.ones(3))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    elsewhere(jnp.ones(2))
    assert options[2:] == [{"xla_backend_optimization_level": 1}, None]
