"""A small tree, and arrays of another library that fill it."""

import jax.numpy as jnp
import numpy as np

from optax_momentum.convert import LINEAR

LIKE = {"dense": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}
NAMES = {0: "dense/kernel", 1: ("dense", "bias")}
LAYOUT = {("dense", "kernel"): LINEAR}
ARRAYS = {
    0: np.arange(6, dtype=np.float32).reshape(3, 2),
    1: np.arange(7, 10, dtype=np.float32),
}
