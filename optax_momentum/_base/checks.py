"""Argument checks. Every error names the call, the value, the bound and the remedy."""

import math
from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import unboxed
from optax_momentum._base.placement import committed_devices
from optax_momentum._base.scalars import is_concrete
from optax_momentum._storage.stored import Stored, is_stored
from optax_momentum.storage import Storage

Beta = TypeVar("Beta")

_NUMBERS = (int, float, complex, np.generic, np.ndarray, jax.Array)  # and tracers


# A leaf that takes no part in a step, though not every one: float0 arrays are arrays.
Absent = optax.MaskedNode | None


def is_absent(leaf: object) -> TypeGuard[Absent]:
    """True for a leaf that takes no part in a step: `None`, `MaskedNode` or float0.

    JAX uses the dtype float0 for the gradient of an integer.
    """
    missing = leaf is None or isinstance(leaf, optax.MaskedNode)
    return missing or getattr(leaf, "dtype", None) == jax.dtypes.float0


def check_beta(call: str, beta: object) -> None:
    """Raises unless 0 ≤ beta < 1; a traced beta is trusted."""
    known = _concrete_value(f"{call}: beta", beta)
    if known is not None and not 0 <= known < 1:
        raise ValueError(
            f"{call}: beta must lie in [0, 1), got {beta!s}. It is the fraction of the "
            "buffer kept at each step; `linear_momentum` accepts any coefficients."
        )


def one_beta(call: str, beta: Beta | None, momentum: Beta | None) -> Beta:
    """Returns β, which PyTorch, Keras and `optax.sgd` call momentum; raises for two.

    The caller checks the value, also that of None if neither is given.
    """
    if beta is not None and momentum is not None:
        raise TypeError(
            f"{call}: got beta={beta!s} and momentum={momentum!s}, which are two names "
            "of one argument. Drop one of them."
        )
    return cast(Beta, beta if momentum is None else momentum)


def check_dampening(call: str, dampening: object, nesterov: object) -> None:
    """Raises unless 0 ≤ dampening ≤ 1, or if nesterov is combined with dampening."""
    known = _concrete_value(f"{call}: dampening", dampening)
    if known is not None and not 0 <= known <= 1:
        raise ValueError(
            f"{call}: dampening must lie in [0, 1], got {dampening!s}. It is the "
            "fraction of each gradient kept out of the buffer; 0 disables dampening."
        )
    if known and _concrete_value(f"{call}: nesterov", nesterov):
        raise ValueError(
            f"{call}: nesterov=True needs dampening=0, got {dampening!s}; PyTorch "
            "defines no dampened look-ahead. Drop one of the two."
        )


def check_switch(name: str, switch: object) -> None:
    """Raises unless the switch is True or False.

    0.0 and 1.0 also pass, because `optax.inject_hyperparams` turns bools into floats.
    """
    if _concrete_value(name, switch) not in (None, 0, 1):
        raise ValueError(f"{name} must be True or False, got {switch!s}.")


def check_learning_rate(call: str, learning_rate: object) -> None:
    """Raises unless 0 ≤ learning_rate < ∞; a traced rate is trusted."""
    known = _concrete_value(f"{call}: learning_rate", learning_rate)
    if known is not None and not 0 <= known < math.inf:
        raise ValueError(
            f"{call}: learning_rate must lie in [0, inf), got {learning_rate!s}. To "
            "ascend instead of descend, negate the gradients before this call."
        )


def check_correction(call: str, correction: object, learning_rate: object) -> None:
    """Raises if the correction is on but the previous learning rate can't be known.

    It can't where the rate is an array or a tracer, which may differ between calls.
    """
    check_switch(f"{call}: momentum_correction", correction)
    predictable = callable(learning_rate) or isinstance(learning_rate, int | float)
    if not predictable and _concrete_value(f"{call}: momentum_correction", correction):
        raise ValueError(
            f"{call}: momentum_correction=True needs learning_rate as a schedule, got "
            f"{learning_rate!s}, which does not reveal the rate of the previous step. "
            "Pass a schedule, or apply the rate outside: `heavy_ball` followed by "
            "`optax.scale_by_learning_rate`."
        )


