"""A depthwise-separable network for small images, after Howard et al. 2017.

arXiv:1704.04861. `--model experiments/networks/separable.py:separable` trains it.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array

from experiments.networks.batch_norm import BatchNorm
from experiments.networks.network import Images, ImageShape, Logits

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1))  # channels and stride


class Separable(nnx.Module):
    """A 3×3 convolution, then blocks of a depthwise and a pointwise convolution."""

    def __init__(self, channels: int, classes: int, *, rngs: nnx.Rngs):
        self.stem = _Convolution(channels, 32, 3, 1, 1, rngs)
        inputs, layers = 32, []
        for outputs, stride in BLOCKS:
            layers.append(_Convolution(inputs, inputs, 3, stride, inputs, rngs))
            layers.append(_Convolution(inputs, outputs, 1, 1, 1, rngs))
            inputs = outputs
        self.layers = nnx.List(layers)
        self.head = nnx.Linear(inputs, classes, rngs=rngs)

    def __call__(self, images: Images) -> Logits:
        x = self.stem(images)
        for layer in self.layers:
            x = layer(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class _Convolution(nnx.Module):
    """A convolution without bias, BatchNorm and ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int,
        groups: int,
        rngs: nnx.Rngs,
    ):
        self.convolution = nnx.Conv(
            inputs,
            outputs,
            (size, size),
            (stride, stride),
            padding=size // 2,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=nnx.initializers.he_normal(),
            rngs=rngs,
        )
        self.norm = BatchNorm(outputs)

    def __call__(self, x: Array) -> Array:
        return nnx.relu(self.norm(self.convolution(x)))


def separable(image_shape: ImageShape, classes: int, rngs: nnx.Rngs) -> Separable:
    """136,778 parameters for ten classes of color images."""
    return Separable(image_shape[-1], classes, rngs=rngs)
