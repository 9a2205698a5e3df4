"""An outer optimizer over many inner steps: Lookahead, SlowMo, DiLoCo, SNOO."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import (
    check_every_k,
    check_params,
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
    """What `outer_loop` keeps between steps."""

    since_sync: jax.Array  # shape (), int32: inner steps since the last outer one
    slow: optax.Params  # w: the parameters at the last outer step, in their dtypes
    inner: optax.OptState
    outer: optax.OptState


def outer_loop(
    inner: optax.GradientTransformation,
    outer: optax.GradientTransformation,
    every_k: ArrayLike,
    *,
    reset_inner: ArrayLike = False,
) -> optax.GradientTransformationExtraArgs:
    """Takes inner steps, and after every k of them an outer step over all k at once.

        w̃ ← w̃ + inner(∇f(w̃))                                      w̃: the parameters
        and after every k:  s = w − w̃,   w ← w + outer(s),   w̃ ← w          w̃₀ = w₀

    s, where k steps began less where they led, is a gradient to the outer optimizer:

        Lookahead   sgd(0.5)                       w ← w − α·s            k = 5
        SlowMo      sgd(1.0, 0.7)                  b ← β·b + s,  w ← w − α·b
        DiLoCo      sgd(0.7, 0.9, nesterov=True)   b ← β·b + s,  w ← w − α·(β·b + s)
        SNOO        as DiLoCo, on one worker

    Units: w, w̃ and s are parameters, so the outer learning rate α has none: at α = 1
    and β = 0 it ends where the inner steps did. A constant s settles at α·s/(1 − β).

    Args:
      inner: makes the k steps; any optimizer, its learning rate included.
      outer: makes the outer step, from s and w; any optimizer, of which `sgd` has the
        sign and the scale that are meant.
      every_k: k ≥ 1, inner steps per outer step. An int or a traced scalar.
      reset_inner: start the inner optimizer afresh after each outer step, its counts
        and schedules included; else its state is kept. A bool or a traced scalar.

    Returns:
      A transformation with an `OuterState`. Its updates are ready to be applied, as
      they are: a transformation after it would part the parameters from w. Its update
      needs the parameters. Extra arguments go to the inner optimizer.

    Raises:
      ValueError: every_k not a whole number of at least 1; at update, without params.
      TypeError: every_k or reset_inner not a real number; at init, a leaf that is not
        floating-point or complex.

    A leaf whose update is `None` or `optax.MaskedNode` when the outer step is made sits
    it out; its s waits for the next. SlowMo divides s by the inner learning rate γ and
    multiplies by it again: the same while γ is constant, else chain a scale of 1/γ
    before the outer momentum. Several workers average s: give `outer` that average by
    chaining a `jax.lax.pmean` before it.

    Differs from `optax.lookahead`: the parameters are plain ones, the slow are in the
    state, the outer step has momentum, and a reset does not let a NaN pass.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import sgd
    >>> optimizer = outer_loop(sgd(0.25), sgd(0.5, 0.5, nesterov=True), every_k=2)
    >>> params = jnp.array([4.0])
    >>> state = optimizer.init(params)
    >>> for _ in range(2):  # of −1 each; then w = 4 − 0.5·(0.5·2 + 2)
    ...     updates, state = optimizer.update(jnp.array([4.0]), state, params)
    ...     params = optax.apply_updates(params, updates)
    >>> params
    Array([2.5], dtype=float32)

    References:
      Zhang et al. 2019, arXiv:1907.08610, Lookahead: k = 5, α = 0.5.
      Wang et al. 2019, arXiv:1910.00643, SlowMo: α = 1, β from 0.4 to 0.8.
      Douillard et al. 2023, arXiv:2311.08105, DiLoCo: k = 500, α = 0.7, β = 0.9.
      Kallusky et al. 2025, arXiv:2510.15830, SNOO.
    """
    check_every_k("outer_loop", every_k)
    check_switch("outer_loop: reset_inner", reset_inner)
    inner = optax.with_extra_args_support(inner)
    resets = not is_concrete(reset_inner) or bool(reset_inner)

    def init(params: optax.Params) -> OuterState:
        check_params(params)
        slow = jax.tree.map(strongly_typed_copy, params)
        since_sync = zero_beside(params, jnp.int32)
        return OuterState(since_sync, slow, inner.init(params), outer.init(params))

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, OuterState]:
        if not isinstance(state, OuterState):
            raise wrong_state(state, OuterState)
        check_given("outer_loop", params)
        updates, inner_state = inner.update(updates, state.inner, params, **extra_args)
        since_sync = state.since_sync + 1
        sync = since_sync >= jnp.asarray(every_k, jnp.int32)
        step = _displacement(
            state.slow, apply_present_updates(params, updates), updates
        )
        step, outer_state = outer.update(step, state.outer, state.slow)
        slow = apply_present_updates(state.slow, step)
        if resets:
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

    return optax.GradientTransformationExtraArgs(init, update)


def _displacement(slow: Any, fast: Any, updates: Any) -> Any:
    """w − w̃ in float32 or wider, absent where the update is."""

    def subtract(update: Any, w: Any, fast: Any) -> Any:
        if is_absent(update):
            return update
        dtype = common_dtype(w.dtype, jnp.float32)
        return w.astype(dtype) - fast.astype(dtype)

    return jax.tree.map(subtract, updates, slow, fast, is_leaf=is_absent)


def _towards(sync: jax.Array, slow: Any, params: Any, updates: Any) -> Any:
    """The updates, or where `sync` those that lead from the parameters to w."""

    def choose(update: Any, w: Any, parameter: Any) -> Any:
        if is_absent(update):
            return update
        update = jnp.asarray(update)
        dtype = common_dtype(w.dtype, update.dtype)
        away = w.astype(dtype) - jnp.asarray(parameter, dtype)
        return jnp.where(sync, away.astype(update.dtype), update)

    return jax.tree.map(choose, updates, slow, params, is_leaf=is_absent)


def _choose(condition: jax.Array, on_true: Any, on_false: Any) -> Any:
    """One of two equal trees, by `where`, in the dtypes and places of the second."""
    return jax.tree.map(partial(replaced_where, condition), on_true, on_false)
