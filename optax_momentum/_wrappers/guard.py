"""Poison-proof steps: a gradient that is not finite, or spikes, never enters."""

from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_momentum._base.checks import check_scalar, wrong_state
from optax_momentum._base.norm import squared_norm
from optax_momentum._base.placement import replaced_where, zero_beside
from optax_momentum._base.scalars import checked_schedule


class GuardState(NamedTuple):
    """What `guard` keeps: the guarded state, and counts of shape () and dtype int32."""

    inner_state: optax.OptState
    accepted: jax.Array  # steps that went through
    skipped: jax.Array  # steps that did not
    consecutive_skips: jax.Array  # since the last accepted step
    longest_skips: jax.Array  # the most in a row so far


def guard(
    inner: optax.GradientTransformation,
    *,
    max_norm: optax.ScalarOrSchedule | None = None,
    axis_name: Hashable | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Skips every step that would poison `inner`, as if its gradient had never come.

    A step is skipped where any element of any gradient is NaN or infinite; where the
    gradients' global norm exceeds `max_norm`; or where the result is not finite though
    they are: an update or a state that overflows. A skipped step emits zeros and leaves
    the whole state of `inner` as it was, bit for bit: buffers, counters and schedules
    stand still together. So wrap the *whole* chain: a schedule outside runs on.

    One decision holds for all leaves, and it selects: nothing is multiplied by zero,
    which makes NaN of inf, and no branch holds a second copy of the state. It never
    gives in: after any number of skips the next bad gradient is skipped too. To stop a
    run that is lost, read `optax.tree.get(state, "consecutive_skips")` on the host.

    Units: those of `inner`; max_norm is in gradients.

    Args:
      inner: the transformation to guard; extra arguments of update are handed to it.
      max_norm: skip where √(Σ|g|²) over all leaves exceeds this: a positive number, a
        traced scalar, or a schedule of the accepted steps. A sum of squares that
        overflows float32, from a norm of 1.8e19 on, exceeds every finite bound.
        Clipping shortens a spike and lets its direction in; this keeps it out.
      axis_name: the mapped axis, or a tuple of axes, of `jax.pmap` or `jax.shard_map`
        whose ranks must agree: a step is skipped on all where it is bad on any. The
        norm is each rank's own. Not needed under `jax.jit`, also on sharded arrays.

    Returns:
      A transformation with a `GuardState`.

    Raises:
      ValueError: max_norm not positive, NaN, or not a scalar.
      TypeError: max_norm is not a real number; at update, a state of another type.

    Differs from `optax.apply_if_finite`, which accepts the NaN after a number of errors
    in a row, looks at the gradients alone and branches. Differs from
    `optax.MultiSteps`, whose accumulator stays NaN for good after one infinite
    gradient, for (1 − emit)·inf is NaN, unless it is given `skip_not_finite`.

    >>> import jax.numpy as jnp
    >>> tx = guard(optax.trace(0.5), max_norm=100.0)
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> updates, state = tx.update(jnp.array([1.0, jnp.inf]), state)
    >>> updates, int(state.skipped)
    (Array([0., 0.], dtype=float32), 1)
    >>> tx.update(jnp.ones(2), state)[0]  # 0.5·1 + 1
    Array([1.5, 1.5], dtype=float32)
    """
    guarded = optax.with_extra_args_support(inner)
    bound_at = None if max_norm is None else checked_schedule(_check_max_norm, max_norm)

    def init(params: optax.Params) -> GuardState:
        counts = (zero_beside(params, jnp.int32) for _ in range(4))
        return GuardState(guarded.init(params), *counts)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, GuardState]:
        if not isinstance(state, GuardState):
            raise wrong_state(state, GuardState)
        old = state.inner_state
        emitted, new = guarded.update(updates, old, params, **extra_args)
        good = _finite(updates) & _finite(emitted) & _stays_finite(old, new)
        if bound_at is not None:
            norm = jnp.sqrt(squared_norm(updates))
            good &= norm <= jnp.asarray(bound_at(state.accepted), norm.dtype)
        if axis_name is not None:
            good = jax.lax.psum((~good).astype(jnp.int32), axis_name) == 0
        if_good = partial(replaced_where, good)
        emitted = jax.tree.map(if_good, emitted, jax.tree.map(jnp.zeros_like, emitted))
        kept = jax.tree.map(if_good, new, old)
        return emitted, _counted(state, good)._replace(inner_state=kept)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_max_norm(max_norm: Any) -> None:
    check_scalar(
        "guard: max_norm",
        max_norm,
        lambda known: known > 0,
        "lie in (0, inf]",
        "It is the largest gradient norm let in; None lets every finite one in.",
    )


def _counted(state: GuardState, good: jax.Array) -> GuardState:
    """The state with its counts one step on; they stop at the largest int32."""

    def next_of(count: jax.Array) -> jax.Array:
        return jnp.asarray(optax.safe_increment(count))

    zero = jnp.zeros_like(state.skipped)
    run = replaced_where(good, zero, next_of(state.consecutive_skips))
    return state._replace(
        accepted=replaced_where(good, next_of(state.accepted), state.accepted),
        skipped=replaced_where(good, state.skipped, next_of(state.skipped)),
        consecutive_skips=run,
        longest_skips=jnp.maximum(state.longest_skips, run),
    )


def _finite(tree: Any) -> jax.Array:
    """True where every element of every inexact leaf is finite."""
    return _all(jnp.isfinite(leaf) for leaf in _inexact_leaves(tree))


def _stays_finite(old: Any, new: Any) -> jax.Array:
    """True where no element becomes NaN or infinite; one that was may stay."""
    pairs = zip(_inexact_leaves(old), _inexact_leaves(new), strict=True)
    return _all(jnp.isfinite(n) | ~jnp.isfinite(o) for o, n in pairs)


def _all(truths: Any) -> jax.Array:
    good = jnp.ones((), bool)
    for truth in truths:
        good &= jnp.all(truth)
    return good


def _inexact_leaves(tree: Any) -> list[jax.Array]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
