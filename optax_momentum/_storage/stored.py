"""Encoded leaves of a buffer, and how to quantize and decode them."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from optax_momentum._base.boxes import is_box, unboxed
from optax_momentum._storage.rounding import uniform_from_bits

_NOT_FINITE = -128  # The code of NaN and infinity, which no finite number has.
_FLOAT32_MAX = jnp.finfo(jnp.float32).max


class Blocks(NamedTuple):
    """A real leaf in 8 bits: m = scale·k/(254 − |k|) for a code k of −127 … 127.

    The values are dense near 0 and sparse near the scale, which is the largest |m| in
    the block, multiplied by any factors of `rescale_momentum`. A block spans as many of
    the last axes as it needs.
    """

    codes: jax.Array  # int8, the leaf's shape; −128 where m was NaN or infinite
    scales: jax.Array  # float32, the number of blocks along each axis of the leaf

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the leaf."""
        return self.codes.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the decoded values."""
        return self.scales.dtype

    @property
    def tile(self) -> tuple[int, ...]:
        """The shape of a block."""
        return _tile_of(self.codes.shape, self.scales.shape)


class Parts(NamedTuple):
    """A complex leaf whose real and imaginary parts are encoded separately."""

    real: "Stored"
    imag: "Stored"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the leaf."""
        return self.real.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the decoded values."""
        return jnp.dtype(jnp.complex64)


# A leaf of a buffer, as a storage keeps it.
Stored = jax.Array | Blocks | Parts


def is_stored(node: object) -> bool:
    """True for an encoded leaf, which stands in a buffer in place of an array."""
    return isinstance(node, Blocks | Parts)


def value(stored: Stored) -> jax.Array:
    """Decodes one leaf of a buffer to an array; an array is returned as it is."""
    stored = unboxed(stored)
    match stored:
        case Parts(real, imag):
            parts = (value(part).astype(jnp.float32) for part in (real, imag))
            return jax.lax.complex(*parts)
        case Blocks(codes, scales):
            code, scale = _split_blocks(codes, stored.tile), _per_block(scales)
            magnitude = _magnitude(jnp.abs(code.astype(jnp.float32)), scale)
            m = jnp.where(code < 0, -magnitude, magnitude)
            m = jnp.where(code == _NOT_FINITE, jnp.nan, m)
            return _join_blocks(m, codes)
        case _:
            return stored


def values(buffer: optax.Updates) -> optax.Updates:
    """Decodes a buffer to a tree of arrays."""
    return jax.tree.map(
        value, buffer, is_leaf=lambda node: is_stored(node) or is_box(node)
    )


def zero_blocks(leaf: jax.Array | jax.ShapeDtypeStruct, block_size: int) -> Blocks:
    """Returns the blocks of a leaf of zeros, with the leaf's sharding."""
    codes = jnp.zeros_like(leaf, dtype=jnp.int8)
    blocks = _split_blocks(codes, _tile(codes.shape, block_size))
    # Take the first element of each block, not the maximum: XLA evaluates a maximum of
    # constants at compile time, which takes seconds for a large leaf.
    first = [n for count in blocks.shape[::2] for n in (count, 1)]
    scales = jax.lax.slice(blocks, [0] * blocks.ndim, first)
    scales = jnp.squeeze(scales, range(1, blocks.ndim, 2))
    return Blocks(codes, scales.astype(jnp.float32))


def quantize_in_blocks(m: jax.Array, bits: jax.Array, block_size: int) -> Blocks:
    """Encodes a float32 array, with stochastic rounding of each |m|.

    The largest |m| in a block is encoded exactly, and so is the value of a code.
    """
    tile = _tile(m.shape, block_size)
    leaf, m = m, _split_blocks(m, tile)
    finite = jnp.isfinite(m)
    magnitude = jnp.where(finite, jnp.abs(m), 0.0)
    scales = _block_maxima(magnitude)
    scale = _per_block(scales)
    # Shift both by a power of two, so that neither the ratio's operands nor the inverse
    # of the scale leaves the range of float32.
    shift = jnp.where(scale > 1, jnp.float32(2.0**-64), jnp.float32(2.0**64))
    shifted = scale * shift
    ratio = magnitude * shift * (1 / jnp.where(shifted > 0, shifted, 1.0))
    lower = jnp.clip(jnp.floor(254 * ratio / (1 + ratio)), 0, 126)
    low, high = _magnitude(lower, scale), _magnitude(lower + 1, scale)
    threshold = uniform_from_bits(_split_blocks(bits, tile)) * (high - low)
    up = threshold < magnitude - low
    code = (lower + up.astype(lower.dtype)).astype(jnp.int8)
    code = jnp.where(m < 0, -code, code)
    return Blocks(_join_blocks(jnp.where(finite, code, _NOT_FINITE), leaf), scales)


