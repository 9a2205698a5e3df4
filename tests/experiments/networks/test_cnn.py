"""The tutorial's CNN: its parameters, its function, its operations per platform."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from support.usage_errors import usage_error

from experiments.networks import cnn

init = jax.jit(cnn.init, static_argnums=(1, 2))  # one program instead of many


def images_like(shape, *, batch=6):
    return jnp.asarray(np.random.default_rng(0).random((batch, *shape)), jnp.float32)


def drawn(shape, classes):
    """Parameters as after training, with biases that are not 0.

    They don't come from `init`, which takes seconds to compile for each shape.
    """
    random = np.random.default_rng(5)

    def draw(leaf):
        fans = np.prod(leaf.shape[:-1]) + leaf.shape[-1]
        mean, scale = (0, np.sqrt(2 / fans)) if leaf.ndim > 1 else (0.02, 0.005)
        return jnp.asarray(random.normal(mean, scale, leaf.shape), jnp.float32)

    key = jax.random.key(0)
    return jax.tree.map(draw, jax.eval_shape(lambda: cnn.init(key, shape, classes)))


def assert_close(ours, reference):
    tolerance = 1e-5 * np.abs(reference).max()
    np.testing.assert_allclose(ours, reference, rtol=0, atol=tolerance)


def cross_entropy(apply, params, images, labels):
    scores = jax.nn.log_softmax(apply(params, images))
    return -jnp.take_along_axis(scores, labels[:, None], axis=1).mean()


def tutorial_apply(params, images):
    """The tutorial's network, built from stock operations."""

    def convolve(x, layer):
        kernel, bias = params[layer]["kernel"], params[layer]["bias"]
        layout: Any = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        x = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", **layout)
        return nnx.relu(x + bias[None, None, None])

    def dense(x, layer):
        return x @ params[layer]["kernel"] + params[layer]["bias"][None]

    x = nnx.max_pool(convolve(images, "conv1"), (2, 2), (2, 2))
    x = nnx.max_pool(convolve(x, "conv2"), (2, 2), (2, 2))
    x = convolve(x, "conv3")
    x = nnx.relu(dense(x.reshape(x.shape[0], -1), "dense1"))
    return dense(x, "dense2")


def training_step(apply):
    def step(params, batch):
        value_and_grad = jax.value_and_grad(cross_entropy, argnums=1)
        loss, gradients = value_and_grad(apply, params, *batch)
        return jax.tree.map(lambda p, g: p - 0.03 * g, params, gradients), loss

    return step


@pytest.mark.slow
def test_init_draws_122570_parameters_as_in_the_tutorial():
    params = init(jax.random.key(1), (32, 32, 3), 10)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 122_570
    assert jax.tree.map(jnp.shape, params) == {
        "conv1": {"kernel": (3, 3, 3, 32), "bias": (32,)},
        "conv2": {"kernel": (3, 3, 32, 64), "bias": (64,)},
        "conv3": {"kernel": (3, 3, 64, 64), "bias": (64,)},
        "dense1": {"kernel": (1024, 64), "bias": (64,)},
        "dense2": {"kernel": (64, 10), "bias": (10,)},
    }


def test_init_gives_glorot_uniform_kernels_and_zero_biases():
    params = init(jax.random.key(2), (32, 32, 3), 10)
    for layer in params.values():
        assert type(layer) is dict
        assert not layer["bias"].any()
        *window, inputs, outputs = layer["kernel"].shape
        bound = np.sqrt(6 / (np.prod(window) * (inputs + outputs)))
        assert layer["kernel"].dtype == jnp.float32
        assert 0.95 * bound < jnp.abs(layer["kernel"]).max() <= bound
        np.testing.assert_allclose(layer["kernel"].std(), bound / 3**0.5, rtol=0.1)


@pytest.mark.slow
def test_init_is_a_function_of_the_key():
    first, same, other = (init(jax.random.key(k), (18, 18, 3), 5) for k in (3, 3, 4))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, first, same))
    assert (first["conv2"]["kernel"] != other["conv2"]["kernel"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "classes"), [((24, 24, 1), 10), ((28, 28, 1), 47), ((32, 32, 3), 100)]
)
def test_loss_and_gradients_equal_those_of_stock_operations(shape, classes):
    params = drawn(shape, classes)
    images, labels = images_like(shape), jnp.arange(6) % classes
    assert jax.eval_shape(cnn.apply, params, images).shape == (6, classes)
    function = jax.jit(jax.value_and_grad(cross_entropy, argnums=1), static_argnums=0)
    ours, reference = (
        function(apply, params, images, labels) for apply in (cnn.apply, tutorial_apply)
    )
    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
    jax.tree.map(close, ours, reference)


@pytest.mark.slow
def test_training_in_scan_and_vmap_follows_stock_operations_step_by_step():
    shape, classes = (20, 18, 1), 4
    params = jax.tree.map(lambda x: jnp.stack([x, x * 1.1]), drawn(shape, classes))
    images = images_like(shape, batch=24).reshape(3, 8, *shape)
    labels = jnp.arange(24).reshape(3, 8) % classes

    def train(apply):
        def epoch(params):
            return lax.scan(training_step(apply), params, (images, labels))

        return jax.jit(jax.vmap(epoch))(params)

    jax.tree.map(assert_close, train(cnn.apply), train(tutorial_apply))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_use_the_ordinary_operations(platform):
    params, images = drawn((18, 18, 3), 5), images_like((18, 18, 3))
    gradient = jax.jit(jax.grad(cross_entropy, argnums=1), static_argnums=0)
    traced = gradient.trace(cnn.apply, params, images, jnp.arange(6) % 5)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    # Three forward, three for gradients of kernels, two for gradients of inputs.
    assert text.count("stablehlo.convolution") == 8
    assert text.count("stablehlo.select_and_scatter") == 2


def test_cpu_uses_neither_convolution_nor_scatter():
    params, images = drawn((18, 18, 3), 5), images_like((18, 18, 3))
    gradient = jax.jit(jax.grad(lambda params, x: cnn.apply(params, x).sum()))
    text = gradient.lower(params, images).as_text()
    assert "stablehlo.convolution" not in text and "scatter" not in text


@pytest.mark.parametrize("shape", [(17, 32, 3), (8, 8, 1), (40, 17, 1)])
def test_init_refuses_images_that_are_too_small(shape):
    prefix = f"images are {shape[0]}x{shape[1]}, but this network needs at least "
    message = usage_error(prefix, cnn.init, jax.random.key(0), shape, 10)
    assert message == "18x18 pixels: enlarge them."
