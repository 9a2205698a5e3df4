"""Outer optimizers over many inner steps: Lookahead, SlowMo, DiLoCo, SNOO."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import map_boxed, on_plain_trees
from optax_momentum._base.checks import (
    Absent,
    check_every_k,
    check_params,
    check_structure,
    check_switch,
    is_absent,
    wrong_state,
)
from optax_momentum._base.parameters import (
    apply_present_updates,
    check_given,
    strongly_typed_copy,
)
from optax_momentum._base.placement import replaced_where, zero_beside
from optax_momentum._base.scalars import common_dtype, is_concrete


class OuterState(NamedTuple):
    """State of `outer_loop`."""

    since_sync: jax.Array  # shape (), int32: inner steps since the last outer step
    slow: optax.Params  # w: the parameters after the last outer step, in their dtypes
    inner: optax.OptState
    outer: optax.OptState


def outer_loop(
    inner: optax.GradientTransformation,
    outer: optax.GradientTransformation,
    every_k: ArrayLike,
    *,
    reset_inner: ArrayLike = False,
) -> optax.GradientTransformationExtraArgs:
    """Takes an outer step after every k inner steps, over their total displacement.

        w̃ ← w̃ + inner(∇f(w̃))                                      w̃: the parameters
        and after every k:  s = w − w̃,   w ← w + outer(s),   w̃ ← w          w̃₀ = w₀

    s is the start minus the end of k inner steps; the outer optimizer takes it as its
    gradient. Known methods:

        Lookahead   sgd(0.5)                       w ← w − α·s            k = 5
        SlowMo      sgd(1.0, 0.7)                  b ← β·b + s,  w ← w − α·b
        DiLoCo      sgd(0.7, 0.9, nesterov=True)   b ← β·b + s,  w ← w − α·(β·b + s)
        SNOO        DiLoCo on one worker

    If the update of a leaf is `None` or `optax.MaskedNode` at an outer step, the leaf
    skips that outer step, and its s carries over to the next.

    SlowMo divides s by the inner learning rate γ and later multiplies by it. That
    cancels while γ is constant; if it is not, chain a scale of 1/γ before the outer
    momentum. With several workers, average s by chaining a `jax.lax.pmean` before
    `outer`.

    Units: w, w̃ and s have the parameters' units, so the outer learning rate α has
    none. With α = 1 and β = 0 the outer step ends where the inner steps did. For a
    constant s, the outer step settles at α·s/(1 − β).

    Args:
      inner: makes the inner steps: any optimizer, including its learning rate.
      outer: makes the outer step from s and w: any optimizer, such as `sgd`, whose
        updates are ready to be added to w.
      every_k: k ≥ 1, inner steps per outer step: an int or a traced scalar.
      reset_inner: whether to reinitialize the inner optimizer after each outer step,
        including its counts and schedules: a bool or a traced scalar.

    Returns:
      A transformation with an `OuterState`, whose updates are ready to be applied. Put
      nothing after it in a chain, or the parameters would drift away from w. Its
      `update` needs the parameters; extra arguments go to the inner optimizer.

    Raises:
      ValueError: every_k is not a whole number of at least 1; `update` gets no params.
      TypeError: every_k or reset_inner is not a real number; a leaf given to `init` is
        neither floating-point nor complex.

    Differs from `optax.lookahead`: the parameters stay a plain tree, with the slow
    weights in the state; the outer step may have momentum; and a reset discards NaN.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import sgd
    >>> optimizer = outer_loop(sgd(0.25), sgd(0.5, 0.5, nesterov=True), every_k=2)
    >>> params = jnp.array([4.0])
    >>> state = optimizer.init(params)
    >>> for _ in range(2):  # inner steps of −1, then w = 4 − 0.5·(0.5·2 + 2)
    ...     updates, state = optimizer.update(jnp.array([4.0]), state, params)
    ...     params = optax.apply_updates(params, updates)
    >>> params
    Array([2.5], dtype=float32)

    References:
      Zhang et al. 2019, arXiv:1907.08610: Lookahead, k = 5, α = 0.5.
      Wang et al. 2019, arXiv:1910.00643: SlowMo, α = 1, β from 0.4 to 0.8.
      Douillard et al. 2023, arXiv:2311.08105: DiLoCo, k = 500, α = 0.7, β = 0.9.
      Kallusky et al. 2025, arXiv:2510.15830: SNOO.
    """
    check_every_k("outer_loop", every_k)
    check_switch("outer_loop: reset_inner", reset_inner)
    inner = optax.with_extra_args_support(inner)
    may_reset = not is_concrete(reset_inner) or bool(reset_inner)

    def init(params: optax.Params) -> OuterState:
        check_params(params)
        slow = map_boxed(strongly_typed_copy, params)
        since_sync = zero_beside(params, jnp.int32)
        return OuterState(since_sync, slow, inner.init(params), outer.init(params))

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: object,
    ) -> tuple[optax.Updates, OuterState]:
        if not isinstance(state, OuterState):
            raise wrong_state(state, OuterState)
        params = check_given("outer_loop", params)
        updates, inner_state = inner.update(updates, state.inner, params, **extra_args)
        check_structure("outer_loop: inner", state.inner, inner_state)
        since_sync = state.since_sync + 1
        sync = since_sync >= jnp.asarray(every_k, jnp.int32)
        step = _displacement(
            state.slow, apply_present_updates(params, updates), updates
        )
        step, outer_state = outer.update(step, state.outer, state.slow)
        check_structure("outer_loop: outer", state.outer, outer_state)
        slow = apply_present_updates(state.slow, step)
        if may_reset:
            fresh = inner.init(slow)
            reset = sync & jnp.asarray(reset_inner, bool)
            inner_state = _choose(reset, fresh, inner_state)
        after = OuterState(
            since_sync=jnp.where(sync, 0, since_sync),
            slow=_choose(sync, slow, state.slow),
            inner=inner_state,
            outer=_choose(sync, outer_state, state.outer),
        )
        return _towards(sync, slow, params, updates), after

    return on_plain_trees(optax.GradientTransformationExtraArgs(init, update))


def _displacement(
    slow: optax.Params, fast: optax.Params, updates: optax.Updates
) -> optax.Updates:
    """w − w̃ in float32 or wider; absent wherever the update is absent."""

    def subtract(
        update: jax.Array, w: jax.Array, fast: jax.Array
    ) -> jax.Array | Absent:
        if is_absent(update):
            return update
        dtype = common_dtype(w.dtype, jnp.float32)
        return w.astype(dtype) - fast.astype(dtype)

    return jax.tree.map(subtract, updates, slow, fast, is_leaf=is_absent)


def _towards(
    sync: jax.Array, slow: optax.Params, params: optax.Params, updates: optax.Updates
) -> optax.Updates:
    """The inner updates; if `sync`, the updates that lead from the parameters to w."""

    def choose(
        update: jax.Array, w: jax.Array, parameter: jax.Array
    ) -> jax.Array | Absent:
        if is_absent(update):
            return update
        update = jnp.asarray(update)
        dtype = common_dtype(w.dtype, update.dtype)
        away = w.astype(dtype) - jnp.asarray(parameter, dtype)
        return jnp.where(sync, away.astype(update.dtype), update)

    return jax.tree.map(choose, updates, slow, params, is_leaf=is_absent)


def _choose(
    condition: jax.Array, on_true: optax.OptState, on_false: optax.OptState
) -> optax.OptState:
    """Selects one of two trees, with the dtypes and shardings of the second."""
    return jax.tree.map(partial(replaced_where, condition), on_true, on_false)
