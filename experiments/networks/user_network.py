"""Users' own Flax networks, as two functions of plain arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array
from jaxtyping import PyTree

from experiments.networks.network import Images, ImageShape, RandomKey, random_key
from experiments.records.config import UsageError
from experiments.user_code import load, usage_errors


class UserNetwork(NamedTuple):
    """A `Network` around a user's function; hashable, to be a static argument."""

    where: str  # the beginning of its error messages
    function: Callable[[ImageShape, int, nnx.Rngs], object]
    classes: int

    def init(self, key: RandomKey, image_shape: ImageShape, classes: int) -> PyTree:
        """Draws the parameters: nested dictionaries of arrays."""
        module = self._module(key, image_shape, classes)
        if isinstance(module, nnx.Module):
            _, params, others, _ = nnx.split(module, nnx.Param, nnx.Variable, ...)
            params = nnx.to_pure_dict(params)
            kinds = {type(other).__name__ for _, other in nnx.to_flat_state(others)}
        else:
            variables = module.init(key, jnp.zeros((1, *image_shape), jnp.float32))
            params = variables.get("params", {})
            kinds = set(variables) - {"params"}
        if kinds:
            raise UsageError(
                f"{self.where}: the module has {', '.join(sorted(kinds))} besides its "
                "parameters, but a run must be a function of the parameters alone. "
                "Replace BatchNorm with LayerNorm or GroupNorm, and omit Dropout."
            )
        return params

    def apply(self, params: PyTree, images: Images) -> Any:
        """The logits of images."""
        _, height, width, channels = images.shape
        # JAX drops the initial values of the new module, as they are replaced at once.
        shape = height, width, channels
        module = self._module(random_key(0), shape, self.classes)
        if isinstance(module, nnx.Module):
            nnx.update(module, params)
            return module(images)
        return module.apply({"params": params}, images)

    def _module(self, key: RandomKey, image_shape: ImageShape, classes: int) -> Any:
        """Builds a new module, which is cheap because JAX is tracing."""
        module = self.function(image_shape, classes, nnx.Rngs(key))
        if not isinstance(module, nnx.Module | linen.Module):
            raise UsageError(
                f"{self.where}: it returned {type(module).__name__}; a Flax module is "
                "needed, from flax.nnx or flax.linen."
            )
        return module


def network(
    option: str, reference: str, image_shape: ImageShape, classes: int
) -> tuple[UserNetwork, str]:
    """Loads a user's function and checks the network that it builds.

    `function(image_shape, classes, rngs)`, with `flax.nnx.Rngs`, returns a module of
    Flax NNX or of Flax Linen, which needs no rngs. Called on images, float32 [batch,
    height, width, channels] in [0, 1], the module returns logits, float32 [batch,
    classes]. The check traces one call and computes nothing.

    A run is a function of the parameters alone. So a module must not have other state,
    such as the running statistics of BatchNorm or the random numbers of Dropout.

    Args:
      option: the option that names the function, for messages: "--model".
      reference: FILE.py:function.
      image_shape: (height, width, channels).
      classes: the number of logits.

    Returns:
      The network, which always has this number of classes, and the digest of its code.

    Raises:
      UsageError: there is no such function, or it doesn't return such a module.
    """
    function, digest = load(option, reference)
    network = UserNetwork(f"{option} {reference}", function, classes)

    def init_and_apply(images: Array) -> tuple[PyTree, PyTree]:
        params = network.init(random_key(0), image_shape, classes)
        return params, network.apply(params, images)

    batch = classes + 1  # so that transposed logits have another shape
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32)
    with usage_errors(option, reference, f"its network for images {list(image_shape)}"):
        params, logits = jax.eval_shape(init_and_apply, images)
    _check_params(network.where, params)
    _check_logits(network.where, images, logits, classes)
    return network, digest


def _check_params(where: str, params: PyTree) -> None:
    """Raises `UsageError` unless there are parameters, all of them floating-point."""
    leaves = jax.tree.leaves_with_path(params)
    if not leaves:
        raise UsageError(f"{where}: the module has no parameters to train.")
    for path, leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UsageError(
                f"{where}: the parameter {jax.tree_util.keystr(path)} is "
                f"{leaf.dtype}, which has no gradient; make it floating-point."
            )


def _check_logits(where: str, images: Any, logits: Any, classes: int) -> None:
    """Raises `UsageError` unless there are as many logits as classes, in float32."""
    expected = f"float32 {[images.shape[0], classes]}"
    returned = type(logits).__name__
    if isinstance(logits, jax.ShapeDtypeStruct):
        returned = f"{logits.dtype} {list(logits.shape)}"
    if returned != expected:
        raise UsageError(
            f"{where}: for images {list(images.shape)} the module returned {returned}; "
            f"logits [batch, classes] are needed: {expected}."
        )