def _magnitude(code: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns scale·k/(254 − k) with the same rounding in encoding and decoding.

    The clamp to the finite range changes no value, but stops the compiler from fusing
    the product with a difference, which would round a code's value differently.
    """
    product = scale * (code / (254 - code))
    return jax.lax.clamp(-_FLOAT32_MAX, product, _FLOAT32_MAX)


def _tile(shape: tuple[int, ...], block_size: int) -> tuple[int, ...]:
    """Returns a block's shape: whole last axes, a power of two of the next, then 1."""
    tile, size = [], 1
    for length in reversed(shape):
        wanted = _next_power_of_two(-(-block_size // size))
        tile.append(min(length, wanted))
        size *= tile[-1]
    return tuple(reversed(tile))


def _tile_of(shape: tuple[int, ...], blocks: tuple[int, ...]) -> tuple[int, ...]:
    """Recovers a block's shape from the number of blocks along each axis.

    An axis added by `jax.vmap` has as many blocks as its length.
    """
    return tuple(
        length if count == 1 else _next_power_of_two(-(-length // count))
        for length, count in zip(shape, blocks, strict=True)
    )


def _next_power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _split_blocks(x: jax.Array, tile: tuple[int, ...]) -> jax.Array:
    """Splits every axis into blocks and positions in a block, padded with zeros."""
    counts = [-(-length // n) for length, n in zip(x.shape, tile, strict=True)]
    missing = [
        (0, count * n - length)
        for count, n, length in zip(counts, tile, x.shape, strict=True)
    ]
    x = jnp.pad(x, missing) if any(after for _, after in missing) else x
    pairs = zip(counts, tile, strict=True)
    sharding = jax.typeof(x).sharding
    shape = [length for pair in pairs for length in pair]
    return _reshape(x, shape, sharding.update(spec=_split_spec(sharding, counts)))


def _split_spec(sharding: NamedSharding, counts: list[int]) -> PartitionSpec:
    """Divides a split array by whole blocks, or not at all where that is impossible."""
    spec: list[str | tuple[str, ...] | None] = []
    for names, count in zip(sharding.spec, counts, strict=True):
        axes = (names,) if isinstance(names, str) else names or ()
        devices = math.prod(sharding.mesh.shape[axis] for axis in axes)
        spec += [names if count % devices == 0 else None, None]
    return PartitionSpec(*spec)


def _join_blocks(x: jax.Array, like: jax.Array) -> jax.Array:
    """Inverts `_split_blocks`, to the shape and sharding of `like`."""
    shape = [a * b for a, b in zip(x.shape[::2], x.shape[1::2], strict=True)]
    x = _reshape(x, shape, jax.typeof(like).sharding)
    return jax.lax.slice(x, [0] * like.ndim, like.shape)


def _reshape(x: jax.Array, shape: list[int], sharding: NamedSharding) -> jax.Array:
    """Reshapes x, and shards it where types have shardings: on explicit mesh axes."""
    specs = (*sharding.spec, *jax.typeof(x).sharding.spec)
    explicit = any(axis is not None for axis in specs)
    return jax.lax.reshape(x, shape, out_sharding=sharding if explicit else None)


def _block_maxima(x: jax.Array) -> jax.Array:
    """Returns the maximum of each block of a split array."""
    return jnp.max(x, axis=tuple(range(1, x.ndim, 2)), initial=0)


def _per_block(scales: jax.Array) -> jax.Array:
    """Reshapes one scale per block to broadcast against a split array."""
    return jnp.expand_dims(scales, range(1, 2 * scales.ndim, 2))
