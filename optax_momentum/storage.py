"""How a momentum's memory is kept between steps: `ema(0.9, storage=storage.int8())`.

    storage      bytes a parameter   error of a store, A the largest |m| of a block
    None         the parameter's     the parameter's rounding, to nearest
    float32()    4                   ≤ 2⁻²⁴·|m|
    bfloat16()   2                   < 2⁻⁷·|m|, mean 0
    int8()       1.06                < 0.4% of A near 0, < 1.6% of A near A, mean 0

The recurrence runs in float32, or wider where gradients or parameters are: a leaf is
decoded, stepped and stored again before the next. Rounding to nearest would stall: an m
near its settled value moves by less than half a unit a step, and stays. Rounding up or
down at random, so that the mean is right, never does.

The random bits come from the seed, the state's step, the leaf's path and the place
in the leaf: nothing more is kept, and a run that is resumed goes on bit by bit as it
would have. Under `jax.shard_map` each device counts places in its own part.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optax_momentum._base.placement import stored_as
from optax_momentum._storage.rounding import random_bits, rounded_to_bfloat16
from optax_momentum._storage.stored import (
    Blocks,
    Parts,
    in_blocks,
    is_stored,
    value,
    values,
    zero_blocks,
)

__all__ = [
    "Blocks",
    "Parts",
    "Storage",
    "bfloat16",
    "float32",
    "int8",
    "value",
    "values",
]


class Storage(NamedTuple):
    """How a buffer is kept: two functions of one leaf. What is kept tells its `value`.

    `init` makes the zeros for a leaf of the params, an array or `ShapeDtypeStruct`, and
    places them as it is. `encode` stores an m of float32 or wider, of the state's step
    and the leaf's path. The two make the same types: an array, `Blocks`, or `Parts`.
    """

    init: Callable[[Any], Any]
    encode: Callable[[jax.Array, jax.Array, str], Any]


def float32() -> Storage:
    """Float32 whatever the parameters are, complex64 for complex ones.

    For bfloat16 parameters whose momentum is not to be rounded, at 4 bytes each; and
    for float64 parameters, to halve the buffer. Rounds to nearest.

    Returns:
      A `Storage`.

    >>> from optax_momentum import ema
    >>> ema(0.999, storage=float32()).init(jnp.ones(2, jnp.bfloat16)).buffer
    Array([0., 0.], dtype=float32)
    """

    def init(leaf: Any) -> jax.Array:
        return jnp.zeros_like(leaf, dtype=_single(leaf))

    return Storage(init, lambda m, step, path: m.astype(_single(m)))


def bfloat16(seed: int = 0) -> Storage:
    """Bfloat16, rounded up or down at random: 2 bytes a parameter, and no stall.

    The stored m is always one of the two neighbours of the exact one, and that itself
    where it is a bfloat16. The mean is exact: no error piles up. The standard deviation
    of m is at most (u/2)/√(1 − β²) for neighbours u apart, u ≤ 2⁻⁷·|m|: 0.9% of m at
    β = 0.9, 9% at 0.999. Infinity and NaN stay what they are; beyond the largest
    bfloat16, 3.39e38, what is finite becomes that.

    Args:
      seed: of the random bits. Runs of equal seeds round alike.

    Returns:
      A `Storage`. The buffer's leaves are bfloat16 arrays; those of complex parameters
      are `Parts`, real and imaginary.

    Raises:
      TypeError: seed is not an int.

    Differs from `optax.trace(accumulator_dtype=jnp.bfloat16)`, which rounds to nearest:
    of a constant gradient of 1 at β = 0.999 that buffer stops at 256 instead of 1000.

    >>> from optax_momentum import heavy_ball
    >>> tx = heavy_ball(0.5, storage=bfloat16())
    >>> gradient = jnp.full(4, 1.0 + 2**-9)  # a quarter of the way from 1 to 1 + 2⁻⁷
    >>> tx.update(gradient, tx.init(gradient))[1].buffer
    Array([1, 1.00781, 1, 1], dtype=bfloat16)

    References:
      Gupta, Agrawal, Gopalakrishnan and Narayanan 2015, arXiv:1502.02551, section 3.
    """
    _check_int("storage.bfloat16: seed", seed, "It seeds the rounding.")
    zeros = jnp.zeros_like
    return _stochastic(
        seed, lambda leaf: zeros(leaf, dtype=jnp.bfloat16), rounded_to_bfloat16
    )


def int8(block_size: int = 64, *, seed: int = 0, min_size: int = 4096) -> Storage:
    """8 bits, a float32 scale to a block, rounded at random: 1.06 bytes a parameter.

        m = A·k/(254 − |k|)      k = −127 … 127, A: the largest |m| of the block

    254 steps from −A to A, of 0.4% of A near 0 and of 1.6% near A: small values, of
    which there are most, are kept better than 8 bits at equal distances would. The
    stored m is one of the two neighbours of the exact one, at random such that the mean
    is exact; the largest of a block is kept to the last digit. The standard deviation
    of m is at most (u/2)/√(1 − β²) for neighbours u apart. So at β = 0.999 a small
    value beside a large one is drowned in noise, of 4% to 18% of A; at β = 0.9 that is
    0.5% to 1.8%.

    Args:
      block_size: how many values share a scale, or up to twice as many: a power of two
        of at least 8. A block spans the last axis, and where that is shorter the axes
        before it. So codes have the leaf's shape, and are sharded as it is.
      seed: of the random bits. Runs of equal seeds round alike.
      min_size: leaves of fewer elements stay float32: they need no saving, and biases
        and norms, which are such, are sensitive.

    Returns:
      A `Storage`. The buffer's leaves are `Blocks`; those of complex parameters are
      `Parts` of these, real and imaginary.

    NaN and infinity become NaN, in their own place alone.

    Raises:
      ValueError: block_size not a power of two ≥ 8, or min_size below 1.
      TypeError: an argument that is not an int.

    >>> from optax_momentum import ema
    >>> state = ema(0.9, storage=int8()).init({"w": jnp.ones((64, 128))})
    >>> jax.tree.map(lambda x: (x.dtype.name, x.shape), state.buffer["w"])
    Blocks(codes=('int8', (64, 128)), scales=('float32', (64, 2)))

    References:
      Dettmers, Lewis, Shleifer and Zettlemoyer 2022, arXiv:2110.02861, blocks.
    """
    _check_int("storage.int8: seed", seed, "It seeds the rounding.")
    _check_int("storage.int8: block_size", block_size, "It counts values: 64, say.")
    _check_int("storage.int8: min_size", min_size, "It counts a leaf's elements.")
    if block_size < 8 or block_size & (block_size - 1):
        raise ValueError(
            f"storage.int8: block_size must be a power of two of at least 8, got "
            f"{block_size}. So many values share a scale of 4 bytes; take 64 or 128."
        )
    if min_size < 1:
        raise ValueError(
            f"storage.int8: min_size must be at least 1, got {min_size}. Leaves of "
            "fewer elements stay float32; 1 stores all in 8 bits."
        )
    large = _stochastic(
        seed,
        partial(zero_blocks, block_size=block_size),
        partial(in_blocks, block_size=block_size),
    )
    small = float32()

    def of(leaf: Any) -> Storage:
        return small if math.prod(jnp.shape(leaf)) < min_size else large

    return Storage(
        lambda leaf: of(leaf).init(leaf),
        lambda m, step, path: of(m).encode(m, step, path),
    )


def store(
    storage: Storage | None, m: jax.Array, old: Any, step: jax.Array, path: Any
) -> Any:
    """m as it is kept, in the types and places of the `old` one.

    Raises:
      ValueError: `old` is not as this storage keeps it.
    """
    if storage is None and not is_stored(old):
        return stored_as(jnp.asarray(old), m)
    where = jax.tree_util.keystr(path)
    new = m if storage is None else storage.encode(m, step, where)
    if _described(new) != _described(old):
        raise ValueError(
            f"update: the buffer at updates{where} is {_described(old)}, this storage "
            f"makes it {_described(new)}. Build the optimizer with the storage that "
            "the state was made with, or move the state by `change_storage`."
        )
    return jax.tree.map(stored_as, jax.tree.map(jnp.asarray, old), new)


def _described(stored: Any) -> Any:
    return jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(jnp.shape(x))}", stored)


def _stochastic(
    seed: int,
    zeros: Callable[[Any], Any],
    rounded: Callable[[jax.Array, jax.Array], Any],
) -> Storage:
    """Stores each real array, and both parts of a complex one, rounded by its bits."""

    def init(leaf: Any) -> Any:
        if not jnp.iscomplexobj(leaf):
            return zeros(leaf)
        part = jnp.zeros_like(leaf, dtype=jnp.float32)
        return Parts(zeros(part), zeros(part))

    def encode(m: jax.Array, step: jax.Array, path: str) -> Any:
        if jnp.iscomplexobj(m):
            real, imag = jnp.real(m), jnp.imag(m)
            return Parts(
                encode(real, step, f"{path}.real"), encode(imag, step, f"{path}.imag")
            )
        bits = random_bits(seed, step, path, m.shape)
        return rounded(m.astype(jnp.float32), bits)

    return Storage(init, encode)


def _single(leaf: Any) -> Any:
    """Float32, or complex64 for what is complex."""
    return jnp.complex64 if jnp.iscomplexobj(leaf) else jnp.float32


def _check_int(name: str, given: Any, remedy: str) -> None:
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(
            f"{name} must be an int, got {given!r} of type {type(given).__name__}. "
            f"{remedy}"
        )
