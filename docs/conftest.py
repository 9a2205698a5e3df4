"""The documents run as their readers run them: under JAX's default promotion."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX starts: outputs are those of a CPU

import jax
import pytest

collect_ignore_glob = ["*.py"]  # this file is no module with doctests


@pytest.fixture(autouse=True)
def default_promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
