"""The encodings: which values they store, without bias, and what they refuse.

The bounds are computed in float64 from each encoding's formula, without the library.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_momentum import ema, sgd, storage
from optax_momentum._storage.rounding import random_bits, round_to_bfloat16
from optax_momentum._storage.stored import quantize_in_blocks

DRAWS = 4096
RANDOM = np.random.default_rng(21)
WIDE = (RANDOM.normal(size=(6, 40)) * 10.0 ** RANDOM.integers(-9, 9, (6, 40))).astype(
    np.float32
)
LEVEL = RANDOM.normal(size=(6, 40)).astype(np.float32)
CODES = np.arange(-127, 128)
SMALL_BLOCKS = storage.int8(8, min_size=1)
VALUES = CODES / (254 - np.abs(CODES))  # Of the codes, in units of the scale.
stochastic = pytest.mark.parametrize(
    "encoding, x",
    [(storage.bfloat16(5), WIDE), (storage.int8(8, seed=5, min_size=1), LEVEL)],
    ids=["bfloat16", "int8"],
)


def encode(encoding, x, step=7, path="['w']"):
    return encoding.encode(jnp.asarray(x), jnp.asarray(step, jnp.int32), path)


def draws(encoding, x, count=DRAWS):
    """Encodes and decodes x at each of `count` steps; returns float64 [step, ...]."""
    once = jax.vmap(lambda step: storage.value(encoding.encode(x, step, "['w']")))
    return np.asarray(jax.jit(once)(jnp.arange(count)), np.float64)


def neighbors(encoding, x):
    """Returns the two values that each x may be rounded to, below and above it."""
    exact = x.astype(np.float64)
    if storage.value(encode(encoding, x)).dtype == jnp.bfloat16:
        unit = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 7)
        return np.floor(exact / unit) * unit, np.ceil(exact / unit) * unit
    scale = np.abs(exact).reshape(6, 5, 8).max(axis=2).repeat(8, axis=1)
    above = np.searchsorted(VALUES, exact / scale)
    exactly = np.isclose(VALUES[above], exact / scale, rtol=1e-12)
    return VALUES[np.where(exactly, above, above - 1)] * scale, VALUES[above] * scale


@pytest.mark.slow
@stochastic
def test_stored_value_is_always_one_of_the_two_neighbors(encoding, x):
    got = draws(encoding, x, 256)
    below, above = neighbors(encoding, x)
    near = np.isclose(got, below, rtol=1e-6) | np.isclose(got, above, rtol=1e-6)
    assert near.all()
    apart = above - below > 1e-5 * np.abs(x)
    assert apart.mean() > 0.8
    assert (got.min(axis=0) < got.max(axis=0))[apart].mean() > 0.9


@stochastic
def test_mean_of_many_stored_values_is_the_exact_value(encoding, x):
    below, above = neighbors(encoding, x)
    share = (x - below) / np.where(above > below, above - below, 1)
    deviation = (above - below) * np.sqrt(share * (1 - share) / DRAWS)
    error = draws(encoding, x).mean(axis=0) - x
    assert (np.abs(error) <= 5 * deviation + 1e-6 * np.abs(x)).all()
    assert np.square(error / np.where(deviation > 0, deviation, np.inf)).mean() < 1.5


@stochastic
def test_stored_value_is_stored_exactly_at_every_later_step(encoding, x):
    first = encode(encoding, x)
    again = storage.value(first).astype(jnp.float32)
    encode_at = jax.jit(lambda x, step: encode(encoding, x, step))
    for step in range(40):
        jax.tree.map(np.testing.assert_array_equal, encode_at(again, step), first)


@stochastic
def test_zero_stays_zero_and_no_sign_flips(encoding, x):
    x = np.where(np.arange(40) % 3 == 0, 0, x).astype(np.float32)
    got = draws(encoding, x, 64)
    assert (got[:, x == 0] == 0).all()
    assert (got * x >= 0).all()
    assert (np.asarray(storage.value(encode(encoding, np.zeros_like(x)))) == 0).all()


@stochastic
def test_rounding_depends_on_seed_step_and_path_only(encoding, x):
    first = storage.value(encode(encoding, x))
    same = storage.value(jax.jit(lambda x: encode(encoding, x))(x))
    np.testing.assert_array_equal(same, first)
    others = [encode(encoding, x, step=8), encode(encoding, x, path="['b']")]
    seeded = {jnp.bfloat16: storage.bfloat16(6)}
    other_seed = seeded.get(first.dtype.type, storage.int8(8, seed=6, min_size=1))
    for other in [*others, encode(other_seed, x)]:
        assert (storage.value(other) != first).mean() > 0.1


@stochastic
def test_order_is_preserved_between_values_a_unit_apart(encoding, x):
    below, above = neighbors(encoding, x)
    got = draws(encoding, x, 32)
    blocks = (32, 6, 5, 8)
    got, low, high = (np.broadcast_to(v, (32, 6, 40)) for v in (got, below, above))
    got, low, high = (v.reshape(blocks) for v in (got, low, high))
    clear = high[..., :, None] <= low[..., None, :]
    assert clear.mean() > 0.3
    assert (got[..., :, None] <= got[..., None, :])[clear].all()


def test_bfloat16_preserves_infinity_and_nan_and_clips_finite_values():
    most = float(jnp.finfo(jnp.bfloat16).max)
    x = np.array([np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, most], np.float32)
    for step in range(20):
        got = np.asarray(encode(storage.bfloat16(), x, step), np.float32)
        np.testing.assert_array_equal(got[:2], x[:2])
        assert np.isnan(got[2])
        np.testing.assert_array_equal(np.abs(got[3:]), most)


def test_nan_of_any_payload_stays_nan_in_bfloat16():
    patterns = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32)
    for step in range(20):
        got = encode(storage.bfloat16(), patterns.view(np.float32), step)
        assert jnp.isnan(got).all()


@pytest.mark.slow
def test_int8_turns_infinity_and_nan_into_nan_and_affects_no_other_element():
    encoding, x = storage.int8(8, min_size=1), LEVEL[0].copy()
    x[[3, 9, 17]] = np.nan, np.inf, -np.inf
    without = np.where(np.isfinite(x), x, 0)
    got, want = (storage.value(encode(encoding, v)) for v in (x, without))
    assert np.isnan(got[np.array([3, 9, 17])]).all()
    finite = np.isfinite(x)
    np.testing.assert_array_equal(np.asarray(got)[finite], np.asarray(want)[finite])
    assert np.isfinite(encode(encoding, x).scales).all()


@pytest.mark.parametrize("scale", [3e38, 1e38, 1e-30, 1e-35])
def test_int8_error_is_bounded_at_both_ends_of_the_float32_range(scale):
    x = (LEVEL / np.abs(LEVEL).max() * scale).astype(np.float32)
    got = draws(storage.int8(8, min_size=1), x, 16)
    assert np.abs(got / scale - x / np.float64(scale)).max() < 0.0158
    assert (got[:, np.abs(x) > 0.1 * scale] != 0).all()


def test_int8_codes_decode_by_the_formula():
    scales = jnp.full(1, 0.3, jnp.float32)
    blocks = storage.Blocks(jnp.asarray(CODES, jnp.int8), scales)
    got = np.asarray(storage.value(blocks), np.float64)
    np.testing.assert_allclose(got, np.float32(0.3) * VALUES, rtol=3e-7)
    below = storage.Blocks(jnp.full(8, -128, jnp.int8), scales)
    assert jnp.isnan(storage.value(below))[0]


def test_int8_error_is_bounded_near_zero_and_near_the_scale():
    ratio = np.linspace(0, 1, 20_001)
    x = np.concatenate([ratio, [1.0]]).astype(np.float32)
    whole = storage.int8(2**15, min_size=1)  # one block
    error = np.abs(draws(whole, x, 8) - x).max(axis=0)
    unit = (1 + x) * (1 + np.minimum(x + 0.0158, 1)) / 254
    assert (error <= unit + 1e-6).all()
    assert error.max() < 0.0158
    middle, low = (x >= 0.1), (x >= 0.01) & (x < 0.1)
    assert (error / np.maximum(x, 1e-9))[middle].max() < 0.049
    assert (error / np.maximum(x, 1e-9))[low].max() < 0.41
    assert error[x < 0.005].max() < 0.0041  # Two units of linear 8 bits are 0.0157.


def test_int8_stores_the_largest_of_a_block_exactly():
    got = np.asarray(storage.value(encode(storage.int8(8, min_size=1), LEVEL)))
    largest = np.abs(LEVEL).reshape(6, 5, 8).argmax(axis=2)
    at = np.take_along_axis(got.reshape(6, 5, 8), largest[..., None], axis=2)
    want = np.take_along_axis(LEVEL.reshape(6, 5, 8), largest[..., None], axis=2)
    np.testing.assert_array_equal(at, want)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape, scales",
    [
        ((4096,), (64,)),
        ((4097,), (65,)),
        ((33, 128), (33, 2)),
        ((512, 10), (64, 1)),  # A block is 8 rows of 10.
        ((64, 64, 3, 3), (64, 8, 1, 1)),  # A block is 8 input channels.
        ((3, 3, 32, 64), (3, 3, 32, 1)),
    ],
)
def test_int8_blocks_span_the_last_axes_and_add_little_memory(shape, scales):
    encoding = storage.int8()
    zeros = encoding.init(jnp.zeros(shape))
    assert zeros.codes.shape == zeros.shape == shape
    assert zeros.scales.shape == scales
    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    blocks = jax.jit(lambda x: encode(encoding, x))(x)
    for leaf, zero in zip(blocks, zeros, strict=True):
        assert (leaf.shape, leaf.dtype) == (zero.shape, zero.dtype)
    error = np.abs(np.asarray(storage.value(blocks)) - x)
    assert error.max() < 0.0158 * np.abs(x).max()
    stored_bytes = sum(leaf.nbytes for leaf in blocks)
    assert 1.0 < stored_bytes / x.size < 1.07


def test_bytes_per_parameter_are_as_documented():
    kernel = jnp.zeros((512, 256))
    for encoding, bytes_per_parameter in (
        (storage.float32(), 4.0),
        (storage.bfloat16(), 2.0),
        (storage.int8(), 1.0625),
        (storage.int8(128), 1.03125),
    ):
        leaves = jax.tree.leaves(encoding.init(kernel))
        assert sum(leaf.nbytes for leaf in leaves) == bytes_per_parameter * kernel.size
    small = storage.int8().init(jnp.zeros((256, 10)))
    assert small.dtype == jnp.float32
    assert not isinstance(small, storage.Blocks)


def test_complex_leaves_are_stored_as_parts():
    z = jax.lax.complex(jnp.asarray(LEVEL), jnp.asarray(LEVEL[::-1] * 0.01))
    for encoding in (storage.bfloat16(5), storage.int8(8, min_size=1)):
        parts = encode(encoding, z)
        assert isinstance(parts, storage.Parts)
        assert parts.shape == z.shape
        error = storage.value(parts) - z
        assert jnp.abs(jnp.real(error)).max() < 0.0158 * jnp.abs(jnp.real(z)).max()
        assert jnp.abs(jnp.imag(error)).max() < 0.0158 * jnp.abs(jnp.imag(z)).max()
        assert storage.value(encoding.init(z)).dtype == jnp.complex64
    assert encode(storage.float32(), z).dtype == jnp.complex64


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


def test_int8_mean_over_evenly_spread_bits_is_the_exact_value():
    x = jnp.asarray([*np.linspace(0, 0.999, 255), 1.0], jnp.float32)
    bits = (np.arange(4096, dtype=np.uint32) * 2 + 1) << 19
    quantize = jax.vmap(lambda b: quantize_in_blocks(x, jnp.full(256, b), 256))
    mean = np.asarray(storage.value(jax.jit(quantize)(bits)), np.float64).mean(axis=0)
    unit = np.where(x < 0.999, (1 + x) * (1 + x + 0.0158) / 254, 0.0158)
    assert (np.abs(mean - x) < unit / 3000).all()


def test_value_of_a_code_is_encoded_exactly_whatever_the_bits():
    """The compiler must not fuse the product in a code's value with a sum."""
    x = jnp.asarray(np.random.default_rng(5).normal(size=4096), jnp.float32)
    quantize = jax.jit(lambda x, bits: quantize_in_blocks(x, jnp.full(4096, bits), 64))
    first = quantize(x, jnp.uint32(1 << 31))
    for bits in (0, 2**32 - 1):
        again = quantize(storage.value(first), jnp.uint32(bits))
        np.testing.assert_array_equal(again.codes, first.codes)
        np.testing.assert_array_equal(again.scales, first.scales)


