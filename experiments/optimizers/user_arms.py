"""Users' own optimizers, returned by a function of the learning rate."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Float32, PyTree

from experiments.optimizers.arms import Arm
from experiments.records.config import UsageError
from experiments.user_code import difference, load, usage_errors

_LONGEST_NAME = 40  # characters, so that it fits into tables and legends
# Parameters for the check of an optimizer, if those of the network aren't known.
_PARAMS = {
    "convolution": {
        "kernel": jax.ShapeDtypeStruct((3, 3, 2, 5), jnp.float32),
        "bias": jax.ShapeDtypeStruct((5,), jnp.float32),
    },
    "dense": {
        "kernel": jax.ShapeDtypeStruct((7, 4), jnp.float32),
        "bias": jax.ShapeDtypeStruct((4,), jnp.float32),
    },
}


class _UserFunction(NamedTuple):
    option: str
    reference: str
    function: Callable[..., object]
    steps: int  # of a run, if the function asks for them

    def call(self, learning_rate: ArrayLike) -> object:
        parameters = inspect.signature(self.function).parameters
        given = {"steps": self.steps} if "steps" in parameters else {}
        return self.function(learning_rate, **given)

    def error(self, message: str) -> UsageError:
        return UsageError(f"{self.option} {self.reference}: {message}")


def arms(
    option: str, reference: str, params: PyTree = _PARAMS, steps: int = 1_000
) -> tuple[dict[str, Arm], str]:
    """Loads a user's function and checks the optimizers that it returns.

    The function takes a learning rate, which is a traced scalar if one program trains
    several runs, and returns `{name: optax.GradientTransformation}`. The check traces
    one update of each optimizer and computes nothing. The function does not get beta:
    its optimizers set their own. If it has a second parameter `steps`, it gets the
    number of steps of a run, for schedules.

    Args:
      option: the option that names the function, for messages: "--arms".
      reference: FILE.py:function.
      params: arrays, or their shapes and dtypes, for the check; by default, two small
        layers.
      steps: of a run.

    Returns:
      The arms by name, in the function's order, and the digest of its code.

    Raises:
      UsageError: there is no such function; or it doesn't return a dictionary of
        optimizers; or their names depend on the learning rate; or an optimizer changes
        shapes or dtypes.
    """
    function, digest = load(option, reference)
    user = _UserFunction(option, reference, function, steps)
    arms = {}
    for name in _optimizers(user, 0.01):
        arms[name] = Arm(name, "", partial(_transformation, user, name))
        _check_keeps_shapes(user, arms[name], params)
    return arms, digest


def _transformation(
    user: _UserFunction, name: str, learning_rate: Any, beta: Any
) -> optax.GradientTransformation:
    del beta
    optimizers = _optimizers(user, learning_rate)
    if name not in optimizers:
        raise user.error(
            f"for {_describe(learning_rate)}, {name} is missing: it returned "
            f"{', '.join(optimizers)}; the names must not depend on the learning rate."
        )
    return optimizers[name]


def _optimizers(
    user: _UserFunction, learning_rate: Any
) -> dict[str, optax.GradientTransformation]:
    """What the function returns, if it is a dictionary of named optimizers."""
    action = f"calling it with {_describe(learning_rate)}"
    with usage_errors(user.option, user.reference, action):
        optimizers = user.call(learning_rate)
    if not isinstance(optimizers, dict) or not optimizers:
        returned = repr(optimizers) if optimizers == {} else type(optimizers).__name__
        raise user.error(
            f"it returned {returned}; a dictionary {{name: optimizer}} with at least "
            "one entry is needed."
        )
    for name, optimizer in optimizers.items():
        _check_name(user, name)
        # GradientTransformationExtraArgs is a subclass.
        if not isinstance(optimizer, optax.GradientTransformation):
            raise user.error(
                f"{name} is of type {type(optimizer).__name__}; an "
                "optax.GradientTransformation is needed."
            )
    return optimizers


def _describe(learning_rate: object) -> str:
    if isinstance(learning_rate, Tracer):
        return "a traced learning rate"
    return f"learning rate {learning_rate}"


def _check_name(user: _UserFunction, name: object) -> None:
    """Raises `UsageError` for a name that a table or a legend can't show."""
    if isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable():
        if name == name.strip() and not name.startswith("_"):
            return
    raise user.error(
        f"{name!r:.80} can't be the name of an optimizer: a name is printable text of "
        f"1 to {_LONGEST_NAME} characters that doesn't start or end with a space, nor "
        "start with an underscore."
    )


def _check_keeps_shapes(user: _UserFunction, arm: Arm, params: PyTree) -> None:
    """Traces one update at a traced learning rate; computes nothing."""

    def one_step(
        learning_rate: Float32[Array, ""], params: PyTree
    ) -> tuple[PyTree, PyTree, PyTree]:
        optimizer = arm.transformation(learning_rate, math.nan)  # beta is not read
        state = optimizer.init(params)
        return *optimizer.update(params, state, params), state

    rate = jax.ShapeDtypeStruct((), jnp.float32)
    with usage_errors(user.option, user.reference, f"a step of {arm.title}"):
        updates, after, before = jax.eval_shape(one_step, rate, params)
    for expected, actual, rule in (
        (params, updates, "updates must have those of the parameters"),
        (before, after, "a state must have those of the initial state"),
    ):
        differing = difference(expected, actual)
        if differing is not None:
            raise user.error(
                f"{arm.title} changes structure, shapes or dtypes: it returns "
                f"{differing}; {rule}."
            )