def check_scalar(
    name: str,
    value: object,
    holds: Callable[[float], ArrayLike],
    bound: str,
    remedy: str,
) -> None:
    """Raises unless `holds(value)`; a traced value is trusted.

    Args:
      name: what the value is, as "call: argument".
      value: the value to check.
      holds: the condition.
      bound: the condition in words, to follow "must".
      remedy: one or two sentences that say what the argument is, or what to do.
    """
    known = _concrete_value(name, value)
    if known is not None and not holds(known):
        raise ValueError(f"{name} must {bound}, got {value!s}. {remedy}")


def check_every_k(call: str, every_k: object) -> None:
    """Raises unless every_k is a whole number ≥ 1; a traced value is trusted."""
    check_scalar(
        f"{call}: every_k",
        every_k,
        lambda known: known >= 1 and known % 1 == 0,
        "be a whole number of at least 1",
        "It is the number of update calls that make up one step.",
    )


def check_transformation(name: str, given: object) -> None:
    """Raises unless the argument has the init and update of a transformation."""
    if callable(getattr(given, "init", None)) and callable(
        getattr(given, "update", None)
    ):
        return
    raise TypeError(
        f"{name} must be an optax.GradientTransformation, got {given!r:.60}. Pass one, "
        "for example `heavy_ball(0.9)`."
    )


def check_storage(storage: object) -> None:
    """Raises unless the argument is a `Storage` or None."""
    if storage is None or isinstance(storage, Storage):
        return
    raise TypeError(
        f"storage must be a Storage or None, got {storage!r:.60}. Pass what "
        "`storage.float32()`, `storage.bfloat16()` or `storage.int8()` returns."
    )


def check_params(params: optax.Params) -> None:
    """Raises unless every leaf is a floating-point or complex array or number."""
    for path, leaf in jax.tree.leaves_with_path(unboxed(params)):
        type_name = _unsupported_type(leaf)
        if type_name is None:
            continue
        raise TypeError(
            f"init: params{jax.tree_util.keystr(path)} is of type {type_name}, which "
            "can't have momentum. Exclude it with `optax.masked` or "
            "`optax.partition`, or cast it to bfloat16, float16, float32, float64 or "
            "complex."
        )


def wrong_state(state: object, expected: type) -> TypeError:
    """Returns the error for a state of another type than `init` returns."""
    return TypeError(
        f"update: the state must be a {expected.__name__}, got {type(state).__name__}. "
        "Pass the state returned by init or by the previous update; restore a "
        "checkpoint into that structure, not into a dict or a list."
    )


def check_buffer(call: str, buffer: object, updates: optax.Updates) -> None:
    """Raises if the state was made without a buffer, as by `sgd` without beta."""
    if buffer is None and updates is not None:
        raise ValueError(
            f"{call}: the state has no momentum buffer, as that of `sgd` without beta. "
            "Call init of this optimizer, or `sgd` without beta to continue the run."
        )


def check_structure(
    name: str, given: optax.OptState, next_state: optax.OptState
) -> None:
    """Raises if a step changed the structure of the state that a wrapper holds."""
    before, after = jax.tree.structure(given), jax.tree.structure(next_state)
    if before != after:
        raise TypeError(
            f"{name} must have the structure that init gives it. Pass the state "
            "returned by init or by the previous update; restore a checkpoint into "
            "that structure, where a list does not replace a tuple.\n"
            f"  expected: {after!s:.300}\n  got:      {before!s:.300}"
        )


def pair_leaves(
    updates: optax.Updates, buffer: optax.Updates
) -> tuple[list[tuple[jax.tree_util.KeyPath, Any, Any]], Any]:
    """Matches each gradient with its buffer; raises where the two don't fit.

    Returns:
      (path, gradient, buffer) for every leaf, and the tree structure to unflatten
      results into. An absent gradient is paired with whatever the buffer has there, be
      it a leaf or a subtree.
    """
    gradients, tree = jax.tree.flatten_with_path(updates, is_leaf=is_absent)
    try:
        buffers = tree.flatten_up_to(buffer)
    except (ValueError, TypeError):
        raise ValueError(_tree_difference(updates, buffer)) from None
    for (path, gradient), m in zip(gradients, buffers, strict=True):
        if is_absent(gradient):
            continue
        if not is_stored(m) and not jax.tree_util.all_leaves([m]):
            raise ValueError(_tree_difference(updates, buffer))
        _check_gradient(path, gradient, m)
    leaves = [
        (path, gradient, m)
        for (path, gradient), m in zip(gradients, buffers, strict=True)
    ]
    return leaves, tree


