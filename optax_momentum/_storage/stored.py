"""Leaves as they are stored: what each holds, and the values that it stands for."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from optax_momentum._storage.rounding import uniform

_NOT_FINITE = -128  # the one code that no number has
_MOST = jnp.finfo(jnp.float32).max


class Blocks(NamedTuple):
    """A real leaf in 8 bits: m = scale·k/(254 − |k|) for a code k of −127 … 127.

    The values lie close near 0 and wide near the scale, which is the largest |m| of a
    block, or what `rescale_momentum` made of it. A block spans the last axes, as many
    as it needs.
    """

    codes: jax.Array  # int8, the leaf's shape; −128 where m was NaN or infinite
    scales: jax.Array  # float32, one for each block: as many axes, each shorter

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the leaf."""
        return self.codes.shape

    @property
    def dtype(self) -> Any:
        """Of the values."""
        return self.scales.dtype

    @property
    def tile(self) -> tuple[int, ...]:
        """The shape of a block."""
        return _tile_of(self.codes.shape, self.scales.shape)


class Parts(NamedTuple):
    """A complex leaf whose parts are stored each by itself."""

    real: Any
    imag: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the leaf."""
        return self.real.shape

    @property
    def dtype(self) -> Any:
        """Of the values."""
        return jnp.dtype(jnp.complex64)


def is_stored(node: object) -> bool:
    """True for what stands in a buffer in place of an array."""
    return isinstance(node, Blocks | Parts)


def value(stored: Any) -> jax.Array:
    """The array that a leaf of a buffer stands for; of an array, itself."""
    match stored:
        case Parts(real, imag):
            parts = (value(part).astype(jnp.float32) for part in (real, imag))
            return jax.lax.complex(*parts)
        case Blocks(codes, scales):
            code, scale = _split(codes, stored.tile), _beside_tiles(scales)
            size = _size(jnp.abs(code.astype(jnp.float32)), scale)
            m = jnp.where(code < 0, -size, size)
            m = jnp.where(code == _NOT_FINITE, jnp.nan, m)
            return _joined(m, codes)
        case _:
            return stored


def values(buffer: Any) -> Any:
    """A buffer as a tree of arrays."""
    return jax.tree.map(value, buffer, is_leaf=is_stored)


def zero_blocks(leaf: Any, block_size: int) -> Blocks:
    """The blocks of a leaf of zeros, placed as the leaf is."""
    codes = jnp.zeros_like(leaf, dtype=jnp.int8)
    blocks = _split(codes, _tile(codes.shape, block_size))
    # Not the largest of each: XLA takes seconds to find that it is 0 of a large leaf.
    first = [n for count in blocks.shape[::2] for n in (count, 1)]
    scales = jax.lax.slice(blocks, [0] * blocks.ndim, first)
    scales = jnp.squeeze(scales, range(1, blocks.ndim, 2))
    return Blocks(codes, scales.astype(jnp.float32))


def in_blocks(m: jax.Array, bits: jax.Array, block_size: int) -> Blocks:
    """A float32 array in blocks, each |m| rounded up or down so that its mean stays.

    The largest of a block is kept to the last digit, and so is what is a code's value.
    """
    tile = _tile(m.shape, block_size)
    whole, m = m, _split(m, tile)
    finite = jnp.isfinite(m)
    size = jnp.where(finite, jnp.abs(m), 0.0)
    scales = _largest(size)
    scale = _beside_tiles(scales)
    # Away from what is too small to be a float32, or to have an inverse in it.
    shift = jnp.where(scale > 1, jnp.float32(2.0**-64), jnp.float32(2.0**64))
    shifted = scale * shift
    ratio = size * shift * (1 / jnp.where(shifted > 0, shifted, 1.0))
    lower = jnp.clip(jnp.floor(254 * ratio / (1 + ratio)), 0, 126)
    low, high = _size(lower, scale), _size(lower + 1, scale)
    up = uniform(_split(bits, tile)) * (high - low) < size - low
    code = (lower + up.astype(lower.dtype)).astype(jnp.int8)
    code = jnp.where(m < 0, -code, code)
    return Blocks(_joined(jnp.where(finite, code, _NOT_FINITE), whole), scales)


def _size(code: jax.Array, scale: jax.Array) -> jax.Array:
    """scale·k/(254 − k), the same on the way in and on the way out.

    It is clamped to what it is anyway: a compiler can't fuse that with a difference,
    in which the value of a code would not meet itself.
    """
    product = scale * (code / (254 - code))
    return jax.lax.clamp(-_MOST, product, _MOST)


def _tile(shape: tuple[int, ...], block_size: int) -> tuple[int, ...]:
    """The shape of a block: the last axes whole, a power of two of the next, then 1."""
    tile, size = [], 1
    for length in reversed(shape):
        wanted = _power_of_two(-(-block_size // size))
        tile.append(min(length, wanted))
        size *= tile[-1]
    return tuple(reversed(tile))


def _tile_of(shape: tuple[int, ...], blocks: tuple[int, ...]) -> tuple[int, ...]:
    """The same, from the number of blocks along each axis, lanes of vmap included."""
    return tuple(
        length if count == 1 else _power_of_two(-(-length // count))
        for length, count in zip(shape, blocks, strict=True)
    )


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _split(x: jax.Array, tile: tuple[int, ...]) -> jax.Array:
    """Every axis as two, blocks and places in a block; the last block ends in zeros."""
    counts = [-(-length // n) for length, n in zip(x.shape, tile, strict=True)]
    missing = [
        (0, count * n - length)
        for count, n, length in zip(counts, tile, x.shape, strict=True)
    ]
    x = jnp.pad(x, missing) if any(after for _, after in missing) else x
    pairs = zip(counts, tile, strict=True)
    placed = jax.typeof(x).sharding
    spec = PartitionSpec(*[name for axis in placed.spec for name in (axis, None)])
    shape = [length for pair in pairs for length in pair]
    return _reshaped(x, shape, placed.update(spec=spec))


def _joined(x: jax.Array, like: jax.Array) -> jax.Array:
    """The inverse of `_split`: of the shape of `like`, and placed as that."""
    shape = [a * b for a, b in zip(x.shape[::2], x.shape[1::2], strict=True)]
    x = _reshaped(x, shape, jax.typeof(like).sharding)
    return jax.lax.slice(x, [0] * like.ndim, like.shape)


def _reshaped(x: jax.Array, shape: list[int], placed: NamedSharding) -> jax.Array:
    """Reshaped and placed, where the type says how: on explicit mesh axes only."""
    explicit = any(axis is not None for axis in placed.spec)
    return jax.lax.reshape(x, shape, out_sharding=placed if explicit else None)


def _largest(x: jax.Array) -> jax.Array:
    """Of each block of what is split."""
    return jnp.max(x, axis=tuple(range(1, x.ndim, 2)), initial=0)


def _beside_tiles(scales: jax.Array) -> jax.Array:
    """One for each block, shaped to meet what is split."""
    return jnp.expand_dims(scales, range(1, 2 * scales.ndim, 2))
