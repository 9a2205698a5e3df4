"""Pooling by slices against `lax.reduce_window`, including gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from support.layers import (
    assert_close,
    in_one_program,
    normal,
    value_and_gradients,
)

from experiments.networks.pooling import Sliding, max_pool, window_max, window_sum

SIZES = [(2, 2), (6, 7), (9, 4), (5, 5)]


def reference_pool(images):
    window = (1, 2, 2, 1)
    return lax.reduce_window(images, -jnp.inf, lax.max, window, window, "VALID")


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_max_pool_and_its_gradient_equal_those_of_reduce_window(height, width):
    images = jnp.asarray(normal(5, (3, height, width, 5)), jnp.float32)
    ours = value_and_gradients(max_pool, images)
    assert_close(ours, value_and_gradients(reference_pool, images), 0)


def test_max_pool_gives_the_gradient_of_equal_maxima_to_the_first():
    images = jnp.asarray(np.round(normal(6, (3, 9, 8, 5))), jnp.float32)
    ours = value_and_gradients(max_pool, images)
    assert_close(ours, value_and_gradients(reference_pool, images), 0)


@pytest.mark.parametrize("position", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_max_pool_propagates_nan(position):
    images = jnp.asarray(normal(7, (1, 4, 4, 1)), jnp.float32)
    pooled = max_pool(images.at[0, *position, 0].set(jnp.nan))
    assert jnp.isnan(pooled[0, 0, 0, 0])
    assert jnp.isfinite(pooled).sum() == 3


def test_max_pool_and_relu_commute_including_gradients():
    """Equal zeros are frequent after ReLU; their gradient is 0 in either order."""
    images = jnp.asarray(normal(8, (2, 10, 6, 4)), jnp.float32)
    ours = value_and_gradients(lambda x: jax.nn.relu(max_pool(x)), images)
    reference = value_and_gradients(lambda x: reference_pool(jax.nn.relu(x)), images)
    assert_close(ours, reference, 0)


# Of each axis: size, window, stride, dilation, padding before and after.
AXIS = st.tuples(
    st.integers(7, 12),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 2),
    st.integers(0, 3),
    st.integers(0, 3),
)


@given(st.tuples(AXIS, AXIS), st.booleans(), st.integers(0, 99))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_pooling_equals_that_of_reduce_window(axes, channels_first, seed):
    """Rounded numbers, so that many maxima are equal."""
    one = (1, 1, 1, 0, 0)
    axes = [(n, k, s, d, a % k, b % k) for n, k, s, d, a, b in axes]
    axes = [(2, *one), *axes, (3, *one)]  # no window of padding alone
    if channels_first:
        axes = [axes[0], axes[3], *axes[1:3]]
    shape, window, strides, dilation, *sides = zip(*axes, strict=True)
    padding = list(zip(*sides, strict=True))

    def ours(x):
        maxima = window_max(x, Sliding(window, strides, padding, (1,) * 4))
        return maxima, window_sum(x, Sliding(window, strides, padding, dilation))

    def reference(x):
        sizes = window, strides, padding
        # JAX has no gradient of a maximum with dilation.
        maxima = lax.reduce_window(x, -np.inf, lax.max, *sizes)
        return maxima, lax.reduce_window(x, 0.0, lax.add, *sizes, None, dilation)

    with jax.enable_x64(True):
        x = jnp.asarray(np.round(normal(seed, shape)))
        # Where windows overlap, gradients are added in another order.
        found, expected = in_one_program(ours, reference, x)
        assert_close(found, expected, 1e-14)


@pytest.mark.parametrize("position", [(0, 0), (1, 2), (2, 1)])
def test_overlapping_windows_propagate_nan(position):
    x = jnp.ones((1, 3, 3, 1)).at[0, *position, 0].set(jnp.nan)
    whole = (1, 3, 3, 1)
    assert jnp.isnan(
        window_max(x, Sliding(whole, (1,) * 4, [(0, 0)] * 4, (1,) * 4))
    ).all()


def test_a_window_as_large_as_the_image_has_one_concatenation_as_gradient():
    x, whole = jnp.ones((2, 8, 8, 3)), (1, 8, 8, 1)

    def total(x):
        return window_sum(x, Sliding(whole, (1,) * 4, [(0, 0)] * 4, (1,) * 4)).sum()

    assert " pad[" not in str(jax.make_jaxpr(jax.grad(total))(x))


def test_a_dilated_window_of_2_by_2_is_not_taken_for_an_ordinary_one():
    x = jnp.asarray(normal(12, (1, 9, 9, 2)), jnp.float32)
    sizes = (1, 2, 2, 1), (1, 2, 2, 1), [(0, 0)] * 4
    dilation = 1, 2, 3, 1
    expected = lax.reduce_window(x, -jnp.inf, lax.max, *sizes, None, dilation)
    found = window_max(x, Sliding(*sizes, dilation))
    np.testing.assert_array_equal(found, expected)
