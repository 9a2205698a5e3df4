"""Layers of networks: their values and gradients, to be compared."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


def normal(seed, shape):
    """Standard normal numbers, float64."""
    return np.random.default_rng(seed).standard_normal(shape)


@partial(jax.jit, static_argnums=0)
def value_and_gradients(function, *operands):
    """The result and all gradients, for one fixed random cotangent."""
    result, pullback = jax.vjp(function, *operands)
    cotangents = [
        jnp.asarray(normal(9, y.shape), y.dtype) for y in jax.tree.leaves(result)
    ]
    cotangent = jax.tree.unflatten(jax.tree.structure(result), cotangents)
    return jax.tree.leaves((result, pullback(cotangent)))


def in_one_program(ours, reference, *operands):
    """Values and gradients of both functions, which compile together."""

    @jax.jit
    def both(*operands):
        return [value_and_gradients(f, *operands) for f in (ours, reference)]

    return both(*operands)


def assert_close(ours, reference, tolerance):
    """Fails unless all are equal to `tolerance` times the reference's largest value."""
    for a, b in zip(ours, reference, strict=True):
        assert a.dtype == b.dtype
        largest = np.abs(b).max(initial=0)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * largest)
