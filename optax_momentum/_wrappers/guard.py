"""Guarding: steps with a non-finite or exploding gradient are skipped."""

from collections.abc import Hashable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_momentum._base.boxes import on_plain_trees
from optax_momentum._base.checks import check_scalar, check_structure, wrong_state
from optax_momentum._base.norm import squared_norm
from optax_momentum._base.placement import replaced_where, zero_beside
from optax_momentum._base.scalars import checked_schedule


class GuardState(NamedTuple):
    """State of `guard`: the inner state, and counts of shape () and dtype int32."""

    inner_state: optax.OptState
    accepted: jax.Array  # steps taken
    skipped: jax.Array  # steps skipped
    consecutive_skips: jax.Array  # steps skipped since the last accepted step
    longest_skips: jax.Array  # most consecutive skips so far


def guard(
    inner: optax.GradientTransformation,
    *,
    max_norm: optax.ScalarOrSchedule | None = None,
    axis_name: Hashable | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Skips every step that would poison `inner`, as if it had never happened.

    A step is skipped if

    - any element of any gradient is NaN or infinite,
    - the global norm of the gradients exceeds `max_norm`, or
    - the update or the new state overflows although the gradients are finite.

    A skipped step emits zeros and leaves the state of `inner` unchanged, bit for bit:
    buffers, counters and schedules all stand still. Therefore wrap the *whole* chain; a
    schedule outside would keep counting.

    One decision holds for all leaves. It selects values rather than multiplying by
    zero, which would turn inf into NaN, and it does not branch, which would hold a
    second copy of the state. There is no limit to the number of skips. To stop a
    hopeless run, read `optax.tree.get(state, "consecutive_skips")` on the host.

    Units: those of `inner`; max_norm has the gradients' units.

    Args:
      inner: the transformation to guard; it receives the extra arguments of `update`.
      max_norm: the largest accepted √(Σ|g|²) over all leaves: a positive number, a
        traced scalar, or a schedule of the accepted steps. From a norm of 1.8e19 on,
        the sum of squares overflows float32 and exceeds every finite bound. Clipping
        would shorten a spike but let its direction in; this keeps it out.
      axis_name: the mapped axis, or tuple of axes, of `jax.pmap` or `jax.shard_map`
        over which devices must agree: a step that is bad on one device is skipped on
        all. Each device computes its own norm. Not needed under `jax.jit`, even with
        sharded arrays.

    Returns:
      A transformation with a `GuardState`.

    Raises:
      ValueError: max_norm is not positive, NaN or not a scalar.
      TypeError: max_norm is not a real number; `update` gets a state of another type,
        or an inner state of another structure.

    Differs from `optax.apply_if_finite`, which accepts a NaN after a given number of
    consecutive errors, checks only the gradients, and branches. Differs from
    `optax.MultiSteps`, whose accumulator stays NaN forever after one infinite gradient,
    because (1 − emit)·inf is NaN, unless it is given `skip_not_finite`.

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
        **extra_args: object,
    ) -> tuple[optax.Updates, GuardState]:
        if not isinstance(state, GuardState):
            raise wrong_state(state, GuardState)
        old = state.inner_state
        emitted, new = guarded.update(updates, old, params, **extra_args)
        check_structure("guard: inner_state", old, new)
        good = _finite(updates) & _finite(emitted) & _stays_finite(old, new)
        if bound_at is not None:
            norm = jnp.sqrt(squared_norm(updates))
            good &= norm <= jnp.asarray(bound_at(state.accepted), norm.dtype)
        if axis_name is not None:
            good = jax.lax.psum((~good).astype(jnp.int32), axis_name) == 0
        if_good = partial(replaced_where, good)
        emitted = jax.tree.map(if_good, emitted, jax.tree.map(jnp.zeros_like, emitted))
        inner_state = jax.tree.map(if_good, new, old)
        return emitted, _counted(state, good)._replace(inner_state=inner_state)

    return on_plain_trees(optax.GradientTransformationExtraArgs(init, update))


def _check_max_norm(max_norm: object) -> None:
    check_scalar(
        "guard: max_norm",
        max_norm,
        lambda known: known > 0,
        "lie in (0, inf]",
        "It is the largest accepted gradient norm; None accepts every finite one.",
    )


def _counted(state: GuardState, good: jax.Array) -> GuardState:
    """Updates the counts, which saturate at the largest int32."""

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


def _finite(tree: optax.Updates) -> jax.Array:
    """True where every element of every inexact leaf is finite."""
    return _all(jnp.isfinite(leaf) for leaf in _inexact_leaves(tree))


def _stays_finite(old: optax.OptState, new: optax.OptState) -> jax.Array:
    """True unless a finite element became NaN or infinite."""
    pairs = zip(_inexact_leaves(old), _inexact_leaves(new), strict=True)
    return _all(jnp.isfinite(n) | ~jnp.isfinite(o) for o, n in pairs)


def _all(truths: Iterable[jax.Array]) -> jax.Array:
    good = jnp.ones((), bool)
    for truth in truths:
        good &= jnp.all(truth)
    return good


def _inexact_leaves(tree: optax.Updates) -> list[jax.Array]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
