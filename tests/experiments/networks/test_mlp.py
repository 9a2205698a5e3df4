"""The multilayer perceptron: its parameters and its function."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.networks import mlp

SHAPE = (4, 3, 2)


def test_init_draws_glorot_uniform_kernels_and_zero_biases():
    params = mlp.init(jax.random.key(1), SHAPE, 5)
    sizes = {"dense1": (24, 64), "dense2": (64, 5)}
    assert {name: layer["kernel"].shape for name, layer in params.items()} == sizes
    for layer in params.values():
        inputs, outputs = layer["kernel"].shape
        bound = np.sqrt(6 / (inputs + outputs))
        assert 0.9 * bound < np.abs(layer["kernel"]).max() <= bound
        np.testing.assert_array_equal(layer["bias"], np.zeros(outputs))
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_init_is_a_function_of_its_key():
    first, same, other = (mlp.init(jax.random.key(k), SHAPE, 5) for k in (1, 1, 2))
    np.testing.assert_array_equal(first["dense1"]["kernel"], same["dense1"]["kernel"])
    assert (first["dense1"]["kernel"] != other["dense1"]["kernel"]).any()


def test_apply_is_two_dense_layers_with_relu_between():
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32),
        mlp.init(jax.random.key(0), SHAPE, 5),
    )
    images = rng.random((7, *SHAPE), dtype=np.float32)
    dense1, dense2 = jax.tree.map(np.float64, (params["dense1"], params["dense2"]))
    hidden = np.maximum(images.reshape(7, -1) @ dense1["kernel"] + dense1["bias"], 0)
    expected = hidden @ dense2["kernel"] + dense2["bias"]
    got = mlp.apply(params, jnp.asarray(images))
    np.testing.assert_allclose(got, expected, 1e-5, 1e-4)
