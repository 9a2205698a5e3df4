"""The norm of a tree, summed so widely that half-precision leaves don't overflow."""

import jax
import jax.numpy as jnp
import optax

from optax_momentum._base.scalars import common_dtype


def squared_norm(tree: optax.Updates) -> jax.Array:
    """Returns Σ|x|² over all float and complex leaves, summed in float32 or wider."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    moduli = [jnp.abs(x) for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
    dtype = common_dtype(jnp.float32, *(modulus.dtype for modulus in moduli))
    squares = [jnp.sum(jnp.square(modulus.astype(dtype))) for modulus in moduli]
    return sum(squares, jnp.zeros((), dtype))
