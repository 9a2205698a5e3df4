"""A small network, as --model takes it."""

from flax import nnx


class Small(nnx.Module):
    def __init__(self, image_shape, classes, rngs):
        height, width, channels = image_shape
        self.convolution = nnx.Conv(
            channels, 4, (3, 3), strides=3, padding="VALID", rngs=rngs
        )
        self.dense = nnx.Linear(4 * (height // 3) * (width // 3), classes, rngs=rngs)

    def __call__(self, images):
        hidden = nnx.relu(self.convolution(images))
        return self.dense(hidden.reshape(hidden.shape[0], -1))


def network(image_shape, classes, rngs):
    return Small(image_shape, classes, rngs)