def _concrete_value(name: str, value: object) -> float | None:
    """Returns the value of a real scalar, or None if it is traced; raises otherwise."""
    if not isinstance(value, _NUMBERS):
        raise TypeError(
            f"{name} must be a number or a traced scalar, got {value!r} of type "
            f"{type(value).__name__}."
        )
    shape = jnp.shape(value)
    if shape != ():
        raise ValueError(
            f"{name} must be a scalar, got shape {shape}. To run several values at "
            "once, `jax.vmap` over the function that builds the transformation."
        )
    if jnp.iscomplexobj(value):
        raise TypeError(f"{name} must be real, got {value!s}.")
    return np.asarray(value, np.float64).item() if is_concrete(value) else None


def _check_gradient(
    path: jax.tree_util.KeyPath, gradient: ArrayLike, buffer: Stored
) -> None:
    """Raises unless the gradient can be added to its buffer: type, shape and device."""
    where = f"update: the gradient at updates{jax.tree_util.keystr(path)}"
    type_name = _unsupported_type(gradient)
    if type_name is not None:
        raise TypeError(
            f"{where} is of type {type_name}; a gradient must be a floating-point or "
            "complex array, or None for a parameter without one."
        )
    if jnp.shape(gradient) != buffer.shape:
        raise ValueError(
            f"{where} has shape {jnp.shape(gradient)}, its buffer {buffer.shape}; "
            "broadcasting would change the parameters' shape. Call init on the same "
            "params you train."
        )
    if jnp.iscomplexobj(gradient) != jnp.iscomplexobj(buffer):
        raise TypeError(
            f"{where} is of type {jnp.result_type(gradient)}, its buffer {buffer.dtype}"
            "; an imaginary part would be lost. Make both real or both complex."
        )
    gradient_devices = committed_devices(gradient)
    buffer_devices = committed_devices(jax.tree.leaves(buffer)[0])
    if gradient_devices and buffer_devices and gradient_devices != buffer_devices:
        raise ValueError(
            f"{where} is on {sorted(map(str, gradient_devices))}, its buffer on "
            f"{sorted(map(str, buffer_devices))}. Move both to the same devices with "
            "`jax.device_put`."
        )


def _tree_difference(updates: optax.Updates, buffer: optax.Updates) -> str:
    """Describes how the tree of `updates` differs from the tree passed to `init`."""
    got, expected = _leaves_by_path(updates), _leaves_by_path(buffer)
    absent = tuple(path for path, leaf in got.items() if is_absent(leaf))
    present = [path for path, leaf in expected.items() if not is_absent(leaf)]
    lines = [
        f"  only in updates: {path}"
        for path in got
        if path not in present
        and not (path in absent and any(known.startswith(path) for known in expected))
    ]
    lines += [
        f"  only in the state: {path}"
        for path in present
        if path not in got and not path.startswith(absent)
    ]
    if not lines:  # The paths agree, so the containers' types must differ.
        lines = [
            f"  updates:   {jax.tree.structure(updates)}",
            f"  the state: {jax.tree.structure(buffer)}",
        ]
    return (
        "update: updates differs from the tree passed to init. Call init on the same "
        "params you train.\n" + "\n".join(lines)
    )


def _unsupported_type(leaf: object) -> str | None:
    """Returns the name of a leaf's type if it can't have momentum, else None."""
    if isinstance(leaf, np.ndarray | np.generic | jax.Array | jax.ShapeDtypeStruct):
        supported = jnp.issubdtype(leaf.dtype, jnp.inexact)
        supported = supported and jnp.finfo(leaf.dtype).bits >= 16
        return None if supported else str(leaf.dtype)
    return None if isinstance(leaf, float | complex) else type(leaf).__name__


def _leaves_by_path(tree: optax.Updates) -> dict[str, object]:
    leaves = jax.tree.leaves_with_path(
        tree, is_leaf=lambda leaf: is_absent(leaf) or is_stored(leaf)
    )
    return {jax.tree_util.keystr(path) or "the root": leaf for path, leaf in leaves}
