"""Variables with which JAX can't start are named in one line."""

import jax
import pytest
from support.usage_errors import usage_error

from experiments.distributed.environment import find_devices, import_jax


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AssertionError(), "it finds no such device"),  # JAX_PLATFORMS=cuda, no GPU
        (RuntimeError("Unknown\nbackend 'cpuu'."), "Unknown backend 'cpuu'"),
    ],
)
def test_a_platform_that_is_missing_is_named(monkeypatch, error, reason):
    def fail():
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    assert usage_error("", find_devices) == (
        f"JAX_PLATFORMS=cpu: JAX can't start its devices: {reason}. Set JAX_PLATFORMS "
        "to cpu, or unset it to take what there is."
    )


@pytest.mark.slow
def test_flags_that_xla_refuses_are_named(monkeypatch):
    """XLA ends the process that it refuses them in, which must not be this one."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_no_such_flag=1")
    assert usage_error("", import_jax) == (
        "XLA refuses XLA_FLAGS=--xla_no_such_flag=1: Unknown flag in XLA_FLAGS: "
        "--xla_no_such_flag=1. Correct or unset the variable."
    )
