"""Users' own Flax networks for images, from FILE.py:function."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from experiments.data.examples import Examples
from experiments.networks.network import ImageShape, random_key
from experiments.problems.check import check_model_state, check_params
from experiments.problems.flax_modules import from_linen, from_nnx
from experiments.problems.image_classification import Augment, as_floats, module_task
from experiments.problems.problem import Init, Loss, Losses, Task
from experiments.records.config import UsageError
from experiments.user_code import load, usage_errors

MakeModule = Callable[[ImageShape, int, nnx.Rngs], object]


def network_task(
    option: str,
    reference: str,
    image_shape: ImageShape,
    classes: int,
    label_smoothing: float = 0.0,
    augment: Augment | None = None,
) -> tuple[Task, str]:
    """The task of a user's network, and the digest of its code.

    Args:
      option: the option that names the function, for messages: "--model".
      reference: FILE.py:function, see `network_functions`.
      image_shape: (height, width, channels).
      classes: the number of logits.
      label_smoothing: see `cross_entropy`.
      augment: (key, batch) -> batch, for training.

    Raises:
      UsageError: see `network_functions`.
    """
    function, digest = load(option, reference)
    network = f"{option} {reference}", function, image_shape, classes
    with usage_errors(option, reference, f"its network for images {list(image_shape)}"):
        return _task(*network, label_smoothing, augment), digest


@cache
def _task(
    where: str,
    function: MakeModule,
    image_shape: ImageShape,
    classes: int,
    label_smoothing: float,
    augment: Augment | None,
) -> Task:
    """Equal for equal arguments, so that nothing compiles twice."""
    functions = network_functions(where, function, image_shape, classes)
    few = _few(image_shape, classes)
    return module_task(*functions, few, label_smoothing, augment)


def network_functions(
    where: str, function: MakeModule, image_shape: ImageShape, classes: int
) -> tuple[Init, Loss]:
    """`init` of a user's network, and a `Loss` with logits in place of losses.

    `function(image_shape, classes, rngs)`, with `flax.nnx.Rngs`, returns a module of
    Flax NNX or of Flax Linen, which needs no rngs. Called on images, float32 [batch,
    height, width, channels] in [0, 1], the module returns logits, float32 [batch,
    classes]. It may have a state, such as the running statistics of BatchNorm, and draw
    random numbers, as Dropout does: see `from_nnx` and `from_linen`. The check traces
    calls and computes nothing.

    Raises:
      UsageError: the function doesn't return such a module.
    """

    def logits_of(module: Any, batch: Examples) -> tuple[Losses, dict[str, Losses]]:
        return module(as_floats(batch.images)), {}

    def make(rngs: nnx.Rngs) -> Any:
        module = function(image_shape, classes, rngs)
        if not isinstance(module, nnx.Module | linen.Module):
            raise UsageError(
                f"{where}: it returned {type(module).__name__}; a Flax module is "
                "needed, from flax.nnx or flax.linen."
            )
        return module

    made = []  # a module of Linen, which holds no arrays
    jax.eval_shape(lambda key: made.append(make(nnx.Rngs(key))), random_key(0))
    functions = (
        from_nnx(make, logits_of)
        if isinstance(made[0], nnx.Module)
        else from_linen(made[0], logits_of)
    )
    _check(where, *functions, _few(image_shape, classes), classes)
    return functions


def _few(image_shape: ImageShape, classes: int) -> Examples:
    """Shapes of so many images that transposed logits have another shape."""
    images = jax.ShapeDtypeStruct((classes + 1, *image_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((classes + 1,), jnp.int32)
    return Examples(images, labels)  # type: ignore[arg-type]


def _check(
    where: str, init: Init, logits_of: Loss, few: Examples, classes: int
) -> None:
    """Raises `UsageError` unless the network can be trained on such images."""
    params, model_state = jax.eval_shape(init, random_key(0), few)
    check_params(where, params)
    for training in (True, False):
        traced = partial(logits_of, training=training)
        logits, _, after = jax.eval_shape(
            traced, params, model_state, few, random_key(0)
        )
        _check_logits(where, few.images, logits, classes)
        check_model_state(where, model_state, after)


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
