"""ResNets for small images, as people port them from PyTorch: 3×3 stem, basic blocks.

He et al. 2015, arXiv:1512.03385, with the stem for images of 32×32 pixels that is usual
on CIFAR-10. `--model experiments/networks/resnet.py:resnet18` trains one.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from experiments.networks.batch_norm import BatchNorm
from experiments.networks.network import Images, ImageShape, Logits


class ResNet(nnx.Module):
    """A stem, stages of basic blocks, a head; later stages halve the image first.

    Args:
      channels: of the images.
      classes: the number of logits.
      widths: channels of each stage.
      blocks: of each stage.
      dtype: of parameters, statistics and activations.
      rngs: draw the parameters.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        widths: Sequence[int],
        blocks: int = 2,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.stem = _convolution(channels, widths[0], 3, 1, dtype, rngs)
        self.stem_norm = BatchNorm(widths[0], dtype=dtype)
        inputs, layers = widths[0], []
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(_Block(inputs, width, stride, dtype, rngs))
                inputs = width
        self.blocks = nnx.List(layers)
        self.head = nnx.Linear(
            inputs, classes, dtype=dtype, param_dtype=dtype, rngs=rngs
        )

    def __call__(self, images: Images) -> Logits:
        x = nnx.relu(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class _Block(nnx.Module):
    """Two 3×3 convolutions whose result is added to their input."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.conv1 = _convolution(inputs, outputs, 3, stride, dtype, rngs)
        self.norm1 = BatchNorm(outputs, dtype=dtype)
        self.conv2 = _convolution(outputs, outputs, 3, 1, dtype, rngs)
        self.norm2 = BatchNorm(outputs, dtype=dtype)
        self.projects = stride > 1 or inputs != outputs
        if self.projects:
            self.shortcut = _convolution(inputs, outputs, 1, stride, dtype, rngs)
            self.shortcut_norm = BatchNorm(outputs, dtype=dtype)

    def __call__(self, x: Array) -> Array:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu(
            y + (self.shortcut_norm(self.shortcut(x)) if self.projects else x)
        )


def resnet18(image_shape: ImageShape, classes: int, rngs: nnx.Rngs) -> ResNet:
    """11,173,962 parameters for ten classes of color images."""
    return ResNet(image_shape[-1], classes, widths=(64, 128, 256, 512), rngs=rngs)


def resnet20(image_shape: ImageShape, classes: int, rngs: nnx.Rngs) -> ResNet:
    """The paper's network for CIFAR-10, of widths 16, 32 and 64, but for projections.

    Where a stage begins, a convolution takes the place of the paper's padded identity.
    """
    return ResNet(image_shape[-1], classes, widths=(16, 32, 64), blocks=3, rngs=rngs)


def _convolution(
    inputs: int, outputs: int, size: int, stride: int, dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.Conv:
    """Without bias, which BatchNorm would remove; padded on all sides."""
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        (stride, stride),
        padding=size // 2,
        use_bias=False,
        kernel_init=nnx.initializers.he_normal(),
        dtype=dtype,
        param_dtype=dtype,
        rngs=rngs,
    )
