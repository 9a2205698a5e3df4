"""The recipe: what is trained, how each step changes it, and how it is judged.

Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498.
"""

import math
from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Bool, Int, PyTree

from experiments.networks.network import Images, ImageShape, Logits, RandomKey
from experiments.networks.whitened import WhitenedCNN, Whitening, whitening_kernel
from experiments.problems.augmentations import moved, reflected
from experiments.problems.image_classification import as_floats, cross_entropy
from experiments.problems.problem import Loss, LossResult
from optax_momentum import (
    effective_learning_rate,
    heavy_ball,
    heavy_ball_coefficients,
    outer_loop,
    sgd,
)

EPOCHS = 9.9
OPERATIONS = 0.36e15  # floating-point ones of a run on CIFAR-10, as published
BETA = 0.85
# Where the step of a constant gradient of the mean loss settles, for 1,024 images. The
# published 11.5 counts one gradient more: 11.5 = 1.5·(1 + 1/(1 − β)), 10 = 1.5/(1 − β).
SETTLED_RATE = 10.0
DECAY = 0.0153 / 11.5  # times a parameter, added to the gradient of the mean loss
BIAS_FACTOR = 64.0  # of the learning rate, for biases of BatchNorm; divides their decay
WHITENING_EPOCHS = 3  # in which the bias of the whitening layer is trained
WARMUP, FIRST, LAST = 0.23, 0.2, 0.07  # the rate rises from FIRST to 1, falls to LAST
LOOKAHEAD_STEPS = 5
LABEL_SMOOTHING = 0.2
SHIFT = 2  # pixels
WHITENING_IMAGES = 5_000
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10


