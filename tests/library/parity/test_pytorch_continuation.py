"""A CNN's PyTorch run, converted to JAX in the middle, continues as in PyTorch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.problem import load

from optax_momentum import sgd
from optax_momentum.convert import (
    CONVOLUTION,
    LINEAR,
    flattened,
    from_arrays,
    from_torch,
    to_arrays,
    to_torch,
)

GOLDEN = load("pytorch_cnn")
BEFORE, AFTER = GOLDEN.runs["cnn"]["before"], GOLDEN.runs["cnn"]["after"]
GROUP = GOLDEN.settings["cnn"].options  # PyTorch's parameter group.

PATHS = {  # PyTorch's names → paths here, in the order of PyTorch's indices.
    "0.weight": "conv1/kernel",
    "0.bias": "conv1/bias",
    "3.weight": "conv2/kernel",
    "3.bias": "conv2/bias",
    "6.weight": ("dense", "kernel"),
    "6.bias": ("dense", "bias"),
    "8.weight": ("logits", "kernel"),
    "8.bias": ("logits", "bias"),
}
NAMES = dict(enumerate(PATHS.values()))
LAYOUT = {
    "conv1/kernel": CONVOLUTION,
    "conv2/kernel": CONVOLUTION,
    "dense/kernel": flattened(channels=4, height=3, width=5),
    "logits/kernel": LINEAR,
}
SHAPES = {
    "conv1": {"kernel": (3, 3, 2, 3), "bias": (3,)},
    "conv2": {"kernel": (3, 3, 3, 4), "bias": (4,)},
    "dense": {"kernel": (60, 7), "bias": (7,)},
    "logits": {"kernel": (7, 7), "bias": (7,)},
}
pytestmark = pytest.mark.usefixtures("float64")


def shapes() -> Any:
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float64),
        SHAPES,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def state_dict() -> dict[str, Any]:
    """Returns the state of PyTorch's optimizer at the conversion."""
    buffers = {int(i): {"momentum_buffer": b} for i, b in BEFORE["buffers"].items()}
    return {"state": buffers, "param_groups": [GROUP]}


def convolve(layer, images):
    axes = ("NHWC", "HWIO", "NHWC")
    maps = jax.lax.conv_general_dilated(
        images, layer["kernel"], (1, 1), "SAME", dimension_numbers=axes
    )
    return jax.nn.relu(maps + layer["bias"][None, None, None])


def loss(params, images, labels):
    images = images.transpose(0, 2, 3, 1)
    maps = convolve(params["conv1"], images)
    n, height, width, channels = maps.shape
    pools = maps.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    flat = convolve(params["conv2"], pools).reshape(n, -1)
    hidden = flat @ params["dense"]["kernel"] + params["dense"]["bias"][None]
    logits = jax.nn.relu(hidden) @ params["logits"]["kernel"]
    logits = logits + params["logits"]["bias"][None]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def test_a_converted_pytorch_run_continues_as_in_pytorch():
    assert (GROUP["momentum"], GROUP["nesterov"]) == (0.9, True)
    assert (GROUP["lr"], GROUP["weight_decay"]) == (0.05, 0.02)
    optimizer = sgd(0.05, 0.9, nesterov=True, weight_decay=0.02)
    params = from_arrays(BEFORE["weights"], shapes(), PATHS, LAYOUT)
    state: Any = from_torch(state_dict(), params, NAMES, LAYOUT, step=10)

    @jax.jit
    def step(params, state, images, labels):
        gradients = jax.grad(loss)(params, images, labels)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    steps = len(GOLDEN.problem["images"])
    assert steps == 12
    moved = 0.0
    for t in range(steps):
        images, labels = (GOLDEN.problem[name][t] for name in ("images", "labels"))
        params, state = step(params, state, images, labels)
        weights = to_arrays(params, PATHS, LAYOUT)
        entries = to_torch(state, state_dict(), NAMES, LAYOUT)["state"]
        for name, expected in AFTER["weights"].items():
            np.testing.assert_allclose(weights[name], expected[t], 1e-9, 1e-12)
            moved = max(moved, abs(expected[t] - BEFORE["weights"][name]).max())
        for index, expected in AFTER["buffers"].items():
            got = entries[int(index)]["momentum_buffer"]
            np.testing.assert_allclose(got, expected[t], 1e-9, 1e-12)
    assert state.step == 10 + steps
    assert moved > 0.05


def test_a_pytorch_run_converts_back_bit_for_bit():
    params = from_arrays(BEFORE["weights"], shapes(), PATHS, LAYOUT)
    assert jax.tree.map(jnp.shape, params) == SHAPES
    weights = to_arrays(params, PATHS, LAYOUT)
    for name, expected in BEFORE["weights"].items():
        np.testing.assert_array_equal(weights[name], expected, strict=True)
    state = from_torch(state_dict(), params, NAMES, LAYOUT)
    back = to_torch(state, state_dict(), NAMES, LAYOUT)
    assert back["param_groups"] == [GROUP]
    for index, entry in state_dict()["state"].items():
        got = back["state"][index]["momentum_buffer"]
        np.testing.assert_array_equal(got, entry["momentum_buffer"], strict=True)
