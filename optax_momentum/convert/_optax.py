"""Conversion between states of Optax's own momentum and a `MomentumState`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import unboxed
from optax_momentum._methods.momentum import MomentumState

_MOMENTUM = optax.TraceState, optax.EmaState
_COUNTED = optax.EmaState, optax.ScaleByScheduleState


def from_optax(
    state: optax.OptState, *, beta: float, step: ArrayLike | None = None
) -> MomentumState:
    """Converts a state of `optax.sgd`, `optax.trace` or `optax.ema` to ours.

    The conversion is exact: `sgd` or `heavy_ball` continues a trace, `ema` an average.

    Args:
      state: what `init` and `update` of Optax's transformation return, or of a chain
        that has one of them.
      beta: Optax's momentum or decay, in [0, 1). Only the state's `weight`, which
        debiasing reads, depends on it; it assumes a constant beta.
      step: the number of updates so far. By default it is the count of the average or
        of the learning-rate schedule; with a constant rate, `optax.sgd` counts nothing.

    Returns:
      A state whose buffer is the trace, or the average without debiasing.

    Raises:
      ValueError: the state has no momentum, or more than one; nothing in it counts the
        steps, and step is None; beta is outside [0, 1).

    >>> import jax.numpy as jnp
    >>> optimizer = optax.sgd(0.5, momentum=0.5)
    >>> state = optimizer.init(jnp.zeros(2))
    >>> _, state = optimizer.update(jnp.ones(2), state)
    >>> from_optax(state, beta=0.5, step=1).buffer
    Array([1., 1.], dtype=float32)
    """
    if not 0 <= beta < 1:
        raise ValueError(
            f"from_optax: beta must lie in [0, 1), got {beta}. It is the momentum of "
            "`optax.sgd` and `optax.trace`, or the decay of `optax.ema`."
        )
    momentum = _only_momentum(state)
    if step is None:
        counts = [each.count for each in _states(state, _COUNTED)]
        if not counts:
            raise ValueError(
                "from_optax: nothing in the state counts the steps. Pass "
                "step=, the number of updates so far."
            )
        step = counts[0]
    step = jnp.asarray(step, jnp.int32)
    average = 1 - jnp.asarray(beta, jnp.float32) ** step
    if isinstance(momentum, optax.EmaState):
        buffer, weight = momentum.ema, average
    else:
        buffer, weight = momentum.trace, average / (1 - beta)
    return MomentumState(step, buffer, weight.astype(jnp.float32))


def to_optax(state: MomentumState, into: optax.OptState) -> optax.OptState:
    """Converts a state back for Optax; inverse of `from_optax`.

    Args:
      state: of `heavy_ball` or `sgd` for a trace, of `ema` for an average; convert that
        of another convention with `momentum_state`. Its buffer has no storage.
      into: a state of Optax's transformation, such as `init` returns.

    Returns:
      `into` with our buffer, and with our step wherever it counts steps.

    Raises:
      ValueError: `into` has no momentum, or more than one, or another tree.

    >>> import jax.numpy as jnp
    >>> state = MomentumState(jnp.int32(3), jnp.ones(2), jnp.float32(0.875))
    >>> to_optax(state, optax.ema(0.5).init(jnp.zeros(2)))
    EmaState(count=Array(3, dtype=int32), ema=Array([1., 1.], dtype=float32))
    """
    momentum = _only_momentum(into)
    field = "ema" if isinstance(momentum, optax.EmaState) else "trace"
    theirs = jax.tree.structure(getattr(momentum, field))
    if jax.tree.structure(state.buffer) != theirs:
        raise ValueError(
            f"to_optax: the buffer is a tree {jax.tree.structure(state.buffer)}, that "
            f"of Optax {theirs}. Pass the state of the same parameters, without a "
            "storage."
        )
    step = unboxed(state.step)

    def replaced(each: Any) -> Any:
        if isinstance(each, _MOMENTUM):
            each = each._replace(**{field: state.buffer})
        if isinstance(each, _COUNTED):
            each = each._replace(count=jnp.asarray(step, jnp.int32))
        return each

    return jax.tree.map(replaced, into, is_leaf=_is_either)


def _only_momentum(state: optax.OptState) -> Any:
    found = _states(state, _MOMENTUM)
    if len(found) != 1:
        raise ValueError(
            f"the state has {len(found)} of `optax.TraceState` and `optax.EmaState`, "
            "and must have one. Pass the state of one optax.sgd, trace or ema."
        )
    return found[0]


def _states(state: optax.OptState, kinds: tuple[type, ...]) -> list[Any]:
    leaves = jax.tree.leaves(state, is_leaf=_is_either)
    return [leaf for leaf in leaves if isinstance(leaf, kinds)]


def _is_either(each: object) -> bool:
    return isinstance(each, (*_MOMENTUM, *_COUNTED))
