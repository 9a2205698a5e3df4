"""The network that reaches 94% on CIFAR-10 in ten epochs: a whitening layer, six more.

Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498,
section 3; 1,971,352 trained parameters for ten classes of color images.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float

from experiments.networks.batch_norm import BatchNorm
from experiments.networks.network import Images, Logits, RandomKey

_SIZE = 2  # pixels along a side of a whitened patch
_EPSILON = 5e-4  # keeps the patches' least variance from being blown up
_SCALE = 1 / 9  # of the logits


class Whitening(nnx.Variable):
    """A kernel that is computed from images and not trained."""


class WhitenedCNN(nnx.Module):
    """A whitening layer, three groups of two 3×3 convolutions, a linear head.

    Args:
      channels: of the images.
      classes: the number of logits.
      widths: channels of each group, which halves the images.
      dtype: in which convolutions are computed; BatchNorm is in float32.
      axis_name: of a `shard_map` whose devices share each batch.
      rngs: draw the parameters.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        widths: Sequence[int] = (64, 256, 256),
        dtype: DTypeLike = jnp.float32,
        axis_name: str | None = None,
        rngs: nnx.Rngs,
    ):
        whitened = 2 * channels * _SIZE**2
        self.whitening = Whitening(jnp.zeros((_SIZE, _SIZE, channels, whitened)))
        self.whitening_bias = nnx.Param(jnp.zeros(whitened))
        inputs, groups = whitened, []
        for width in widths:
            groups.append(_Group(inputs, width, dtype, axis_name, rngs))
            inputs = width
        self.groups = nnx.List(groups)
        self.head = nnx.Linear(
            inputs,
            classes,
            use_bias=False,
            kernel_init=_uniform,
            dtype=dtype,
            rngs=rngs,
        )
        self.dtype = dtype

    def __call__(self, images: Images) -> Logits:
        x = self.whiten(images)
        for group in self.groups:
            x = group(x)
        return self.classify(x)

    def whiten(self, images: Images) -> Array:
        """The first layer."""
        kernel = self.whitening[...].astype(self.dtype)
        layout = ("NHWC", "HWIO", "NHWC")
        images = images.astype(self.dtype)
        x = lax.conv_general_dilated(
            images, kernel, (1, 1), "VALID", dimension_numbers=layout
        )
        bias = self.whitening_bias[...].astype(self.dtype)
        return _gelu(x + bias.reshape(1, 1, 1, -1))

    def classify(self, x: Array) -> Logits:
        """The last layer, of the largest value of each channel."""
        return _in_float32(self.head(jnp.max(x, axis=(1, 2)))) * _SCALE


class _Group(nnx.Module):
    """Convolution, pooling, BatchNorm, GELU; convolution, BatchNorm, GELU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        dtype: DTypeLike,
        axis_name: str | None,
        rngs: nnx.Rngs,
    ):
        def convolution(inputs: int) -> nnx.Conv:
            return nnx.Conv(
                inputs,
                outputs,
                (3, 3),
                padding="SAME",
                use_bias=False,
                kernel_init=_partial_identity,
                dtype=dtype,
                rngs=rngs,
            )

        def norm() -> BatchNorm:
            return BatchNorm(
                outputs, share=0.4, epsilon=1e-12, use_scale=False, axis_name=axis_name
            )

        self.conv1, self.norm1 = convolution(inputs), norm()
        self.conv2, self.norm2 = convolution(outputs), norm()
        self.dtype = dtype

    def __call__(self, x: Array) -> Array:
        x = nnx.max_pool(self.conv1(x), (2, 2), (2, 2))
        x = _gelu(self.norm1(_in_float32(x))).astype(self.dtype)
        return _gelu(self.norm2(_in_float32(self.conv2(x)))).astype(self.dtype)


def whitening_kernel(
    images: Images,
) -> Float[Array, "2 2 channels whitened"]:
    """Filters whose results on the images' 2×2 patches are uncorrelated, of variance 1.

    They are the eigenvectors of the patches' covariance, each over the root of its
    eigenvalue, and the same with the opposite sign.
    """
    _, height, width, channels = images.shape
    shifted = [
        images[:, i : height - 1 + i, j : width - 1 + j]
        for i in range(_SIZE)
        for j in range(_SIZE)
    ]
    patches = jnp.concatenate(shifted, axis=3).reshape(-1, _SIZE**2 * channels)
    covariance = jnp.matmul(patches.T, patches, precision="highest") / len(patches)
    variances, vectors = jnp.linalg.eigh(covariance)
    filters = vectors / jnp.sqrt(variances + _EPSILON).reshape(1, -1)
    both = jnp.concatenate([filters, -filters], axis=1)
    return both.reshape(_SIZE, _SIZE, channels, -1)


def _uniform(key: RandomKey, shape: Sequence[int], dtype: DTypeLike) -> Array:
    """PyTorch's initialization: uniform within ±1/√(inputs of one output)."""
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)


def _partial_identity(key: RandomKey, shape: Sequence[int], dtype: DTypeLike) -> Array:
    """As `_uniform`, but the first filters, one for each input, pass it on."""
    inputs, outputs = shape[2:]
    passed = min(inputs, outputs)
    kernel = _uniform(key, shape, dtype)
    kernel = kernel.at[..., :passed].set(0)
    return kernel.at[1, 1, :passed, :passed].set(jnp.eye(passed, dtype=dtype))


def _in_float32(x: Array) -> Array:
    """In float32, unless it is wider."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def _gelu(x: Array) -> Array:
    """By the error function, as PyTorch's; `jax.nn.gelu` is slower on CPUs."""
    return 0.5 * x * (1 + lax.erf(x * math.sqrt(0.5)))
