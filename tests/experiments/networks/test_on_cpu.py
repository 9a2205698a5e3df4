"""Convolution and pooling on CPU against those of lax, including gradients."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from experiments.networks.on_cpu import convolution, max_pool

# Odd and even sizes, not square; with 16 channels or more, another method is used.
CONVOLUTIONS = [(3, 3, 1), (6, 11, 3), (9, 8, 15), (4, 3, 16), (9, 8, 20), (5, 7, 17)]
SIZES = [(2, 2), (6, 7), (9, 4), (5, 5)]


def reference_convolution(images, kernel):
    layout: Any = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    return lax.conv_general_dilated(images, kernel, (1, 1), "VALID", **layout)


def reference_pool(images):
    window = (1, 2, 2, 1)
    return lax.reduce_window(images, -jnp.inf, lax.max, window, window, "VALID")


def normal(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape)


@partial(jax.jit, static_argnums=0)
def value_and_gradients(function, *operands):
    """The result and all gradients, for one fixed random cotangent."""
    result, pullback = jax.vjp(function, *operands)
    cotangent = jnp.asarray(normal(9, result.shape), result.dtype)
    return result, *pullback(cotangent)


def assert_close(ours, reference, tolerance):
    for a, b in zip(ours, reference, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(("height", "width", "channels"), CONVOLUTIONS)
def test_convolution_and_its_gradients_equal_those_of_lax(height, width, channels):
    with jax.enable_x64(True):
        images = jnp.asarray(normal(1, (2, height, width, channels)))
        kernel = jnp.asarray(normal(2, (3, 3, channels, 7)))
        ours = value_and_gradients(convolution, images, kernel)
        reference = value_and_gradients(reference_convolution, images, kernel)
        assert_close(ours, reference, 1e-13)


@pytest.mark.parametrize("channels", [3, 32])
def test_convolution_is_accurate_in_float32(channels):
    images = jnp.asarray(normal(3, (4, 12, 14, channels)), jnp.float32)
    kernel = jnp.asarray(normal(4, (3, 3, channels, 24)), jnp.float32)
    ours = value_and_gradients(convolution, images, kernel)
    reference = value_and_gradients(reference_convolution, images, kernel)
    assert_close(ours, reference, 3e-6)


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


def test_layers_work_in_scan_and_vmap_over_kernels():
    images = jnp.asarray(normal(10, (3, 2, 8, 9, 16)), jnp.float32)
    kernels = jnp.asarray(normal(11, (2, 3, 3, 16, 4)), jnp.float32)

    def total(convolve, pool, kernel, images):
        return (pool(convolve(images, kernel)) ** 2).sum()

    def gradients(convolve, pool):
        def step(carry, batch):
            gradient = jax.grad(total, argnums=2)(convolve, pool, carry, batch)
            return carry - 0.001 * gradient, gradient

        return jax.vmap(lambda kernel: lax.scan(step, kernel, images)[1])(kernels)

    ours = jax.jit(lambda: gradients(convolution, max_pool))()
    reference = gradients(reference_convolution, reference_pool)
    assert_close([ours], [reference], 1e-5)
