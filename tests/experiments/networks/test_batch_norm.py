"""BatchNorm equals PyTorch's, alone and in a ResNet with momentum and weight decay."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from golden.problem import load
from jax.sharding import AxisType

from experiments.data.examples import Examples
from experiments.networks.batch_norm import BatchNorm
from experiments.networks.network import random_key
from experiments.networks.resnet import ResNet, resnet18
from experiments.optimizers.arms import with_decay
from experiments.problems.flax_modules import from_nnx
from experiments.problems.image_classification import cross_entropy
from experiments.records.config import UsageError
from optax_momentum import heavy_ball

GOLDEN = load("pytorch_resnet")
RUN = GOLDEN.runs["resnet"]
NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean"}
NAMES["var"] = "running_var"


def in_pytorchs_place(path: tuple, leaf: jax.Array, recorded: dict) -> np.ndarray:
    """The recorded array of a leaf, in the layout that the leaf has here."""
    *modules, name = (str(getattr(key, "key", key)) for key in path)
    array = recorded[".".join([*modules, NAMES.get(name, name)])]
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)  # [height, width, inputs, outputs]
    elif array.ndim == 2:
        array = array.T
    assert array.shape == leaf.shape
    return array


def make(rngs: nnx.Rngs) -> ResNet:
    return ResNet(3, 4, widths=(8, 16), blocks=1, dtype=jnp.float64, rngs=rngs)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_a_narrow_resnet_trains_as_in_pytorch():
    """Twenty steps of SGD(0.1, 0.9, Nesterov, decay 5e-4) in float64."""
    init, logits_of = from_nnx(make, lambda module, batch: (module(batch.images), {}))
    loss = cross_entropy(logits_of)
    variables = init(random_key(0), None)
    place = jax.tree_util.tree_map_with_path

    def recorded(when: str):
        return place(
            lambda path, x: jnp.asarray(in_pytorchs_place(path[1:], x, RUN[when])),
            variables,
        )

    params, model_state = recorded("before")
    optimizer = with_decay(
        optax.chain(heavy_ball(0.9, nesterov=True), optax.scale_by_learning_rate(0.1)),
        5e-4,
    )
    opt_state = optimizer.init(params)

    @jax.jit
    def step(params, opt_state, model_state, batch):
        def mean(params):
            losses, _, after = loss(
                params, model_state, batch, random_key(0), training=True
            )
            return losses.mean(), after

        gradients, model_state = jax.grad(mean, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, model_state

    images = GOLDEN.problem["images"].astype(np.float64).transpose(0, 1, 3, 4, 2)
    for batch in zip(images, GOLDEN.problem["labels"].astype(np.int32), strict=True):
        examples = Examples(*map(jnp.asarray, batch))
        params, opt_state, model_state = step(params, opt_state, model_state, examples)
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path((params, model_state)),
        jax.tree.leaves(recorded("after")),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, 1e-9, 1e-9, err_msg=str(path))
    first = Examples(jnp.asarray(images[0]), jnp.zeros(6, jnp.int32))
    logits, *_ = logits_of(params, model_state, first, random_key(0), training=False)
    np.testing.assert_allclose(logits, RUN["logits"]["0"], 1e-8, 1e-8)


def test_running_statistics_follow_with_the_unbiased_variance():
    x = np.random.default_rng(3).normal(2, 3, (4, 2, 5)).astype(np.float32)
    norm = BatchNorm(5, share=0.3)
    y = norm(jnp.asarray(x))
    flat = x.reshape(8, 5).astype(np.float64)
    expected = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.3 * flat.mean(0), rtol=1e-5)
    var = 0.7 + 0.3 * flat.var(0, ddof=1)
    np.testing.assert_allclose(norm.var[...], var, rtol=1e-5)
    norm.eval()
    evaluated = (x - 0.3 * flat.mean(0)) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(x)), evaluated, rtol=1e-4, atol=1e-5)


def test_devices_that_share_a_batch_have_its_statistics():
    x = jnp.asarray(np.random.default_rng(4).normal(2, 3, (6, 2, 5)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(5).normal(size=x.shape), jnp.float32)

    def normalized(x, weights, axis_name=None):
        def with_statistics(x):
            norm = BatchNorm(5, use_scale=False, axis_name=axis_name)
            return norm(x), (norm.mean[...], norm.var[...])

        y, pull, statistics = jax.vjp(with_statistics, x, has_aux=True)
        return y, pull(weights)[0], *statistics

    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    rows, everywhere = jax.P("x"), jax.P()
    shared = jax.shard_map(
        partial(normalized, axis_name="x"),
        mesh=mesh,
        in_specs=rows,
        out_specs=(rows, rows, everywhere, everywhere),
    )
    for ours, whole in zip(shared(x, weights), normalized(x, weights), strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-5, atol=1e-6)


def test_a_batch_of_one_value_is_refused():
    norm = BatchNorm(5)
    with pytest.raises(UsageError, match="one value a channel has no variance: choose"):
        norm(jnp.ones((1, 5)))
    norm.eval()
    assert norm(jnp.ones((1, 5))).shape == (1, 5)


def test_resnet18_has_the_usual_number_of_parameters():
    shapes = nnx.eval_shape(lambda: resnet18((32, 32, 3), 10, nnx.Rngs(0)))
    params = jax.tree.leaves(nnx.state(shapes, nnx.Param))
    assert sum(leaf.size for leaf in params) == 11_173_962
