"""Networks with their slow operations replaced, against the networks as they are."""

import logging
from functools import partial

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import export, lax
from jax.sharding import AxisType, PartitionSpec
from support.layers import assert_close, normal, value_and_gradients

from experiments.networks.batch_norm import BatchNorm
from experiments.networks.on_cpu import fast_on_cpu
from experiments.problems.flax_modules import from_nnx

LAYOUT = ("NHWC", "HWIO", "NHWC")
convolve = partial(
    lax.conv_general_dilated,
    window_strides=(1, 1),
    padding="SAME",
    dimension_numbers=LAYOUT,
)


def pool(x, window=(2, 2), strides=(2, 2), padding="VALID"):
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), padding
    )


def layer(images, kernel, bias):
    """Convolution, bias, ReLU and pooling, which drops an odd row and column."""
    return pool(jax.nn.relu(convolve(images, kernel) + bias.reshape(1, 1, 1, -1)))


def operands(height=7, width=9, channels=16, features=5):
    shapes = (2, height, width, channels), (3, 3, channels, features), (features,)
    return [jnp.asarray(normal(seed, shape)) for seed, shape in enumerate(shapes)]


def compiled(function, *operands):
    """The program as XLA gets it."""
    return jax.jit(function).lower(*operands).as_text()


def check(function, *operands, tolerance=1e-12, left=()):
    """Values and gradients are equal, and no slow operation is left but those named."""
    ours = value_and_gradients(fast_on_cpu(function), *operands)
    assert_close(ours, value_and_gradients(function, *operands), tolerance)
    program = compiled(fast_on_cpu(function), *operands)
    for slow in ("convolution", "reduce_window", "select_and_scatter"):
        assert (f"stablehlo.{slow}" in program) == (slow in left)


pytestmark = pytest.mark.usefixtures("float64")


class Network(nnx.Module):
    """One of each: strides, padding, 1×1, depthwise, grouped, BatchNorm, poolings."""

    def __init__(self, rngs):
        conv = partial(nnx.Conv, param_dtype=jnp.float64, rngs=rngs)
        self.first = conv(3, 16, (3, 3))
        self.norm = BatchNorm(16, dtype=jnp.float64)
        self.strided = conv(16, 16, (3, 3), strides=2)
        self.depthwise = conv(16, 16, (5, 5), feature_group_count=16)
        self.grouped = conv(16, 24, (2, 3), feature_group_count=4, padding="VALID")
        self.dilated = conv(24, 8, (3, 3), kernel_dilation=2)
        self.pointwise = conv(8, 10, (1, 1))

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm(self.first(x))), (3, 3), (2, 2), "SAME")
        x = self.depthwise(nnx.gelu(self.strided(x)))
        x = nnx.avg_pool(nnx.silu(self.grouped(x)), (2, 2))
        return self.pointwise(self.dilated(x)).mean((1, 2))


