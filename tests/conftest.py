"""Strict mode for every test: two CPU devices, no silent promotion or broadcasting."""

import os

# Set before JAX starts: tests never depend on an accelerator that happens to be there.
os.environ["JAX_PLATFORMS"] = "cpu"

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
