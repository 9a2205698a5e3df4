"""State surgery: what is done to the momentum of a run that goes on."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_scalar
from optax_momentum._base.placement import conform_to
from optax_momentum._base.scalars import common_dtype, is_concrete, promote_scalar
from optax_momentum._methods.momentum import Coefficients, MomentumState
from optax_momentum._storage.stored import Blocks, Parts, is_stored

Where = Any | Callable[[tuple[Any, ...]], ArrayLike] | None


def reset_momentum(state: Any, where: Where = None) -> Any:
    """The state with the momentum of some leaves, or of all, forgotten: m = 0.

    Every `MomentumState` is found, however deep in the states of `optax.chain`,
    `masked`, `partition` or `inject_hyperparams`; all else stays. Of an `outer_loop`
    that is the outer momentum too: for the inner alone, hand in `state.inner`. Also
    what is NaN or infinite becomes 0. Pure: works under `jax.jit`, `vmap` and on
    sharded arrays, and keeps structure, dtypes and shardings.

    `step` stays, for schedules go on. So it is no new start for `heavy_ball` with
    dampening: the next gradient is dampened, as the first of a run is not.

    `weight` is one scalar for all leaves. Where all are reset it is too, and debiasing
    starts anew. Where only some are it stays: these leaves then start as an average
    that is not debiased, too small by 1 − βⁿ after n steps.

    Args:
      state: the state of any optimizer, as `init` or `update` returned it.
      where: which leaves: None for all; a function of a leaf's path, a tuple of JAX's
        keys, to True or False; or a tree of these, one for each leaf or subtree of the
        params. A bool may be traced.

    Returns:
      The new state.

    Raises:
      ValueError: there is no `MomentumState`, or the tree `where` does not fit.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import heavy_ball
    >>> tx = heavy_ball(0.5)
    >>> ones = {"body": jnp.ones(2), "head": jnp.ones(2)}
    >>> _, state = tx.update(ones, tx.init(ones))
    >>> state = reset_momentum(state, lambda path: path[0].key == "head")
    >>> tx.update(ones, state)[0]
    {'body': Array([1.5, 1.5], dtype=float32), 'head': Array([1., 1.], dtype=float32)}
    """

    def reset(momentum: MomentumState) -> MomentumState:
        chosen = _chosen("reset_momentum", momentum.buffer, where)
        buffer = jax.tree.map(_zero_where, chosen, momentum.buffer)
        weight = momentum.weight
        if where is None:
            weight = _zero_where(True, weight)
        return momentum._replace(buffer=buffer, weight=weight)

    return for_each_momentum("reset_momentum", reset, state)


def rescale_momentum(state: Any, factor: ArrayLike, where: Where = None) -> Any:
    """The state with the momentum of some leaves, or of all, multiplied by `factor`.

    For a buffer that holds the learning rate, as that of `keras` does, α_new/α_old is
    the momentum correction after a change of the rate from α_old to α_new.

    Where all leaves are rescaled, `weight` is with them: m/weight, the average gradient
    that debiasing reads out, stays. Where only some are it stays as it is, and the
    debiased read-out of these leaves is `factor` times what it was.

    Args:
      state: the state of any optimizer; see `reset_momentum` for what is found in it.
      factor: a number or a traced scalar, of any sign.
      where: which leaves; see `reset_momentum`.

    Returns:
      The new state: structure, dtypes and shardings as before. The product is rounded
      to the buffer's dtype.

    Raises:
      ValueError: factor not finite or not a scalar; no `MomentumState`; or the tree
        `where` does not fit.
      TypeError: factor is not a real number.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import heavy_ball
    >>> tx = heavy_ball(0.5)
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    >>> tx.update(jnp.ones(2), rescale_momentum(state, 0.1))[0]  # 0.5·0.1 + 1
    Array([1.05, 1.05], dtype=float32)

    References:
      Goyal et al. 2017, arXiv:1706.02677, section 3, momentum correction.
    """
    name, remedy = "rescale_momentum: factor", "To forget m, use `reset_momentum`."
    check_scalar(name, factor, math.isfinite, "be finite", remedy)

    def rescale(momentum: MomentumState) -> MomentumState:
        chosen = _chosen("rescale_momentum", momentum.buffer, where)

        def scaled(chosen: ArrayLike, m: Any) -> Any:
            return jax.tree.map(partial(_pick, chosen), _times(factor, m), m)

        buffer, weight = jax.tree.map(scaled, chosen, momentum.buffer), momentum.weight
        if where is None:
            weight = _times(factor, weight)
        return momentum._replace(buffer=buffer, weight=weight)

    return for_each_momentum("rescale_momentum", rescale, state)


def change_convention(
    state: Any,
    old: Callable[[jax.Array], Coefficients],
    new: Callable[[jax.Array], Coefficients],
) -> Any:
    """The state with which the method of `new` goes on where that of `old` stopped.

    Two methods of one β differ in the unit of m alone: m′ = (a′/a)·m, with a and a′
    their gains at the next step, makes m′ the buffer that `new` would hold by now. That
    is exact where a′/a has been the same at every step: between `ema`, `heavy_ball`
    with any dampening and nesterov, and their like, at a constant β; and to or from
    `keras` while its learning rate is constant. `step` stays: schedules go on, and no
    first step is replayed. Between settings that are plain numbers,
    `convert.momentum_state` does the same, and says whether the steps stay equal.

    Args:
      state: the state of any optimizer; see `reset_momentum` for what is found in it.
      old: the coefficients of the method so far, `ema_coefficients(0.9)` for example.
      new: the coefficients of the method from now on.

    Returns:
      The new state, for the optimizer with the new method in the same place.

    Raises:
      ValueError: β differs, or the old gain is 0, and neither is a tracer; or there is
        no `MomentumState`.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import ema, ema_coefficients
    >>> from optax_momentum import heavy_ball, heavy_ball_coefficients
    >>> _, state = ema(0.5).update(jnp.ones(2), ema(0.5).init(jnp.ones(2)))
    >>> state = change_convention(
    ...     state, old=ema_coefficients(0.5), new=heavy_ball_coefficients(0.5)
    ... )
    >>> heavy_ball(0.5).update(jnp.ones(2), state)[0]  # 0.5·1 + 1
    Array([1.5, 1.5], dtype=float32)
    """

    def change(momentum: MomentumState) -> MomentumState:
        before, after = old(momentum.step), new(momentum.step)
        _check_convertible(before, after)
        return rescale_momentum(
            momentum, promote_scalar(after.gain) / promote_scalar(before.gain)
        )

    return for_each_momentum("change_convention", change, state)


def _check_convertible(old: Coefficients, new: Coefficients) -> None:
    """Raises unless one buffer is a multiple of the other; tracers are trusted."""
    betas: list[Any] = [old.beta, new.beta]
    if all(map(is_concrete, betas)) and not math.isclose(*betas, rel_tol=1e-6):
        raise ValueError(
            f"change_convention: beta must stay, got {old.beta!s} and {new.beta!s}. A "
            "buffer remembers by its own beta: keep that, or `reset_momentum`."
        )
    if is_concrete(old.gain) and old.gain == 0:
        raise ValueError(
            "change_convention: the gain of `old` must not be 0, got 0.0. No gradient "
            "enters that buffer, so that its unit is unknown; wait for a learning rate "
            "above 0, or `reset_momentum`."
        )


def for_each_momentum(
    call: str, operate: Callable[[MomentumState], MomentumState], state: Any
) -> Any:
    """The state with `operate` applied to every `MomentumState` in it."""

    def is_momentum(node: object) -> bool:
        return isinstance(node, MomentumState)

    leaves, tree = jax.tree.flatten(state, is_leaf=is_momentum)
    if not any(map(is_momentum, leaves)):
        raise ValueError(
            f"{call}: there is no MomentumState in the state, a "
            f"{type(state).__name__}. Pass the state of an optimizer that has one of "
            "this library's methods in it."
        )
    return tree.unflatten([operate(x) if is_momentum(x) else x for x in leaves])


def _chosen(call: str, buffer: optax.Updates, where: Where) -> Any:
    """For every leaf of the buffer whether it is meant: a bool, or a traced one."""
    every = jax.tree.map(lambda _: True, buffer, is_leaf=is_stored)
    if where is None:
        return every
    if callable(where):
        return jax.tree.map_with_path(lambda path, _: where(path), every)
    try:
        return jax.tree.broadcast(where, every)
    except ValueError as error:
        raise ValueError(
            f"{call}: the tree `where` must have one bool for each leaf or subtree of "
            f"the params, or be a function of the path: {error}"
        ) from None


def _zero_where(chosen: ArrayLike, m: Any) -> Any:
    def zero(m: jax.Array) -> jax.Array:
        # Made of m: under jit bare zeros would be replicated. Of |m|, for 0·−1 is −0.
        size = jnp.where(jnp.isfinite(m), jnp.abs(m), 0)
        return _pick(chosen, conform_to(m, 0 * size), m)

    return jax.tree.map(zero, m)


def _pick(chosen: ArrayLike, new: jax.Array, old: jax.Array) -> jax.Array:
    """One of two arrays alike; what is not chosen may be NaN."""
    if is_concrete(chosen):
        return new if chosen else old
    return jax.lax.select(jnp.asarray(chosen, bool), new, old)


def _times(factor: ArrayLike, m: Any) -> Any:
    """factor·m, multiplied in float32 or wider and stored as m."""
    if isinstance(m, Blocks):
        return m._replace(scales=_times(factor, m.scales))
    if isinstance(m, Parts):
        return Parts(_times(factor, m.real), _times(factor, m.imag))
    dtype = common_dtype(m.dtype, jnp.float32)
    return conform_to(
        m, m.astype(dtype) * jnp.asarray(promote_scalar(factor)).astype(dtype)
    )
