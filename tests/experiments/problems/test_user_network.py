"""Users' networks: `init` and logits of their modules, or refused in one line."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.usage_errors import usage_error

from experiments.data.examples import Examples
from experiments.networks.network import random_key
from experiments.problems.user_network import network_functions, network_task
from experiments.user_code import load as load_code

SHAPE, CLASSES = (5, 4, 3), 6
HEAD = """
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

def flat(x):
    return x.reshape(len(x), -1)

class Linen(linen.Module):
    classes: int
    norm: bool = False
    dropout: bool = False

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(self.classes)(flat(x))
        if self.norm:
            x = linen.BatchNorm(use_running_average=False)(x)
        return linen.Dropout(0.5, deterministic=False)(x) if self.dropout else x
"""
# A list of layers, one of them used twice; constants of NumPy and of JAX.
NNX = """
class Network(nnx.Module):
    def __init__(self, image_shape, classes, rngs):
        channels = image_shape[-1]
        layers = [nnx.Linear(c, 4, rngs=rngs) for c in (channels, 4)]
        self.layers = nnx.List([*layers, layers[1]])
        self.mean, self.scale = np.full(channels, 0.5, np.float32), jnp.full(4, 2.0)
        self.head = nnx.Linear(4, classes, rngs=rngs)

    def __call__(self, images):
        x = images - self.mean[None, None, None]
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.head(x.mean((1, 2)) * self.scale[None])

def f(image_shape, classes, rngs):
    return Network(image_shape, classes, rngs)
"""
REFUSED = """
def dense(rngs, *layers):
    return nnx.Sequential(flat, nnx.Linear(60, 6, rngs=rngs), *layers)

class Integers(nnx.Module):
    def __init__(self): self.w = nnx.Param(jnp.ones(6, jnp.int32))
    def __call__(self, x): return x