@pytest.fixture
def promotion():
    """Flax promotes dtypes."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("promotion")
def test_a_network_of_flax_nnx_equals_itself():
    init, loss = from_nnx(Network, lambda module, x: (module(x).sum(-1), {}))
    images = jnp.asarray(normal(3, (4, 21, 18, 3)))
    params, model_state = init(jax.random.key(1), images)

    def apply(params, images):
        return loss(params, model_state, images, jax.random.key(2), training=True)

    check(apply, params, images)


@pytest.mark.slow
@pytest.mark.usefixtures("promotion")
def test_a_network_of_flax_linen_equals_itself():
    class Small(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Conv(20, (3, 3), param_dtype=jnp.float64)(x))
            x = linen.max_pool(x, (2, 2), (2, 2))
            return linen.avg_pool(x, (3, 3))

    images = jnp.asarray(normal(3, (2, 11, 13, 3)))
    params = Small().init(jax.random.key(0), images)
    check(Small().apply, params, images)


@pytest.mark.slow
def test_a_network_of_equinox_equals_itself():
    """Its layers take one image, channels first, and are batched by vmap."""
    keys = jax.random.split(jax.random.key(0))
    network = equinox.nn.Sequential(
        [
            equinox.nn.Conv2d(3, 16, 3, key=keys[0]),
            equinox.nn.Lambda(jax.nn.relu),
            equinox.nn.MaxPool2d(2, 2),
            equinox.nn.Conv2d(16, 8, 4, stride=2, padding=1, groups=2, key=keys[1]),
            equinox.nn.AvgPool2d(2, 1),
        ]
    )
    params, static = equinox.partition(network, equinox.is_array)

    def apply(params, images):
        return jax.vmap(equinox.combine(params, static))(images)

    check(apply, params, jnp.asarray(normal(3, (2, 3, 17, 20))))


def test_relu_and_pooling_commute_and_unused_rows_are_not_computed():
    images, kernel, bias = operands()
    check(layer, images, kernel, bias)
    on_cpu = compiled(fast_on_cpu(layer), images, kernel, bias)
    assert "tensor<2x7x9x5xf64>" not in on_cpu  # only 6×8 outputs are pooled
    relus = [line for line in on_cpu.splitlines() if "call @relu" in line]
    assert relus and all("tensor<2x3x4x5xf64>" in line for line in relus)


def test_equal_maxima_and_zeros_have_the_gradients_that_they_have():
    """With few channels, whose products of whole numbers are exact."""
    images, kernel, bias = (jnp.round(x) for x in operands(channels=3))
    check(layer, images, kernel, bias)
    check(lambda x: pool(x, (3, 3), (1, 2), "SAME"), images)


@jax.custom_jvp
def straight_through(x):
    """ReLU with another derivative."""
    return jnp.maximum(x, 0)


straight_through.defjvp(lambda x, dx: (straight_through(*x), 2 * dx[0]))


@pytest.mark.slow
@pytest.mark.parametrize("used", ["relu", "convolution"])
def test_what_is_used_elsewhere_too_is_not_changed(used):
    def apply(images, kernel, bias):
        y = convolve(images, kernel)
        z = jax.nn.relu(y + bias.reshape(1, 1, 1, -1))
        return pool(z), (z if used == "relu" else y).sum((0, 1))

    check(apply, *operands())


def test_a_relu_before_the_bias_stays_there():
    def apply(images, kernel, bias):
        y = jax.nn.relu(convolve(jnp.round(images), kernel))
        return pool(y + bias.reshape(1, 1, 1, -1)), pool(jax.nn.relu(y))

    check(apply, *operands())


def test_a_window_of_padding_alone_stays_minus_infinity():
    def apply(x):
        window, sides = (1, 2, 2, 1), ((0, 0), (2, 0), (0, 0), (0, 0))
        return lax.reduce_window(
            jax.nn.relu(x), -jnp.inf, lax.max, window, window, sides
        )

    x = operands()[0]
    pooled = fast_on_cpu(apply)(x)
    assert jnp.isneginf(pooled[:, 0]).all()
    np.testing.assert_array_equal(pooled, apply(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        lambda x: jnp.maximum(x, 0),  # half a gradient at 0
        lambda x: jnp.maximum(x, 0.1),
        jax.nn.relu6,
        lambda x: straight_through(x),
        jax.nn.gelu,
    ],
)
def test_other_activations_stay_before_the_pooling(other):
    check(lambda x, k: pool(other(convolve(jnp.round(x), k))), *operands()[:2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap",
    [
        jax.jit,
        jax.checkpoint,
        lambda f: jax.checkpoint(f, policy=jax.checkpoint_policies.everything_saveable),
        lambda f: lambda x, *rest: lax.map(lambda y: f(y[None], *rest), x),
        lambda f: (
            lambda x, *rest: lax.scan(
                lambda carry, y: (carry + f(y[None], *rest).sum(), carry), 0.0, x
            )
        ),
        lambda f: (
            lambda x, *rest: lax.cond(x.sum() > 0, f, lambda *args: -f(*args), x, *rest)
        ),
        lambda f: (
            lambda x, *rest: jax.vmap(f, (None, 0, None))(
                x, jnp.stack([rest[0], -rest[0]]), rest[1]
            )
        ),
    ],
    ids=["jit", "checkpoint", "policy", "map", "scan", "cond", "vmap"],
)
def test_operations_within_others_are_replaced(wrap):
    check(wrap(layer), *operands())


def test_operations_in_a_while_loop_are_replaced():
    images, kernel, _ = operands(features=16)

    def apply(x, kernel):
        return lax.while_loop(
            lambda x: jnp.sum(pool(x)) > 1.0, lambda x: 0.01 * convolve(x, kernel), x
        )

    ours, theirs = fast_on_cpu(apply)(images, kernel), apply(images, kernel)
    assert_close([ours], [theirs], 1e-12)
    assert "stablehlo.convolution" not in compiled(fast_on_cpu(apply), images, kernel)


def test_it_works_under_grad_vmap_scan_and_shard_map():
    images, kernel, bias = operands()
    images = jnp.stack([images, 2 * images])

    def gradients(apply):
        def loss(kernel, images):
            return (apply(images, kernel, bias) ** 2).mean()

        def step(kernel, images):
            return kernel - 0.1 * jax.grad(loss)(kernel, images), loss(kernel, images)

        def on_device(kernels, images):
            return jax.vmap(lambda kernel: lax.scan(step, kernel, images))(kernels)

        mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
        return jax.jit(
            jax.shard_map(
                on_device,
                mesh=mesh,
                in_specs=(PartitionSpec("x"), PartitionSpec()),
                out_specs=PartitionSpec("x"),
            )
        )(jnp.stack([kernel, -kernel]), images)

    assert_close(gradients(fast_on_cpu(layer)), gradients(layer), 1e-12)


@pytest.mark.slow
def test_forward_mode_works_where_windows_are_not_2_by_2():
    def apply(x, kernel):
        return pool(convolve(x, kernel), (3, 3))

    images, kernel, _ = operands()
    tangents = images[::-1], kernel[::-1]
    ours = jax.jvp(fast_on_cpu(apply), (images, kernel), tangents)
    assert_close(ours, jax.jvp(apply, (images, kernel), tangents), 1e-12)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_have_the_operations_as_they_are(platform):
    images, kernel, bias = (x.astype(jnp.float32) for x in operands())
    gradient = jax.grad(lambda *x: fast_on_cpu(layer)(*x).sum(), argnums=1)
    exported = export.export(jax.jit(gradient), platforms=[platform])
    program = exported(images, kernel, bias).mlir_module()
    assert "stablehlo.convolution" in program
    assert "stablehlo.select_and_scatter" in program


def test_arguments_that_are_no_arrays_are_passed_as_they_are():
    def apply(params, *, training, name):
        images, kernel = params["x"], params["kernel"]
        result = convolve(images, kernel) if training is True else images
        return {"result": result, "names": [None, len(name)]}

    images, kernel, _ = operands()
    params = {"x": images, "kernel": kernel}
    ours = fast_on_cpu(apply)(params, training=True, name="abc")
    theirs = apply(params, training=True, name="abc")
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    assert_close([ours["result"]], [theirs["result"]], 1e-12)
    unchanged = fast_on_cpu(apply)(params, training=False, name="abc")
    assert unchanged["result"] is images


def transposed(x, kernel):
    return lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=LAYOUT)


@jax.custom_vjp
def own(x, kernel):
    return convolve(x, kernel)


own.defvjp(lambda x, k: (own(x, k), (x, k)), lambda xk, g: jax.vjp(convolve, *xk)[1](g))


@pytest.mark.parametrize(
    ("apply", "dtype", "said"),
    [
        (transposed, "float64", "its input is dilated"),
        (own, "float64", "it is inside custom_vjp_call"),
        (convolve, "bfloat16", "it is of bfloat16"),
    ],
)
def test_what_is_not_replaced_runs_as_it_is_and_is_named(apply, dtype, said, caplog):
    images, kernel, _ = (x.astype(dtype) for x in operands())
    with caplog.at_level(logging.WARNING):
        ours = value_and_gradients(fast_on_cpu(apply), images, kernel)
    (line,) = {record.getMessage() for record in caplog.records}
    assert line.startswith("fast_on_cpu leaves conv_general_dilated of ")
    assert said in line
    reference = value_and_gradients(apply, images, kernel)
    for a, b in zip(ours, reference, strict=True):
        np.testing.assert_array_equal(a, b)


def test_own_derivatives_without_slow_operations_are_kept():
    @jax.custom_vjp
    def doubled(x):
        return x

    doubled.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))

    def apply(x, kernel):
        return doubled(convolve(x, kernel))

    check(apply, *operands()[:2])
