"""Convolution by matrix products against that of lax, including gradients."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType
from support.layers import (
    assert_close,
    in_one_program,
    normal,
    value_and_gradients,
)

from experiments.networks import convolution as convolutions
from experiments.networks.convolution import convolution
from experiments.networks.pooling import max_pool

# Odd and even sizes, not square; with 16 channels or more, another method is used.
CONVOLUTIONS = [(3, 3, 1), (6, 11, 3), (9, 8, 15), (4, 3, 16), (9, 8, 20), (5, 7, 17)]
LAYOUT = ("NHWC", "HWIO", "NHWC")


def reference_convolution(images, kernel):
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=LAYOUT
    )


def reference_pool(images):
    window = (1, 2, 2, 1)
    return lax.reduce_window(images, -jnp.inf, lax.max, window, window, "VALID")


@pytest.mark.slow
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


# Of each side: size, kernel, stride, dilation, padding before and after.
SIDE = st.tuples(
    st.integers(9, 14),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(-1, 3),
    st.integers(-1, 3),
)
GROUPS = [(1, 3, 4), (1, 17, 5), (4, 4, 4), (5, 5, 10), (3, 6, 9)]


@given(st.tuples(SIDE, SIDE), st.sampled_from(GROUPS), st.integers(0, 99))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_any_convolution_equals_that_of_lax(sides, grouped, seed):
    sides = [(max(n, 1 + (k - 1) * d + 2), k, s, d, a, b) for n, k, s, d, a, b in sides]
    sizes, window, strides, dilation, *padding = zip(*sides, strict=True)
    padding = list(zip(*padding, strict=True))
    groups, channels, features = grouped

    def ours(images, kernel):
        return convolution(
            images,
            kernel,
            strides=strides,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )

    def reference(images, kernel):
        return lax.conv_general_dilated(
            images,
            kernel,
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=LAYOUT,
            feature_group_count=groups,
        )

    with jax.enable_x64(True):
        images = jnp.asarray(normal(seed, (2, *sizes, channels)))
        kernel = jnp.asarray(normal(seed + 1, (*window, channels // groups, features)))
        found, expected = in_one_program(ours, reference, images, kernel)
        assert_close(found, expected, 1e-13)


def test_a_large_batch_is_convolved_in_slices(monkeypatch):
    """Of 2 + 2 + 1 images on each device; in global view the batch stays whole."""
    images = jnp.asarray(normal(12, (10, 6, 7, 16)), jnp.float32)
    kernel = jnp.asarray(normal(13, (3, 3, 16, 4)), jnp.float32)
    one_image = 36 * 6 * 7 / 16 * (16 + 4) * 4
    monkeypatch.setattr(convolutions, "_SLICE_BYTES", 2.5 * one_image)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    rows, everywhere = jax.P("x"), jax.P()
    sliced = jax.shard_map(
        convolution, mesh=mesh, in_specs=(rows, everywhere), out_specs=rows
    )
    ours = value_and_gradients(sliced, images, kernel)
    assert_close(ours, value_and_gradients(reference_convolution, images, kernel), 1e-5)
    tangents = images[::-1], kernel[::-1]
    forward = jax.jvp(sliced, (images, kernel), tangents)
    expected = jax.jvp(reference_convolution, (images, kernel), tangents)
    assert_close(forward, expected, 1e-5)
    loops = [
        "stablehlo.while" in jax.jit(function).lower(images, kernel).as_text()
        for function in (sliced, convolution)
    ]
    assert loops == [True, False]


@pytest.mark.slow
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
