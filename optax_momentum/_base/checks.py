"""Refusals in one voice: the call, the value, the bound and the remedy."""

import math
from collections.abc import Callable
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum._base.placement import committed_to
from optax_momentum._base.scalars import is_concrete
from optax_momentum._storage.stored import is_stored
from optax_momentum.storage import Storage

_NUMBERS = (int, float, complex, np.generic, np.ndarray, jax.Array)  # and tracers


def is_absent(leaf: object) -> TypeGuard[optax.MaskedNode | None]:
    """True for a leaf that takes no part in a step: `None` or `optax.MaskedNode`.

    So is float0, which JAX gives as the gradient of an integer.
    """
    nothing = leaf is None or isinstance(leaf, optax.MaskedNode)
    return nothing or getattr(leaf, "dtype", None) == jax.dtypes.float0


def check_beta(call: str, beta: Any) -> None:
    """Raises unless 0 ≤ beta < 1; a traced beta is trusted."""
    known = _known(f"{call}: beta", beta)
    if known is not None and not 0 <= known < 1:
        raise ValueError(
            f"{call}: beta must lie in [0, 1), got {beta!s}. It is the share of the "
            "buffer that a step keeps; `linear_momentum` takes coefficients unchecked."
        )


def check_dampening(call: str, dampening: Any, nesterov: Any) -> None:
    """Raises unless 0 ≤ dampening ≤ 1, and 0 where nesterov is on."""
    known = _known(f"{call}: dampening", dampening)
    if known is not None and not 0 <= known <= 1:
        raise ValueError(
            f"{call}: dampening must lie in [0, 1], got {dampening!s}. It is the share "
            "of each gradient that is kept out of the buffer; 0 lets all of it in."
        )
    if known and _known(f"{call}: nesterov", nesterov):
        raise ValueError(
            f"{call}: nesterov=True needs dampening=0, got {dampening!s}; PyTorch "
            "defines no dampened look-ahead. Drop one of the two."
        )


def check_switch(name: str, switch: Any) -> None:
    """Raises unless it is on or off; 0.0 and 1.0 are too, as injection makes them."""
    if _known(name, switch) not in (None, 0, 1):
        raise ValueError(f"{name} must be True or False, got {switch!s}.")


def check_learning_rate(call: str, learning_rate: Any) -> None:
    """Raises unless 0 ≤ learning_rate < ∞; a traced rate is trusted."""
    known = _known(f"{call}: learning_rate", learning_rate)
    if known is not None and not 0 <= known < math.inf:
        raise ValueError(
            f"{call}: learning_rate must lie in [0, inf), got {learning_rate!s}. To "
            "climb instead of descend, negate the gradients before this call."
        )


def check_correction(call: str, correction: Any, learning_rate: Any) -> None:
    """Raises where the correction is on and α is a scalar that can change unseen."""
    check_switch(f"{call}: momentum_correction", correction)
    foreseen = callable(learning_rate) or isinstance(learning_rate, int | float)
    if not foreseen and _known(f"{call}: momentum_correction", correction):
        raise ValueError(
            f"{call}: momentum_correction=True needs learning_rate as a schedule, got "
            f"{learning_rate!s}: what the rate was a step ago can't be known. Pass a "
            "schedule, or keep the rate outside: `heavy_ball` and then "
            "`optax.scale_by_learning_rate`."
        )


def check_scalar(
    name: str, value: Any, holds: Callable[[float], bool], bound: str, remedy: str
) -> None:
    """Raises unless `holds(value)`; a traced value is trusted."""
    known = _known(name, value)
    if known is not None and not holds(known):
        raise ValueError(f"{name} must {bound}, got {value!s}. {remedy}")


def check_every_k(call: str, every_k: Any) -> None:
    """Raises unless every_k is a whole number ≥ 1; a traced one is trusted."""
    check_scalar(
        f"{call}: every_k",
        every_k,
        lambda known: known >= 1 and known % 1 == 0,
        "be a whole number of at least 1",
        "It is the number of calls of update that make one step.",
    )


def check_storage(storage: Any) -> None:
    """Raises unless it is a `Storage` or None."""
    if storage is None or isinstance(storage, Storage):
        return
    raise TypeError(
        f"storage must be a Storage or None, got {storage!r:.60}. Pass what "
        "`storage.float32()`, `storage.bfloat16()` or `storage.int8()` returns."
    )


