"""Stochastic rounding: up or down at random, so that the mean is what was rounded."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np


def random_bits(
    seed: int, step: jax.Array, path: str, shape: tuple[int, ...]
) -> jax.Array:
    """32 bits for every element, of the seed, the step, the leaf's path and the place.

    A hash of these in place of `jax.random`: a few operations that are fused into
    the rounding, where the bits of a whole leaf would need memory of their own.
    """
    salt = np.uint32(zlib.crc32(f"{seed} {path}".encode()))
    place, size = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):
        along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        place, size = place + along * np.uint32(size % 2**32), size * shape[axis]
    return _hash(place ^ _hash(_hash(step.astype(jnp.uint32)) ^ salt))


def rounded_to_bfloat16(x: jax.Array, bits: jax.Array) -> jax.Array:
    """One of the two neighbours of each float32 in bfloat16; E of it is x.

    What is finite stays so: beyond the largest bfloat16 it is that.
    """
    whole = jax.lax.bitcast_convert_type(x, jnp.uint32)
    sign, size = whole & np.uint32(1 << 31), whole & np.uint32((1 << 31) - 1)
    # The lower 16 bits are the share of the upper neighbour: they carry as often.
    size = jnp.minimum(size + (bits >> np.uint32(16)), np.uint32(0x7F7FFFFF))
    upper = ((sign | size) >> np.uint32(16)).astype(jnp.uint16)
    finite = jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
    return jnp.where(jnp.isfinite(x), finite, x.astype(jnp.bfloat16))


def uniform(bits: jax.Array) -> jax.Array:
    """A float32 in [0, 1), of the upper 24 bits."""
    return (bits >> np.uint32(8)).astype(jnp.float32) * jnp.float32(2.0**-24)


def _hash(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every bit of x decides on every bit.

    The constants are `lowbias32` of Chris Wellons' search, skeeto/hash-prospector.
    """
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
