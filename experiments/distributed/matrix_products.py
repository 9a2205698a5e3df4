"""The rate of the devices' matrix products, with which training is compared."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float32

from experiments.distributed.devices import device_mesh

_SIZE, _REPETITIONS = 1024, 8


def matrix_products() -> Callable[[], float]:
    """Compiles products of 1024×1024 float32 matrices on all devices.

    Returns:
      A function that multiplies once and returns the operations a second, of which a
      product has 2·1024³.
    """

    @jax.jit
    def multiply(
        matrices: Float32[jax.Array, "devices size size"],
    ) -> Float32[jax.Array, "devices size size"]:
        return jax.lax.fori_loop(0, _REPETITIONS, lambda _, x: x @ matrices, matrices)

    devices = jax.device_count()
    matrices = jnp.ones((devices, _SIZE, _SIZE), jnp.float32) / _SIZE
    sharding = NamedSharding(device_mesh(), PartitionSpec("data"))
    matrices = jax.device_put(matrices, sharding)
    jax.block_until_ready(multiply(matrices))

    def rate() -> float:
        start = time.perf_counter()
        jax.block_until_ready(multiply(matrices))
        seconds = time.perf_counter() - start
        return 2 * _SIZE**3 * _REPETITIONS * devices / seconds

    return rate
