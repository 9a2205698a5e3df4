"""The random bits of a storage, and what the rounding makes of given ones."""

import jax
import jax.numpy as jnp
import numpy as np

from optax_momentum import storage
from optax_momentum._storage.rounding import random_bits, rounded_to_bfloat16
from optax_momentum._storage.stored import in_blocks


def test_bits_are_fair_and_uncorrelated():
    steps = jnp.arange(512)
    bits = jax.vmap(lambda step: random_bits(3, step, "['w']", (16, 64)))(steps)
    fair = np.asarray(bits)[..., None] >> np.arange(32) & 1
    size = fair[..., 0].size
    assert np.abs(fair.mean(axis=(0, 1, 2)) - 0.5).max() < 5 * 0.5 / size**0.5
    u = np.asarray(bits) / 2.0**32 - 0.5
    for shifted in (np.roll(u, 1, axis=axis) for axis in range(3)):
        assert abs((u * shifted).mean()) < 5 / 12 / size**0.5
    assert abs(np.square(u).mean() - 1 / 12) < 5 * (1 / 80) ** 0.5 / size**0.5


def test_int8_mean_over_evenly_spread_bits_is_the_number():
    x = jnp.asarray([*np.linspace(0, 0.999, 255), 1.0], jnp.float32)
    bits = (np.arange(4096, dtype=np.uint32) * 2 + 1) << 19
    blocks = jax.jit(jax.vmap(lambda b: in_blocks(x, jnp.full(256, b), 256)))(bits)
    mean = np.asarray(storage.value(blocks), np.float64).mean(axis=0)
    unit = np.where(x < 0.999, (1 + x) * (1 + x + 0.0158) / 254, 0.0158)
    assert (np.abs(mean - x) < unit / 3000).all()


def test_number_that_has_a_code_keeps_it_whatever_the_bits():
    """The compiler must not fuse the product that a code stands for with a sum."""
    x = jnp.asarray(np.random.default_rng(5).normal(size=4096), jnp.float32)
    store = jax.jit(lambda x, bits: in_blocks(x, jnp.full(4096, bits), 64))
    first = store(x, jnp.uint32(1 << 31))
    for bits in (0, 2**32 - 1):
        again = store(storage.value(first), jnp.uint32(bits))
        np.testing.assert_array_equal(again.codes, first.codes)
        np.testing.assert_array_equal(again.scales, first.scales)


def test_bfloat16_mean_over_all_bits_is_the_number():
    x = np.array([1.3, -2.7e-12, 5.1e30, 1 + 2**-9], np.float32)
    bits = jnp.arange(2**16, dtype=jnp.uint32)[:, None] << np.uint32(16)
    rounded = rounded_to_bfloat16(jnp.broadcast_to(x, (2**16, 4)), bits)
    mean = np.asarray(rounded, np.float64).mean(axis=0)
    np.testing.assert_allclose(mean, x, rtol=1e-9)
