"""Stochastic rounding: up or down at random, such that the mean is the exact value."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np


def random_bits(
    seed: int, step: jax.Array, path: str, shape: tuple[int, ...]
) -> jax.Array:
    """Returns 32 random bits for every element, as uint32.

    They are a hash of the seed, the step, the leaf's path and the element's index. A
    hash is a few operations that XLA fuses into the rounding; the bits of `jax.random`
    would be a whole leaf in memory.
    """
    salt = np.uint32(zlib.crc32(f"{seed} {path}".encode()))
    index, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        position = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        index = index + position * np.uint32(stride % 2**32)
        stride *= shape[axis]
    return _hash(index ^ _hash(_hash(step.astype(jnp.uint32)) ^ salt))


def round_to_bfloat16(x: jax.Array, bits: jax.Array) -> jax.Array:
    """Rounds each float32 to one of its two bfloat16 neighbors, with mean x.

    Finite values stay finite: those beyond the largest bfloat16 become that.
    """
    pattern = jax.lax.bitcast_convert_type(x, jnp.uint32)
    sign = pattern & np.uint32(1 << 31)
    magnitude = pattern & np.uint32((1 << 31) - 1)
    # The lower 16 bits are the fraction of the way to the neighbor above. Adding 16
    # random bits carries into the upper half with exactly that probability.
    magnitude = magnitude + (bits >> np.uint32(16))
    magnitude = jnp.minimum(magnitude, np.uint32(0x7F7FFFFF))
    upper = ((sign | magnitude) >> np.uint32(16)).astype(jnp.uint16)
    finite = jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
    return jnp.where(jnp.isfinite(x), finite, x.astype(jnp.bfloat16))


def uniform_from_bits(bits: jax.Array) -> jax.Array:
    """Returns float32 numbers in [0, 1), made of the upper 24 bits."""
    return (bits >> np.uint32(8)).astype(jnp.float32) * jnp.float32(2.0**-24)


def _hash(x: jax.Array) -> jax.Array:
    """Mixes the bits of x: a bijection in which every bit of x affects all bits.

    The constants are those of `lowbias32`, found by Chris Wellons'
    skeeto/hash-prospector.
    """
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