class Length(NamedTuple):
    """How long a run is, in steps."""

    per_epoch: int  # the images that fill no batch are left out
    total: int

    @property
    def epochs(self) -> int:
        """Epochs, the last of which may be shorter."""
        return -(-self.total // self.per_epoch)


class Recipe(NamedTuple):
    """All that the runs of a plan share."""

    image_shape: ImageShape
    classes: int
    batch_size: int
    length: Length
    dtype: DTypeLike
    widths: tuple[int, ...] = (64, 256, 256)  # of the groups


def length(images: int, batch_size: int, epochs: float) -> Length:
    """Steps of a run that takes so many epochs."""
    per_epoch = images // batch_size
    return Length(per_epoch, max(1, math.ceil(per_epoch * epochs)))


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Nesterov momentum inside Lookahead, on parameters and running statistics.

    It takes gradients of parameters, and of statistics their changes, which Lookahead
    averages like parameters.
    """
    of_group = partial(_nesterov, recipe)
    last = WHITENING_EPOCHS * recipe.length.per_epoch
    groups: dict[Hashable, optax.GradientTransformation] = {
        "kernels": of_group(),
        "biases": of_group(factor=BIAS_FACTOR),
        "whitening bias": of_group(steps=last),
        "statistics": optax.identity(),
    }
    return outer_loop(
        optax.partition(groups, _groups), sgd(_towards_fast(recipe)), LOOKAHEAD_STEPS
    )


def _nesterov(
    recipe: Recipe, factor: float = 1.0, steps: int | None = None
) -> optax.GradientTransformation:
    """Nesterov momentum with decay for a group; takes so many steps, or all."""
    coefficients = heavy_ball_coefficients(BETA, nesterov=True)(jnp.int32(1))
    per_rate = effective_learning_rate(1.0, *coefficients)
    peak = factor * SETTLED_RATE * recipe.batch_size / 1024 / per_rate
    total = recipe.length.total
    warmup = int(WARMUP * total)

    def rate(step: ArrayLike) -> Array:
        step = jnp.asarray(step, jnp.float32)
        turns = jnp.array([0, warmup, total], jnp.float32)
        relative = jnp.interp(step, turns, jnp.array([FIRST, 1, LAST], jnp.float32))
        return jnp.where(step < (steps or total), peak * relative, 0)

    return optax.chain(
        optax.add_decayed_weights(DECAY / factor),
        heavy_ball(BETA, nesterov=True),
        optax.scale_by_learning_rate(rate),
    )


def _towards_fast(recipe: Recipe) -> optax.Schedule:
    """Lookahead's share of the fast weights at its n-th step, which falls slowly."""

    def share(count: ArrayLike) -> Array:
        done = LOOKAHEAD_STEPS * (jnp.asarray(count) + 1) / recipe.length.total
        return 1 - 0.95**5 * jnp.minimum(done, 1) ** 3

    return share


def _groups(variables: PyTree) -> PyTree:
    """The name of each leaf's group."""

    def group(path: jax.tree_util.KeyPath, _: Any) -> str:
        name = jax.tree_util.keystr(path)
        if name.startswith("['statistics']"):
            return "statistics"
        if "whitening_bias" in name:
            return "whitening bias"
        return "biases" if name.endswith("['bias']") else "kernels"

    return jax.tree.map_with_path(group, variables)


def initial_variables(
    recipe: Recipe, key: RandomKey, images: Images
) -> tuple[PyTree, PyTree]:
    """The variables {"params": ..., "statistics": ...} and what stays constant."""
    params, statistics, constant = _split(_network(recipe, nnx.Rngs(key)))
    constant["whitening"] = whitening_kernel(normalized(images[:WHITENING_IMAGES]))
    return {"params": params, "statistics": statistics}, constant


def plain_loss(recipe: Recipe, axis_name: str | None = None) -> Loss:
    """The loss of each image as it is, smoothed in training alone.

    Args:
      recipe: what is trained.
      axis_name: of the devices that share each batch, whose statistics are then those
        of the whole batch.
    """

    def logits_of(variables, constant, batch, key, *, training) -> LossResult:
        network = network_of(recipe, variables, constant, axis_name, training=training)
        logits = network(normalized(batch.images))
        return logits, {}, _split(network)[1]

    return cross_entropy(logits_of, LABEL_SMOOTHING)


def multicrop_loss(recipe: Recipe) -> Loss:
    """The loss for the mean logits of six views of each image.

    They are the image and its shifts by a pixel, up-left and down-right, each mirrored
    too. The image counts as much as both shifts together.
    """

    def logits_of(variables, constant, batch, key, *, training) -> LossResult:
        network = network_of(recipe, variables, constant, training=training)

        def mean_of_mirrored(images: Array) -> Logits:
            images = normalized(images)
            return (network(images) + network(images[:, :, ::-1])) / 2

        padded = reflected(batch.images, 1)
        shifted = padded[:, :-2, :-2], padded[:, 2:, 2:]
        first, second = map(mean_of_mirrored, shifted)
        logits = (mean_of_mirrored(batch.images) + (first + second) / 2) / 2
        return logits, {}, constant

    return cross_entropy(logits_of)


def corners(key: RandomKey, images: int) -> Int[Array, "images 2"]:
    """Where each image begins within its margins."""
    return jax.random.randint(key, (images, 2), 0, 2 * SHIFT + 1)


def augmented(
    images: Array, corners: Int[Array, "batch 2"], mirrored: Bool[Array, " batch"]
) -> Array:
    """Moves each image by up to 2 pixels both ways, and mirrors those that are named.

    Args:
      images: [batch, height, width, channels].
      corners: from the function of this name.
      mirrored: in an epoch the images that were not in the one before, so that every
        image is seen both ways in two epochs.
    """
    cropped = moved(images, SHIFT, corners)
    return jnp.where(mirrored[:, None, None, None], cropped[:, :, ::-1], cropped)


def network_of(
    recipe: Recipe,
    variables: PyTree,
    constant: PyTree,
    axis_name: str | None = None,
    *,
    training: bool,
) -> WhitenedCNN:
    """The network with these variables."""
    network = _network(recipe, nnx.Rngs(0), axis_name)
    for part in (*variables.values(), constant):
        nnx.update(network, part)
    if training:
        network.train()
    else:
        network.eval()
    return network


def _network(
    recipe: Recipe, rngs: nnx.Rngs, axis_name: str | None = None
) -> WhitenedCNN:
    return WhitenedCNN(
        recipe.image_shape[2],
        recipe.classes,
        widths=recipe.widths,
        dtype=recipe.dtype,
        axis_name=axis_name,
        rngs=rngs,
    )


def _split(network: WhitenedCNN) -> tuple[PyTree, PyTree, PyTree]:
    """Parameters, running statistics, and the whitening kernel."""
    _, *parts, _ = nnx.split(network, nnx.Param, nnx.BatchStat, Whitening, ...)
    params, statistics, constant = map(nnx.to_pure_dict, parts)
    return params, statistics, constant


def normalized(images: Array) -> Images:
    """Images of mean 0 and variance 1 over CIFAR-10, for each color."""
    channels = images.shape[3]
    mean, deviation = (
        jnp.resize(jnp.array(x, jnp.float32), (1, 1, 1, channels))
        for x in (MEAN, DEVIATION)
    )
    return (as_floats(images) - mean) / deviation
