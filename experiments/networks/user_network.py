"""A network of the user's own, in Flax, as two functions of plain arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx

from experiments.records.config import UsageError
from experiments.user_code import load, told

Shape = tuple[int, int, int]  # height, width, channels


class UserNetwork(NamedTuple):
    """A network for `experiments.scoring`: hashable, and equal for an equal module."""

    where: str  # what its refusals begin with
    function: Callable[[Shape, int, nnx.Rngs], Any]
    classes: int

    def init(self, key: jax.Array, image_shape: Shape, classes: int) -> Any:
        """Draws the parameters: dictionaries of arrays."""
        module = self._module(key, image_shape, classes)
        if isinstance(module, nnx.Module):
            _, params, others, _ = nnx.split(module, nnx.Param, nnx.Variable, ...)
            params = nnx.to_pure_dict(params)
            kinds = {type(other).__name__ for _, other in nnx.to_flat_state(others)}
        else:
            variables = module.init(key, jnp.zeros((1, *image_shape)))
            params = variables.get("params", {})
            kinds = set(variables) - {"params"}
        if kinds:
            raise UsageError(
                f"{self.where}: the module keeps {', '.join(sorted(kinds))} beside its "
                "parameters, and a run here is a function of these alone. Put "
                "LayerNorm or GroupNorm in the place of BatchNorm, and leave Dropout "
                "out."
            )
        return params

    def apply(self, params: Any, images: jax.Array) -> Any:
        """The logits of images, [batch, height, width, channels], float32 in [0, 1]."""
        _, height, width, channels = images.shape
        # What a new module draws is replaced at once, so JAX leaves it out.
        shape = height, width, channels
        module = self._module(jax.random.key(0), shape, self.classes)
        if isinstance(module, nnx.Module):
            nnx.update(module, params)
            return module(images)
        return module.apply({"params": params}, images)

    def _module(self, key: jax.Array, image_shape: Shape, classes: int) -> Any:
        """A module, newly built: within a trace of JAX, where that is cheap."""
        module = self.function(image_shape, classes, nnx.Rngs(key))
        if not isinstance(module, nnx.Module | linen.Module):
            raise UsageError(
                f"{self.where}: it returned {type(module).__name__}, and a module of "
                "Flax is needed, from flax.nnx or flax.linen."
            )
        return module


def network(
    option: str, reference: str, image_shape: Shape, classes: int
) -> tuple[UserNetwork, str]:
    """The network that a user's function makes for the images of a data set.

    `function(image_shape, classes, rngs)`, with `flax.nnx.Rngs`, returns a module of
    Flax NNX, or one of Flax Linen, which needs no rngs. Called on images, float32
    [batch, height, width, channels] in [0, 1], the module returns logits, float32
    [batch, classes]. It is tried here, without any arithmetic, before it trains.

    A run is a function of the parameters alone. So a module must have no other state:
    neither running statistics of batches nor the random numbers of dropout.

    Args:
      option: the option by which it was named, for messages: "--model".
      reference: FILE.py:function.
      image_shape: (height, width, channels).
      classes: the number of logits.

    Returns:
      The network, for these classes alone, and the digest of its code.

    Raises:
      UsageError: there is no such function, or it returns no such module.
    """
    function, digest = load(option, reference)
    own = UserNetwork(f"{option} {reference}", function, classes)

    def tried(images: jax.Array) -> tuple[Any, Any]:
        params = own.init(jax.random.key(0), image_shape, classes)
        return params, own.apply(params, images)

    batch = classes + 1  # so that logits the wrong way round have another shape
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32)
    with told(option, reference, f"its network for images {list(image_shape)}"):
        params, logits = jax.eval_shape(tried, images)
    _check_params(own.where, params)
    _check_logits(own.where, images, logits, classes)
    return own, digest


def _check_params(where: str, params: Any) -> None:
    """Raises `UsageError` unless there is something to train, all of it real."""
    leaves = jax.tree.leaves_with_path(params)
    if not leaves:
        raise UsageError(f"{where}: the module has no parameters to train.")
    for path, leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UsageError(
                f"{where}: the parameter {jax.tree_util.keystr(path)} is "
                f"{leaf.dtype}, and has no gradient; make it floating-point."
            )


def _check_logits(where: str, images: Any, logits: Any, classes: int) -> None:
    """Raises `UsageError` unless there are as many logits as classes, in float32."""
    expected = f"float32 {[images.shape[0], classes]}"
    is_array = isinstance(logits, jax.ShapeDtypeStruct)
    found = (
        f"{logits.dtype} {list(logits.shape)}" if is_array else type(logits).__name__
    )
    if found != expected:
        raise UsageError(
            f"{where}: for images {list(images.shape)} the module returned "
            f"{found}, and logits [batch, classes] are needed: {expected}."
        )
