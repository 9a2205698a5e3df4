"""How to store momentum buffers between steps: `ema(0.9, storage=storage.int8())`.

    storage      bytes per parameter  rounding error, A = largest |m| in a block
    None         the parameter's      that of the parameter's dtype, to nearest
    float32()    4                    ≤ 2⁻²⁴·|m|, to nearest
    bfloat16()   2                    < 2⁻⁷·|m|, mean 0
    int8()       1.06                 < 0.4% of A near 0, < 1.6% of A near A, mean 0

Each leaf is decoded, stepped in float32 or wider, and encoded again before the next
leaf. Rounding to nearest in a narrow dtype would stall: near its settled value, m moves
by less than half a unit per step, which rounding undoes. `bfloat16` and `int8`
therefore round stochastically, up or down at random such that the mean is exact.

The random bits are a hash of the seed, the state's step, the leaf's path and the
element's index in the leaf. So no random state is stored, and a resumed run continues
bit for bit like an uninterrupted one. Under `jax.shard_map`, each device counts the
elements of its own shard.

A buffer in 8 bits has two arrays for each parameter. To map such a state together with
a tree that has one entry for each parameter, such as partition specs, take each pair as
one leaf: `optax.tree.map_params(optimizer, place, state, specs, is_leaf=is_stored)`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from optax_momentum._base.placement import conform_to
from optax_momentum._storage.rounding import random_bits, round_to_bfloat16
from optax_momentum._storage.stored import (
    Blocks,
    Parts,
    Stored,
    is_stored,
    quantize_in_blocks,
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
    "is_stored",
    "value",
    "values",
]


class Encode(Protocol):
    """A function that encodes one leaf of a buffer."""

    def __call__(self, m: jax.Array, step: jax.Array, path: str) -> Any:
        """Encodes m.

        Args:
          m: the leaf of the buffer, in float32 or wider.
          step: the state's step, an int32 scalar.
          path: the leaf's path in the params.
        """
        ...


class Storage(NamedTuple):
    """How to store a buffer: two functions of one leaf. `value` decodes the result.

    For the same leaf, both return the same types: an array, `Blocks`, or `Parts`.

    Attributes:
      init: maps a leaf of the params, an array or `ShapeDtypeStruct`, to encoded zeros
        with its sharding.
      encode: encodes one leaf of the buffer after a step.
    """

    init: Callable[[jax.Array | jax.ShapeDtypeStruct], Any]
    encode: Encode


def float32() -> Storage:
    """Stores m in float32, or complex64 if complex, whatever the parameters' dtype.

    It keeps the momentum of bfloat16 parameters at full precision, and halves the
    buffer of float64 parameters. Rounds to nearest.

    Returns:
      A `Storage`.

    >>> from optax_momentum import ema
    >>> ema(0.999, storage=float32()).init(jnp.ones(2, jnp.bfloat16)).buffer
    Array([0., 0.], dtype=float32)
    """

    def init(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.zeros_like(leaf, dtype=_single_precision(leaf))

    return Storage(init, lambda m, step, path: m.astype(_single_precision(m)))


def bfloat16(seed: int = 0) -> Storage:
    """Stores m in bfloat16 with stochastic rounding: 2 bytes per parameter, no stall.

    The stored value is always one of the two bfloat16 neighbors of m, or m itself if it
    is a bfloat16. Its mean is m, so errors don't accumulate. If the neighbors are u
    apart, u ≤ 2⁻⁷·|m|, the standard deviation of the buffer is at most
    (u/2)/√(1 − β²): 0.9% of m at β = 0.9, 9% at 0.999. Infinity and NaN are preserved;
    finite values beyond the largest bfloat16, 3.39e38, are clipped to it.

    Args:
      seed: the seed of the random bits. Runs with equal seeds round alike.

    Returns:
      A `Storage`. The buffer's leaves are bfloat16 arrays, or `Parts` of two such
      arrays for complex parameters.

    Raises:
      TypeError: seed is not an int.

    Differs from `optax.trace(accumulator_dtype=jnp.bfloat16)`, which rounds to nearest:
    under a constant gradient of 1 at β = 0.999, its buffer stops at 256 instead of
    reaching 1000.

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
        seed, lambda leaf: zeros(leaf, dtype=jnp.bfloat16), round_to_bfloat16
    )


