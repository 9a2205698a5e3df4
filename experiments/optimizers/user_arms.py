"""Arms of the user's own: a function of the learning rate that returns optimizers."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from experiments.optimizers.arms import Arm
from experiments.records.config import UsageError
from experiments.user_code import load, told

_LONGEST = 40  # characters of a name, which stands in tables and legends
# What an optimizer is tried on where no network is at hand.
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


class _User(NamedTuple):
    """A function that a user named, with what its refusals begin with."""

    option: str
    reference: str
    function: Callable[[Any], Any]

    def refusal(self, words: str) -> UsageError:
        return UsageError(f"{self.option} {self.reference}: {words}")


def arms(
    option: str, reference: str, params: Any = _PARAMS
) -> tuple[dict[str, Arm], str]:
    """The arms that a user's function makes.

    It is called with a learning rate, which is a traced scalar where many runs are one
    program, and returns `{name: optax.GradientTransformation}`. Each of these is tried,
    without any arithmetic, before it trains. Nothing is told of beta: an optimizer has
    its own.

    Args:
      option: the option by which it was named, for messages: "--arms".
      reference: FILE.py:function.
      params: arrays, or their shapes and dtypes, to try the optimizers on; without
        them, two small layers.

    Returns:
      The arms by name, in the function's order, and the digest of its code.

    Raises:
      UsageError: there is no such function, or it returns no dictionary of optimizers
        that have the same names at every learning rate and keep shapes and dtypes.
    """
    function, digest = load(option, reference)
    user = _User(option, reference, function)
    arms = {}
    for name in _optimizers(user, 0.01):
        arms[name] = Arm(name, "", partial(_transformation, user, name))
        _check_keeps_shapes(user, arms[name], params)
    return arms, digest


def _transformation(
    user: _User, name: str, learning_rate: Any, beta: Any
) -> optax.GradientTransformation:
    del beta
    optimizers = _optimizers(user, learning_rate)
    if name not in optimizers:
        raise user.refusal(
            f"{name} is missing at {_in_words(learning_rate)}, where it returns "
            f"{', '.join(optimizers)}; the names must not depend on it."
        )
    return optimizers[name]


def _optimizers(
    user: _User, learning_rate: Any
) -> dict[str, optax.GradientTransformation]:
    """What the function returns, if it is a dictionary of named optimizers."""
    doing = f"calling it with {_in_words(learning_rate)}"
    with told(user.option, user.reference, doing):
        optimizers = user.function(learning_rate)
    if not isinstance(optimizers, dict) or not optimizers:
        returned = repr(optimizers) if optimizers == {} else type(optimizers).__name__
        raise user.refusal(
            f"it returned {returned}, and a dictionary {{name: optimizer}} with at "
            "least one is needed."
        )
    for name, optimizer in optimizers.items():
        _check_name(user, name)
        # GradientTransformationExtraArgs is one too.
        if not isinstance(optimizer, optax.GradientTransformation):
            raise user.refusal(
                f"{name} is of type {type(optimizer).__name__}, and an "
                "optax.GradientTransformation is needed."
            )
    return optimizers


def _in_words(learning_rate: Any) -> str:
    if isinstance(learning_rate, Tracer):
        return "a traced learning rate"
    return f"learning rate {learning_rate}"


def _check_name(user: _User, name: Any) -> None:
    """Raises `UsageError` for a name that a table or a legend can't show."""
    if isinstance(name, str) and 0 < len(name) <= _LONGEST and name.isprintable():
        if name == name.strip() and not name.startswith("_"):
            return
    raise user.refusal(
        f"{name!r:.80} is no name for an optimizer: it must be printable text of 1 to "
        f"{_LONGEST} characters, without a space around it or an underscore first."
    )


def _check_keeps_shapes(user: _User, arm: Arm, params: Any) -> None:
    """Tries one update at a learning rate that is traced, without any arithmetic."""

    def one_step(learning_rate: Any, params: Any) -> tuple[Any, Any, Any]:
        optimizer = arm.transformation(learning_rate, math.nan)  # beta is not read
        state = optimizer.init(params)
        return *optimizer.update(params, state, params), state

    rate = jax.ShapeDtypeStruct((), jnp.float32)
    with told(user.option, user.reference, f"a step of {arm.title}"):
        updates, after, before = jax.eval_shape(one_step, rate, params)
    for expected, found, rule in (
        (params, updates, "updates must be like the parameters"),
        (before, after, "the next state must be like the first"),
    ):
        difference = _difference(expected, found)
        if difference is not None:
            raise user.refusal(f"{arm.title} returns {difference}; {rule}.")


def _difference(expected: Any, found: Any) -> str | None:
    """Where two trees differ in structure, shapes or dtypes; None if they don't."""
    if jax.tree.structure(expected) != jax.tree.structure(found):
        return "a tree of another structure"
    leaves = jax.tree.leaves_with_path(expected)
    for (path, leaf), other in zip(leaves, jax.tree.leaves(found), strict=True):
        was, becomes = (f"{x.dtype}{list(x.shape)}" for x in (leaf, other))
        if was != becomes:
            where = jax.tree_util.keystr(path)
            return f"{becomes}, not {was}{f', at {where}' if where else ''}"
    return None
