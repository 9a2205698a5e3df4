"""Users' networks: functions of their parameters alone, or refused in one line."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.usage_errors import usage_error

from experiments.networks.user_network import network

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


def load(tmp_path: Path, text: str):
    path = tmp_path / "own.py"
    path.write_text(HEAD + text)
    return network("--model", f"{path}:f", SHAPE, CLASSES)


def images_like(batch: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(4).random((batch, *SHAPE)), jnp.float32)


def draw(model):
    init = jax.jit(model.init, static_argnums=(1, 2))
    return init(jax.random.key(1), SHAPE, CLASSES)


def test_nnx_module_is_applied_with_the_given_parameters(tmp_path: Path):
    model, digest = load(tmp_path, NNX)
    assert re.fullmatch("[0-9a-f]{16}", digest)
    params = draw(model)
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
    logits = jax.jit(model.apply)(moved, images)
    np.testing.assert_allclose(logits, expected(moved, images), rtol=1e-5, atol=1e-5)


def test_linen_module_is_applied_with_the_given_parameters(tmp_path: Path):
    model, _ = load(tmp_path, LINEN)
    params, images = draw(model), images_like(7)
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {"Dense_0": {"kernel": (60, 6), "bias": (6,)}}
    kernel, bias = params["Dense_0"]["kernel"], params["Dense_0"]["bias"] + 0.5
    expected = np.asarray(images).reshape(7, -1) @ np.asarray(kernel) + 0.5
    logits = jax.jit(model.apply)({"Dense_0": {"kernel": kernel, "bias": bias}}, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_network_of_the_recipes_is_accepted(tmp_path: Path):
    recipes = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text()
    [example] = re.findall("```python\n(# network.py\n.*?)```", recipes, re.S)
    model, _ = load(tmp_path, f"{example}\nf = network")
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), SHAPE, CLASSES))
    assert shapes["layers"][4]["kernel"].shape == (96, 6)


@pytest.mark.parametrize("text", [NNX, LINEN], ids=["nnx", "linen"])
def test_network_is_a_static_argument_under_vmap_over_seeds(tmp_path, text):
    model, _ = load(tmp_path, text)
    assert load(tmp_path, text)[0] == model  # so nothing compiles twice
    images = images_like(3)

    def trained(network, seed):
        params = network.init(jax.random.key(seed), SHAPE, CLASSES)

        def step(params, _):
            gradients = jax.grad(
                lambda p: jnp.square(network.apply(p, images) - 1).mean()
            )(params)
            return jax.tree.map(lambda p, g: p - 0.05 * g, params, gradients), None

        params, _ = jax.lax.scan(step, params, length=3)
        return network.apply(params, images)

    def over_seeds(network, seeds):
        return jax.vmap(lambda seed: trained(network, seed))(seeds)

    lanes = jax.jit(over_seeds, static_argnums=0)(model, jnp.arange(2))
    alone = jax.jit(trained, static_argnums=0)
    for seed, lane in enumerate(lanes):
        np.testing.assert_allclose(lane, alone(model, seed), rtol=1e-4, atol=1e-5)
    assert abs(lanes[0] - lanes[1]).max() > 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "dense(rngs, nnx.BatchNorm(6, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))",
            "the module has BatchStat, RngCount, RngKey besides its parameters, but a "
            "run must be a function of the parameters alone. Replace BatchNorm with "
            "LayerNorm or GroupNorm, and omit Dropout.",
        ),
        (
            "Linen(classes, norm=True)",
            "the module has batch_stats besides its parameters, but a run must be a ",
        ),
        (
            "Linen(classes, dropout=True)",
            'raised InvalidRngError at line 19: Dropout_0 needs PRNG for "dropout"',
        ),
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
        ("nnx.Sequential(flat)", "the module has no parameters to train."),
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
def test_network_that_is_not_pure_is_refused(tmp_path: Path, text: str, message: str):
    prefix = f"--model {tmp_path}/own.py:f: "
    assert message in usage_error(prefix, load, tmp_path, REFUSED + text)
