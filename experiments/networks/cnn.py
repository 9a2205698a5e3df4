"""The tutorial's convolutional network, in Flax NNX."""

from functools import cache

from flax import nnx
from jax import Array

from experiments.networks.network import Images, ImageShape, Logits, Params, RandomKey
from experiments.networks.on_cpu import fast_on_cpu
from experiments.records.config import UsageError

_SMALLEST = 18  # pixels, of which the three convolutions and two poolings leave one


class CNN(nnx.Module):
    """Three 3×3 convolutions with two poolings between them, then two dense layers."""

    def __init__(self, image_shape: ImageShape, classes: int, *, rngs: nnx.Rngs):
        height, width, channels = image_shape
        self.conv1 = _convolutional(channels, 32, rngs)
        self.conv2 = _convolutional(32, 64, rngs)
        self.conv3 = _convolutional(64, 64, rngs)
        pixels = _pixels_left(height) * _pixels_left(width)
        self.dense1 = _dense(pixels * 64, 64, rngs)
        self.dense2 = _dense(64, classes, rngs)

    def __call__(self, images: Images) -> Logits:
        x = _pool(nnx.relu(self.conv1(images)))
        x = _pool(nnx.relu(self.conv2(x)))
        x = nnx.relu(self.conv3(x))
        x = nnx.relu(self.dense1(x.reshape(x.shape[0], -1)))
        return self.dense2(x)


def cnn(image_shape: ImageShape, classes: int, rngs: nnx.Rngs) -> CNN:
    """The network as a module, for `--model experiments/networks/cnn.py:cnn`."""
    return CNN(image_shape, classes, rngs=rngs)


def init(key: RandomKey, image_shape: ImageShape, classes: int) -> Params:
    """Draws the initial parameters: Glorot-uniform kernels and zero biases, float32.

    Raises:
      UsageError: the images have fewer than 18×18 pixels.
    """
    height, width, _ = image_shape
    if min(height, width) < _SMALLEST:
        raise UsageError(
            f"images are {height}x{width}, but this network needs at least "
            f"{_SMALLEST}x{_SMALLEST} pixels: enlarge them."
        )
    _, params = nnx.split(CNN(image_shape, classes, rngs=nnx.Rngs(key)))
    return nnx.to_pure_dict(params)


@fast_on_cpu
def apply(params: Params, images: Images) -> Logits:
    """The logits of images; `params` must be from `init` for images of their shape."""
    classes = params["dense2"]["bias"].shape[0]
    return nnx.merge(_graphdef(images.shape[1:], classes), params)(images)


def _pool(x: Array) -> Array:
    return nnx.max_pool(x, (2, 2), strides=(2, 2))


@cache
def _graphdef(image_shape: ImageShape, classes: int) -> nnx.GraphDef:
    """The network without its parameters; computes nothing."""
    return nnx.graphdef(
        nnx.eval_shape(lambda: CNN(image_shape, classes, rngs=nnx.Rngs(0)))
    )


def _convolutional(channels: int, features: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        channels,
        features,
        (3, 3),
        padding="VALID",
        kernel_init=nnx.initializers.glorot_uniform(),
        rngs=rngs,
    )


def _dense(inputs: int, features: int, rngs: nnx.Rngs) -> nnx.Linear:
    kernel_init = nnx.initializers.glorot_uniform()
    return nnx.Linear(inputs, features, kernel_init=kernel_init, rngs=rngs)


def _pixels_left(size: int) -> int:
    """Pixels along one side after the three convolutions and two poolings."""
    return ((size - 2) // 2 - 2) // 2 - 2