def test_bfloat16_mean_over_all_bits_is_the_exact_value():
    x = np.array([1.3, -2.7e-12, 5.1e30, 1 + 2**-9], np.float32)
    bits = jnp.arange(2**16, dtype=jnp.uint32)[:, None] << np.uint32(16)
    rounded = round_to_bfloat16(jnp.broadcast_to(x, (2**16, 4)), bits)
    mean = np.asarray(rounded, np.float64).mean(axis=0)
    np.testing.assert_allclose(mean, x, rtol=1e-9)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: storage.int8(48),
            ValueError,
            "storage.int8: block_size must be a power of two and at least 8, got 48. "
            "It is the number of values that share a 4-byte scale; try 64 or 128.",
        ),
        (lambda: storage.int8(4), ValueError, "at least 8, got 4"),
        (
            lambda: storage.int8(64.0),  # pyright: ignore[reportArgumentType]
            TypeError,
            "storage.int8: block_size must be an int, got 64.0 of type float. It "
            "counts values; try 64.",
        ),
        (
            lambda: storage.int8(min_size=0),
            ValueError,
            "storage.int8: min_size must be at least 1, got 0.",
        ),
        (
            lambda: storage.bfloat16("0"),  # pyright: ignore[reportArgumentType]
            TypeError,
            "storage.bfloat16: seed must be an int, got '0' of type str. It seeds the "
            "rounding.",
        ),
        (
            lambda: storage.int8(seed=True),
            TypeError,
            "storage.int8: seed must be an int, got True of type bool.",
        ),
        (
            lambda: ema(0.9, storage="int8"),  # pyright: ignore[reportArgumentType]
            TypeError,
            "storage must be a Storage or None, got 'int8'. Pass what "
            "`storage.float32()`, `storage.bfloat16()` or `storage.int8()` returns.",
        ),
        (
            lambda: sgd(0.1, storage=storage.int8()),
            ValueError,
            "sgd: storage needs a beta, got None, which keeps no buffer. Pass "
            "beta=0.9.",
        ),
    ],
)
def test_bad_storage_is_refused(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("made, given", [(None, SMALL_BLOCKS), (SMALL_BLOCKS, None)])
def test_state_of_another_storage_is_refused(made, given):
    params = {"w": jnp.zeros((4, 16))}
    state = ema(0.83, storage=made).init(params)
    names = {None: "float32[4, 16]", SMALL_BLOCKS: "Blocks(codes='int8[4, 16]', "}
    with pytest.raises(ValueError) as raised:
        ema(0.83, storage=given).update(params, state)
    text = str(raised.value)
    assert text.startswith(f"update: the buffer at updates['w'] is {names[made]}")
    assert f"this storage would make it {names[given]}" in text
    assert text.endswith("or convert the state with `change_storage`.")