def check_params(params: optax.Params) -> None:
    """Raises unless every leaf is a floating-point or complex array or number."""
    for path, leaf in jax.tree.leaves_with_path(params):
        kind = _kind(leaf)
        if kind is None:
            continue
        raise TypeError(
            f"init: params{jax.tree_util.keystr(path)} is of type {kind}, which holds "
            "no momentum. Leave it out with `optax.masked` or `optax.partition`, or "
            "make it bfloat16, float16, float32, float64 or complex."
        )


def wrong_state(state: object, expected: type) -> TypeError:
    """The error for a state that is not of the type that `init` returns."""
    return TypeError(
        f"update: the state must be a {expected.__name__}, got {type(state).__name__}. "
        "Pass what init or the last update returned; restore a checkpoint into that "
        "structure, not into a dict or a list."
    )


def pair_leaves(
    updates: optax.Updates, buffer: optax.Updates
) -> tuple[list[tuple[Any, Any, Any]], Any]:
    """Path, gradient and buffer of each leaf, and the tree that they unflatten into.

    An absent leaf of `updates` is paired with whatever the buffer holds in its place.
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
    return [(*given, m) for given, m in zip(gradients, buffers, strict=True)], tree


def _known(name: str, value: Any) -> float | None:
    """A real scalar's value, or None where a tracer hides it; raises for all else."""
    if not isinstance(value, _NUMBERS):
        raise TypeError(
            f"{name} must be a number or a traced scalar, got {value!r} of type "
            f"{type(value).__name__}."
        )
    shape = jnp.shape(value)
    if shape != ():
        raise ValueError(
            f"{name} must be a scalar, got shape {shape}. For several values at once, "
            "`jax.vmap` over the function that builds the transformation."
        )
    if jnp.iscomplexobj(value):
        raise TypeError(f"{name} must be real, got {value!s}.")
    return np.asarray(value, np.float64).item() if is_concrete(value) else None


def _check_gradient(path: tuple[Any, ...], gradient: Any, buffer: Any) -> None:
    """Raises unless the gradient has its buffer's shape and a type that adds to it."""
    where = f"update: the gradient at updates{jax.tree_util.keystr(path)}"
    kind = _kind(gradient)
    if kind is not None:
        raise TypeError(
            f"{where} is of type {kind}; a gradient is a floating-point or complex "
            "array, or None where there is none."
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
    got, kept = committed_to(gradient), committed_to(jax.tree.leaves(buffer)[0])
    if got and kept and got != kept:
        raise ValueError(
            f"{where} is on {sorted(map(str, got))}, its buffer on "
            f"{sorted(map(str, kept))}. Put them together, by `jax.device_put`."
        )


def _tree_difference(updates: optax.Updates, buffer: optax.Updates) -> str:
    """Says how the tree of `updates` is not the tree that `init` saw."""
    got, expected = _paths(updates), _paths(buffer)
    absent = tuple(path for path, leaf in got.items() if is_absent(leaf))
    held = [path for path, leaf in expected.items() if not is_absent(leaf)]
    lines = [
        f"  only in updates: {path}"
        for path in got
        if path not in held
        and not (path in absent and any(known.startswith(path) for known in expected))
    ]
    lines += [
        f"  only in the state: {path}"
        for path in held
        if path not in got and not path.startswith(absent)
    ]
    if not lines:  # the same paths, in containers of other types
        lines = [
            f"  updates:   {jax.tree.structure(updates)}",
            f"  the state: {jax.tree.structure(buffer)}",
        ]
    return (
        "update: updates is not the tree that init saw. Call init on the same params "
        "you train.\n" + "\n".join(lines)
    )


def _kind(leaf: Any) -> str | None:
    """The name of a leaf's type where it can't hold momentum, else None."""
    if isinstance(leaf, np.ndarray | np.generic | jax.Array | jax.ShapeDtypeStruct):
        supported = jnp.issubdtype(leaf.dtype, jnp.inexact)
        supported = supported and jnp.finfo(leaf.dtype).bits >= 16
        return None if supported else str(leaf.dtype)
    return None if isinstance(leaf, float | complex) else type(leaf).__name__


def _paths(tree: optax.Updates) -> dict[str, Any]:
    leaves = jax.tree.leaves_with_path(
        tree, is_leaf=lambda leaf: is_absent(leaf) or is_stored(leaf)
    )
    return {jax.tree_util.keystr(path) or "the root": leaf for path, leaf in leaves}
