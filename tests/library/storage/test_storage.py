"""What a store does to numbers: rounded without bias, to a neighbour, or not at all.

The bounds are those of the encodings, worked out in float64 without the library.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_momentum import storage

DRAWS = 4096
RANDOM = np.random.default_rng(21)
WIDE = (RANDOM.normal(size=(6, 40)) * 10.0 ** RANDOM.integers(-9, 9, (6, 40))).astype(
    np.float32
)
LEVEL = RANDOM.normal(size=(6, 40)).astype(np.float32)
CODES = np.arange(-127, 128)
VALUES = CODES / (254 - np.abs(CODES))  # of the codes, in units of the scale
stochastic = pytest.mark.parametrize(
    "kept, x",
    [
        pytest.param(storage.bfloat16(5), WIDE, id="bfloat16"),
        pytest.param(storage.int8(8, seed=5, min_size=1), LEVEL, id="int8"),
    ],
)


def stored(kept, x, step=7, path="['w']"):
    return kept.encode(jnp.asarray(x), jnp.asarray(step, jnp.int32), path)


def draws(kept, x, count=DRAWS):
    """What comes back of x after `count` stores, one at each step, in float64."""
    once = jax.vmap(lambda step: storage.value(kept.encode(x, step, "['w']")))
    return np.asarray(jax.jit(once)(jnp.arange(count)), np.float64)


def neighbours(kept, x):
    """Below and above each x, in float64: the two that it may be rounded to."""
    exact = x.astype(np.float64)
    if storage.value(stored(kept, x)).dtype == jnp.bfloat16:
        unit = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 7)
        return np.floor(exact / unit) * unit, np.ceil(exact / unit) * unit
    scale = np.abs(exact).reshape(6, 5, 8).max(axis=2).repeat(8, axis=1)
    above = np.searchsorted(VALUES, exact / scale)
    exactly = np.isclose(VALUES[above], exact / scale, rtol=1e-12)
    return VALUES[np.where(exactly, above, above - 1)] * scale, VALUES[above] * scale


@stochastic
def test_store_is_always_one_of_the_two_neighbours(kept, x):
    got = draws(kept, x, 256)
    below, above = neighbours(kept, x)
    near = np.isclose(got, below, rtol=1e-6) | np.isclose(got, above, rtol=1e-6)
    assert near.all()
    apart = above - below > 1e-5 * np.abs(x)
    assert apart.mean() > 0.8
    assert (got.min(axis=0) < got.max(axis=0))[apart].mean() > 0.9


@stochastic
def test_mean_of_many_stores_is_what_was_stored(kept, x):
    below, above = neighbours(kept, x)
    share = (x - below) / np.where(above > below, above - below, 1)
    deviation = (above - below) * np.sqrt(share * (1 - share) / DRAWS)
    error = draws(kept, x).mean(axis=0) - x
    assert (np.abs(error) <= 5 * deviation + 1e-6 * np.abs(x)).all()
    assert np.square(error / np.where(deviation > 0, deviation, np.inf)).mean() < 1.5


@stochastic
def test_stored_value_is_stored_as_itself_at_every_step(kept, x):
    first = stored(kept, x)
    again = storage.value(first).astype(jnp.float32)
    store = jax.jit(lambda x, step: stored(kept, x, step))
    for step in range(40):
        jax.tree.map(np.testing.assert_array_equal, store(again, step), first)


@stochastic
def test_zero_stays_zero_and_no_sign_turns(kept, x):
    x = np.where(np.arange(40) % 3 == 0, 0, x).astype(np.float32)
    got = draws(kept, x, 64)
    assert (got[:, x == 0] == 0).all()
    assert (got * x >= 0).all()
    assert (np.asarray(storage.value(stored(kept, np.zeros_like(x)))) == 0).all()


@stochastic
def test_bits_come_from_seed_step_and_path_alone(kept, x):
    first = storage.value(stored(kept, x))
    same = storage.value(jax.jit(lambda x: stored(kept, x))(x))
    np.testing.assert_array_equal(same, first)
    others = [stored(kept, x, step=8), stored(kept, x, path="['b']")]
    seeded = {jnp.bfloat16: storage.bfloat16(6)}
    other_seed = seeded.get(first.dtype.type, storage.int8(8, seed=6, min_size=1))
    for other in [*others, stored(other_seed, x)]:
        assert (storage.value(other) != first).mean() > 0.1


@stochastic
def test_order_is_kept_where_a_whole_unit_lies_between(kept, x):
    below, above = neighbours(kept, x)
    got = draws(kept, x, 32)
    blocks = (32, 6, 5, 8)
    got, low, high = (np.broadcast_to(v, (32, 6, 40)) for v in (got, below, above))
    got, low, high = (v.reshape(blocks) for v in (got, low, high))
    clear = high[..., :, None] <= low[..., None, :]
    assert clear.mean() > 0.3
    assert (got[..., :, None] <= got[..., None, :])[clear].all()


def test_bfloat16_keeps_what_is_not_finite_and_stays_finite_where_it_is():
    most = float(jnp.finfo(jnp.bfloat16).max)
    x = np.array([np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, most], np.float32)
    for step in range(20):
        got = np.asarray(stored(storage.bfloat16(), x, step), np.float32)
        np.testing.assert_array_equal(got[:2], x[:2])
        assert np.isnan(got[2])
        np.testing.assert_array_equal(np.abs(got[3:]), most)


def test_nan_of_any_payload_stays_nan_in_bfloat16():
    patterns = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32)
    for step in range(20):
        got = stored(storage.bfloat16(), patterns.view(np.float32), step)
        assert jnp.isnan(got).all()


def test_int8_marks_what_is_not_finite_and_keeps_its_neighbours():
    kept, x = storage.int8(8, min_size=1), LEVEL[0].copy()
    x[[3, 9, 17]] = np.nan, np.inf, -np.inf
    without = np.where(np.isfinite(x), x, 0)
    got, want = (storage.value(stored(kept, v)) for v in (x, without))
    assert np.isnan(got[np.array([3, 9, 17])]).all()
    finite = np.isfinite(x)
    np.testing.assert_array_equal(np.asarray(got)[finite], np.asarray(want)[finite])
    assert np.isfinite(stored(kept, x).scales).all()


@pytest.mark.parametrize("scale", [3e38, 1e38, 1e-30, 1e-35])
def test_int8_keeps_its_bounds_at_both_ends_of_float32(scale):
    x = (LEVEL / np.abs(LEVEL).max() * scale).astype(np.float32)
    got = draws(storage.int8(8, min_size=1), x, 16)
    assert np.abs(got / scale - x / np.float64(scale)).max() < 0.0158
    assert (got[:, np.abs(x) > 0.1 * scale] != 0).all()


def test_int8_value_of_a_code_is_that_of_the_formula():
    scales = jnp.full(1, 0.3, jnp.float32)
    blocks = storage.Blocks(jnp.asarray(CODES, jnp.int8), scales)
    got = np.asarray(storage.value(blocks), np.float64)
    np.testing.assert_allclose(got, np.float32(0.3) * VALUES, rtol=3e-7)
    assert jnp.isnan(
        storage.value(storage.Blocks(jnp.full(8, -128, jnp.int8), scales))
    )[0]


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
    assert error[x < 0.005].max() < 0.0041  # two units of plain 8 bits are 0.0157


def test_int8_keeps_the_largest_of_a_block_to_the_last_digit():
    got = np.asarray(storage.value(stored(storage.int8(8, min_size=1), LEVEL)))
    largest = np.abs(LEVEL).reshape(6, 5, 8).argmax(axis=2)
    at = np.take_along_axis(got.reshape(6, 5, 8), largest[..., None], axis=2)
    want = np.take_along_axis(LEVEL.reshape(6, 5, 8), largest[..., None], axis=2)
    np.testing.assert_array_equal(at, want)


@pytest.mark.parametrize(
    "shape, scales",
    [
        ((4096,), (64,)),
        ((4097,), (65,)),
        ((33, 128), (33, 2)),
        ((512, 10), (64, 1)),  # 8 rows of 10
        ((64, 64, 3, 3), (64, 8, 1, 1)),  # 8 of the input channels
        ((3, 3, 32, 64), (3, 3, 32, 1)),
    ],
)
def test_int8_blocks_span_the_last_axes_and_cost_little(shape, scales):
    kept = storage.int8()
    zeros = kept.init(jnp.zeros(shape))
    assert zeros.codes.shape == zeros.shape == shape
    assert zeros.scales.shape == scales
    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    blocks = jax.jit(lambda x: stored(kept, x))(x)
    for leaf, zero in zip(blocks, zeros, strict=True):
        assert (leaf.shape, leaf.dtype) == (zero.shape, zero.dtype)
    error = np.abs(np.asarray(storage.value(blocks)) - x)
    assert error.max() < 0.0158 * np.abs(x).max()
    stored_bytes = sum(leaf.nbytes for leaf in blocks)
    assert 1.0 < stored_bytes / x.size < 1.07


def test_bytes_a_parameter_are_as_promised():
    shapes = {"kernel": (512, 256), "head": (256, 10), "bias": (256,)}
    params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    held = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0625, "int8(128)": 1.03125}
    for kept, want in zip(
        (storage.float32(), storage.bfloat16(), storage.int8(), storage.int8(128)),
        held.values(),
        strict=True,
    ):
        leaves = jax.tree.leaves(kept.init(params["kernel"]))
        assert sum(leaf.nbytes for leaf in leaves) == want * params["kernel"].size
    small = storage.int8().init(params["head"])  # 2,560 elements
    assert small.dtype == jnp.float32
    assert not isinstance(small, storage.Blocks)


def test_complex_leaves_are_stored_in_parts():
    z = jax.lax.complex(jnp.asarray(LEVEL), jnp.asarray(LEVEL[::-1] * 0.01))
    for kept in (storage.bfloat16(5), storage.int8(8, min_size=1)):
        held = stored(kept, z)
        assert isinstance(held, storage.Parts)
        assert held.shape == z.shape
        error = storage.value(held) - z
        assert jnp.abs(jnp.real(error)).max() < 0.0158 * jnp.abs(jnp.real(z)).max()
        assert jnp.abs(jnp.imag(error)).max() < 0.0158 * jnp.abs(jnp.imag(z)).max()
        assert storage.value(kept.init(z)).dtype == jnp.complex64
    assert stored(storage.float32(), z).dtype == jnp.complex64
