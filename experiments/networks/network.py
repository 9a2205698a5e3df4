"""What training calls a network: two functions of plain arrays."""

from typing import Any, Protocol

import jax
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float32, Key

RandomKey = Key[Array, ""]
Params = dict[str, dict[str, Array]]  # {layer: {"kernel": ..., "bias": ...}}
ImageShape = tuple[int, int, int]  # height, width, channels
Images = Float32[Array, "batch height width channels"]  # values in [0, 1]
Logits = Float32[Array, "batch classes"]


class Network(Protocol):
    """A network, such as the module `cnn` or `mlp`; hashable, to be a static argument.

    The parameters of a `UserNetwork` may be nested in another way than `Params`.
    """

    def init(self, key: RandomKey, image_shape: ImageShape, classes: int) -> Params: ...

    def apply(self, params: Params, images: Images) -> Logits: ...


def random_key(seed: ArrayLike) -> RandomKey:
    """A key that draws the same bits whatever JAX_DEFAULT_PRNG_IMPL says."""
    return jax.random.key(seed, impl="threefry2x32")


def check_takes(network: Network, images: Any, classes: int) -> None:
    """Raises `UsageError` if the network refuses images of this shape; only traces."""
    _, height, width, channels = images.shape
    shape = height, width, channels
    jax.eval_shape(lambda: network.init(random_key(0), shape, classes))