def int8(block_size: int = 64, *, seed: int = 0, min_size: int = 4096) -> Storage:
    """Stores m in 8 bits with a float32 scale per block: 1.06 bytes per parameter.

        m = A·k/(254 − |k|)      k = −127 … 127, A = the largest |m| in the block

    The 254 steps from −A to A are 0.4% of A wide near 0 and 1.6% near A, so that small
    values, the most frequent ones, are stored more precisely than with 8 bits at equal
    distances. Rounding is stochastic: the stored value is one of the two neighbors of
    m, and its mean is m. The largest |m| in a block is stored exactly. If the neighbors
    are u apart, the standard deviation of the buffer is at most (u/2)/√(1 − β²). At
    β = 0.9 that is 0.5% to 1.8% of A, but at β = 0.999 it is 4% to 18%, so a small
    value in the same block as a large one drowns in noise. So do signs: at β = 0.9,
    under gradients of noise, 0.4% of the signs of m are wrong if a block's elements are
    of one size, but 9% if one of 64 is 100 times as large, and 32% if it is 1,000 times
    as large. For an update that takes signs, use `bfloat16`: 0.1%.

    NaN and infinity become NaN and affect no other element.

    Args:
      block_size: the number of values that share a scale, up to a factor of two; a
        power of two, at least 8. A block spans the last axis and, if that is shorter,
        the axes before it. Codes have the leaf's shape and its sharding. On explicit
        mesh axes, scales have the same, except that an axis which does not give every
        device whole blocks is not divided.
      seed: the seed of the random bits. Runs with equal seeds round alike.
      min_size: leaves with fewer elements stay in float32. They take little memory, and
        those of biases and norms are sensitive to rounding.

    Returns:
      A `Storage`. The buffer's leaves are `Blocks`, or `Parts` of two `Blocks` for
      complex parameters.

    Raises:
      ValueError: block_size is not a power of two ≥ 8, or min_size is below 1.
      TypeError: an argument is not an int.

    >>> from optax_momentum import ema
    >>> state = ema(0.9, storage=int8()).init({"w": jnp.ones((64, 128))})
    >>> jax.tree.map(lambda x: (x.dtype.name, x.shape), state.buffer["w"])
    Blocks(codes=('int8', (64, 128)), scales=('float32', (64, 2)))

    References:
      Dettmers, Lewis, Shleifer and Zettlemoyer 2022, arXiv:2110.02861, on blocks.
    """
    _check_int("storage.int8: seed", seed, "It seeds the rounding.")
    _check_int("storage.int8: block_size", block_size, "It counts values; try 64.")
    _check_int("storage.int8: min_size", min_size, "It counts a leaf's elements.")
    if block_size < 8 or block_size & (block_size - 1):
        raise ValueError(
            "storage.int8: block_size must be a power of two and at least 8, got "
            f"{block_size}. It is the number of values that share a 4-byte scale; try "
            "64 or 128."
        )
    if min_size < 1:
        raise ValueError(
            f"storage.int8: min_size must be at least 1, got {min_size}. Leaves with "
            "fewer elements stay in float32; 1 stores all leaves in 8 bits."
        )
    large = _stochastic(
        seed,
        partial(zero_blocks, block_size=block_size),
        partial(quantize_in_blocks, block_size=block_size),
    )
    small = float32()

    def storage_of(leaf: jax.Array | jax.ShapeDtypeStruct) -> Storage:
        return small if math.prod(jnp.shape(leaf)) < min_size else large

    return Storage(
        lambda leaf: storage_of(leaf).init(leaf),
        lambda m, step, path: storage_of(m).encode(m, step, path),
    )


def store(
    storage: Storage | None,
    m: jax.Array,
    old: Stored,
    step: jax.Array,
    path: jax.tree_util.KeyPath,
) -> Stored:
    """Encodes m, with the dtypes and shardings of `old`, its encoding before the step.

    Raises:
      ValueError: `old` was encoded by another storage.
    """
    if storage is None and not is_stored(old):
        return conform_to(jnp.asarray(old), m)
    where = jax.tree_util.keystr(path)
    new = m if storage is None else storage.encode(m, step, where)
    if _types(new) != _types(old):
        raise ValueError(
            f"update: the buffer at updates{where} is {_types(old)}, but this storage "
            f"would make it {_types(new)}. Build the optimizer with the storage that "
            "the state was made with, or convert the state with `change_storage`."
        )
    return jax.tree.map(conform_to, jax.tree.map(jnp.asarray, old), new)


def _types(stored: Stored) -> object:
    """Describes the dtype and shape of every array of a stored leaf."""
    return jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(jnp.shape(x))}", stored)


def _stochastic(
    seed: int,
    zeros: Callable[[jax.Array | jax.ShapeDtypeStruct], jax.Array | Blocks],
    quantize: Callable[[jax.Array, jax.Array], jax.Array | Blocks],
) -> Storage:
    """Returns a `Storage` with stochastic rounding, of both parts of complex leaves.

    Args:
      seed: the seed of the random bits.
      zeros: returns the encoded zeros of a real leaf.
      quantize: rounds a float32 array by the random bits of its elements.
    """

    def init(leaf: jax.Array | jax.ShapeDtypeStruct) -> Stored:
        if not jnp.iscomplexobj(leaf):
            return zeros(leaf)
        part = jnp.zeros_like(leaf, dtype=jnp.float32)
        return Parts(zeros(part), zeros(part))

    def encode(m: jax.Array, step: jax.Array, path: str) -> Stored:
        if jnp.iscomplexobj(m):
            real, imag = jnp.real(m), jnp.imag(m)
            return Parts(
                encode(real, step, f"{path}.real"), encode(imag, step, f"{path}.imag")
            )
        bits = random_bits(seed, step, path, m.shape)
        return quantize(m.astype(jnp.float32), bits)

    return Storage(init, encode)


def _single_precision(leaf: jax.Array | jax.ShapeDtypeStruct) -> DTypeLike:
    """Returns the single-precision dtype of a leaf: float32 or complex64."""
    return jnp.complex64 if jnp.iscomplexobj(leaf) else jnp.float32


def _check_int(name: str, given: object, remedy: str) -> None:
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError(
            f"{name} must be an int, got {given!r} of type {type(given).__name__}. "
            f"{remedy}"
        )