f = lambda image_shape, classes, rngs: """
LINEN = "f = lambda image_shape, classes, rngs: Linen(classes)"


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "own.py"
    path.write_text(HEAD + text)
    return f"{path}:f"


def task(tmp_path: Path, text: str):
    return network_task("--model", write(tmp_path, text), SHAPE, CLASSES)


def load(tmp_path: Path, text: str):
    """`init(key)` of the network, and its logits, as functions of arrays."""
    reference = write(tmp_path, text)
    function, _ = load_code("--model", reference)
    init, logits_of = network_functions(reference, function, SHAPE, CLASSES)

    def apply(params, images, model_state=(), seed=5, training=False) -> Any:
        batch = Examples(images, jnp.zeros(len(images), jnp.int32))
        logits, _, after = logits_of(
            params, model_state, batch, random_key(seed), training=training
        )
        return (logits, after) if model_state else logits

    return lambda key: init(key, FEW), apply


def images_like(batch: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(4).random((batch, *SHAPE)), jnp.float32)


FEW = Examples(images_like(2), jnp.zeros(2, jnp.int32))


def draw(init):
    params, model_state = jax.jit(init)(jax.random.key(1))
    assert model_state == ()
    return params


def test_nnx_module_is_applied_with_the_given_parameters(tmp_path: Path):
    _, digest = task(tmp_path, NNX)
    assert re.fullmatch("[0-9a-f]{16}", digest)
    init, apply = load(tmp_path, NNX)
    params = draw(init)
    assert jax.tree.map(jnp.shape, params) == {
        "layers": {
            0: {"kernel": (3, 4), "bias": (4,)},
            1: {"kernel": (4, 4), "bias": (4,)},
        },
        "head": {"kernel": (4, 6), "bias": (6,)},
    }
    moved = jax.tree.map(lambda x: x + 0.125, params)

    @jax.jit
    def expected(params, images):
        x = images - 0.5
        for index in (0, 1, 1):
            layer = params["layers"][index]
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None, None, None])
        head = params["head"]
        return 2 * x.mean((1, 2)) @ head["kernel"] + head["bias"][None]

    images = images_like(7)
    logits = jax.jit(apply)(moved, images)
    np.testing.assert_allclose(logits, expected(moved, images), rtol=1e-5, atol=1e-5)


def test_linen_module_is_applied_with_the_given_parameters(tmp_path: Path):
    init, apply = load(tmp_path, LINEN)
    params, images = draw(init), images_like(7)
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {"Dense_0": {"kernel": (60, 6), "bias": (6,)}}
    kernel, bias = params["Dense_0"]["kernel"], params["Dense_0"]["bias"] + 0.5
    expected = np.asarray(images).reshape(7, -1) @ np.asarray(kernel) + 0.5
    logits = jax.jit(apply)({"Dense_0": {"kernel": kernel, "bias": bias}}, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_network_of_the_recipes_is_accepted(tmp_path: Path):
    recipes = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text()
    [example] = re.findall("```python\n(# network.py\n.*?)```", recipes, re.S)
    init, _ = load(tmp_path, f"{example}\nf = network")
    shapes, _ = jax.eval_shape(lambda: init(jax.random.key(0)))
    assert shapes["layers"][4]["kernel"].shape == (96, 6)


@pytest.mark.slow
@pytest.mark.parametrize("text", [NNX, LINEN], ids=["nnx", "linen"])
def test_network_is_a_static_argument_under_vmap_over_seeds(tmp_path, text):
    assert task(tmp_path, text) == task(tmp_path, text)  # so nothing compiles twice
    assert not task(tmp_path, text)[0].whole_batches
    init, apply = load(tmp_path, text)
    images = images_like(3)

    def trained(seed):
        params, _ = init(jax.random.key(seed))

        def step(params, _):
            gradients = jax.grad(lambda p: jnp.square(apply(p, images) - 1).mean())(
                params
            )
            return jax.tree.map(lambda p, g: p - 0.05 * g, params, gradients), None

        params, _ = jax.lax.scan(step, params, length=3)
        return apply(params, images)

    lanes = jax.jit(jax.vmap(trained))(jnp.arange(2))
    alone = jax.jit(trained)
    for seed, lane in enumerate(lanes):
        np.testing.assert_allclose(lane, alone(seed), rtol=1e-4, atol=1e-5)
    assert abs(lanes[0] - lanes[1]).max() > 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Linen(7)",
            "for images [7, 5, 4, 3] the module returned float32 [7, 7]; logits "
            "[batch, classes] are needed: float32 [7, 6].",
        ),
        (
            "dense(rngs, jnp.transpose)",
            "the module returned float32 [6, 7]; logits [batch, classes] are needed: ",
        ),
        (
            "dense(rngs, lambda x: x.astype(jnp.bfloat16))",
            "returned bfloat16 [7, 6]; logits [batch, classes] are needed: float32",
        ),
        (
            "dense(rngs, lambda x: {'logits': x})",
            "the module returned dict; logits [batch, classes] are needed: float32",
        ),
        ("flat", "it returned function; a Flax module is needed, from flax.nnx or "),
        ("nnx.Sequential(flat)", "there are no parameters to train."),
        (
            "Integers()",
            "the parameter ['w'] is int32, which has no gradient; make it floating",
        ),
        (
            "None\nf = lambda image_shape: None",
            "its network for images [5, 4, 3] raised TypeError: ",
        ),
        (
            "nnx.Sequential(flat, nnx.Linear(8, 6, rngs=rngs))",
            "its network for images [5, 4, 3] raised ",
        ),
    ],
)
def test_network_of_the_wrong_kind_is_refused(tmp_path: Path, text: str, message: str):
    prefix = f"--model {tmp_path}/own.py:f: "
    assert message in usage_error(prefix, task, tmp_path, REFUSED + text)


STATEFUL = {
    "nnx": "f = lambda image_shape, classes, rngs: nnx.Sequential("
    "flat, nnx.Linear(60, 6, rngs=rngs), nnx.BatchNorm(6, momentum=0.75, rngs=rngs), "
    "nnx.Dropout(0.5, rngs=rngs))",
    "linen": "f = lambda image_shape, classes, rngs: Switched()",
}
SWITCHED = """
class Switched(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic, use_running_average):
        x = linen.Dense(6)(flat(x))
        x = linen.BatchNorm(use_running_average, momentum=0.75)(x)
        return linen.Dropout(0.5, deterministic=deterministic)(x)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", STATEFUL)
def test_state_and_random_numbers_follow_the_step(tmp_path: Path, kind: str):
    """Statistics move toward those of the batch; keys alone decide what is dropped."""
    text = SWITCHED + STATEFUL[kind]
    assert task(tmp_path, text)[0].whole_batches
    init, apply = load(tmp_path, text)
    params, before = jax.jit(init)(jax.random.key(1))
    images = images_like(7)
    first, after = apply(params, images, before, training=True)
    again, _ = apply(params, images, before, training=True)
    other, _ = apply(params, images, before, 6, training=True)
    np.testing.assert_array_equal(first, again)
    assert ((first == 0) != (other == 0)).any()
    assert 0.2 < float((first == 0).mean()) < 0.8
    kernel = next(leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2)
    plain = images.reshape(7, -1) @ kernel  # the biases are 0
    means = next(
        leaf
        for path, leaf in jax.tree.leaves_with_path(after)
        if "mean" in jax.tree_util.keystr(path)
    )
    np.testing.assert_allclose(means, 0.25 * plain.mean(0), rtol=1e-5, atol=1e-6)
    evaluated, kept = apply(params, images, after)
    jax.tree.map(np.testing.assert_array_equal, kept, after)
    assert (evaluated != 0).all()
    part, _ = apply(params, images[:3], after)
    np.testing.assert_allclose(part, evaluated[:3], rtol=1e-5, atol=1e-6)
