"""State surgery: resetting, rescaling and converting the momentum of a run."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import boxed_like, unboxed
from optax_momentum._base.checks import check_scalar, is_absent
from optax_momentum._base.placement import conform_to
from optax_momentum._base.scalars import common_dtype, is_concrete, promote_scalar
from optax_momentum._methods.momentum import Coefficients, MomentumState
from optax_momentum._storage.stored import Blocks, Parts, Stored, is_stored

State = TypeVar("State")
Where = optax.Params | Callable[[jax.tree_util.KeyPath], ArrayLike] | None


def reset_momentum(state: State, where: Where = None) -> State:
    """Sets the momentum of all leaves, or of selected leaves, to zero: m = 0.

    It resets every `MomentumState` in the state, at any depth inside `optax.chain`,
    `masked`, `partition` or `inject_hyperparams`, and changes nothing else. NaN and inf
    also become 0. With `outer_loop`, this includes the outer momentum; pass
    `state.inner` to reset only the inner one. A pure function: it works under
    `jax.jit`, `vmap` and on sharded arrays, and keeps structure, dtypes and shardings.

    `step` stays, so that schedules continue. Hence the run does not start over
    entirely: `heavy_ball` with dampening dampens the next gradient, unlike the first of
    a run.

    `weight` is one scalar for all leaves. If all leaves are reset, it is reset too, and
    debiasing starts over. If only some are reset, it stays, and those leaves start as
    an average without debiasing: too small by a factor of 1 − βⁿ after n steps.

    Args:
      state: the state of any optimizer, as returned by `init` or `update`.
      where: which leaves: None for all; a function from a leaf's path, a tuple of JAX
        keys, to a bool; or a tree of bools, one for each leaf or subtree of the params.
        The bools may be traced.

    Returns:
      The new state.

    Raises:
      ValueError: the state contains no `MomentumState`, or `where` does not fit the
        params.

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
        selected = _selected("reset_momentum", momentum.buffer, where)
        buffer = jax.tree.map(_zero_where, selected, momentum.buffer)
        weight = momentum.weight
        if where is None:
            weight = _zero_where(True, weight)
        return momentum._replace(buffer=buffer, weight=weight)

    return for_each_momentum("reset_momentum", reset, state)


def rescale_momentum(state: State, factor: ArrayLike, where: Where = None) -> State:
    """Multiplies the momentum of all leaves, or of selected leaves, by `factor`.

    If the buffer contains the learning rate, as in `keras`, a factor of α_new/α_old is
    the momentum correction for a change of the rate from α_old to α_new.

    If all leaves are rescaled, so is `weight`, and m/weight, the debiased average of
    the gradients, stays the same. If only some are rescaled, `weight` stays, and the
    debiased average of those leaves is multiplied by `factor`.

    Args:
      state: the state of any optimizer that contains a `MomentumState`, at any depth.
      factor: a number or a traced scalar, of any sign.
      where: which leaves; see `reset_momentum`.

    Returns:
      The new state, with the same structure, dtypes and shardings. The product is
      rounded to the buffer's dtype.

    Raises:
      ValueError: factor is not finite or not a scalar; the state contains no
        `MomentumState`; or `where` does not fit the params.
      TypeError: factor is not a real number.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import heavy_ball
    >>> tx = heavy_ball(0.5)
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    >>> tx.update(jnp.ones(2), rescale_momentum(state, 0.1))[0]  # 0.5·0.1 + 1
    Array([1.05, 1.05], dtype=float32)

    References:
      Goyal et al. 2017, arXiv:1706.02677, section 3: momentum correction.
    """
    name, remedy = "rescale_momentum: factor", "To clear m, use `reset_momentum`."
    check_scalar(name, factor, math.isfinite, "be finite", remedy)

    def rescale(momentum: MomentumState) -> MomentumState:
        selected = _selected("rescale_momentum", momentum.buffer, where)

        def scale(selected: ArrayLike, m: Stored) -> Stored:
            return jax.tree.map(partial(_select, selected), _times(factor, m), m)

        buffer = jax.tree.map(scale, selected, momentum.buffer)
        weight = momentum.weight
        if where is None:
            weight = _times(factor, weight)
        return momentum._replace(buffer=buffer, weight=weight)

    return for_each_momentum("rescale_momentum", rescale, state)


def change_convention(
    state: State,
    old: Callable[[jax.Array], Coefficients],
    new: Callable[[jax.Array], Coefficients],
) -> State:
    """Converts a state so that the method of `new` continues a run of that of `old`.

        m′ = (a′/a)·m          a, a′: the gains of `old` and `new` at the next step

    Methods with the same β differ only in the unit of m, so m′ is the buffer that `new`
    would have by now. This is exact if a′/a was the same at every step: between `ema`,
    `heavy_ball` (with any dampening or nesterov) and similar methods at a constant β,
    and to or from `keras` at a constant learning rate. `step` stays, so schedules
    continue and no first step is repeated. For settings that are plain numbers,
    `convert.momentum_state` does the same and reports whether the steps stay equal.

    Args:
      state: the state of any optimizer that contains a `MomentumState`, at any depth.
      old: the coefficients of the method so far, such as `ema_coefficients(0.9)`.
      new: the coefficients of the method that continues.

    Returns:
      The new state, for the same optimizer with the new method in place of the old.

    Raises:
      ValueError: β differs, or the old gain is 0 (traced values are not checked); or
        the state contains no `MomentumState`.

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
    """Raises unless one buffer is a multiple of the other; skips traced values."""
    betas: list[Any] = [old.beta, new.beta]
    if all(map(is_concrete, betas)) and not math.isclose(*betas, rel_tol=1e-6):
        raise ValueError(
            "change_convention: beta must be equal in `old` and `new`, got "
            f"{old.beta!s} and {new.beta!s}. A buffer cannot be converted to another "
            "beta: keep beta, or use `reset_momentum`."
        )
    if is_concrete(old.gain) and old.gain == 0:
        raise ValueError(
            "change_convention: the gain of `old` must not be 0, got 0.0. No gradient "
            "enters such a buffer, so its unit is unknown. Convert at a learning rate "
            "above 0, or use `reset_momentum`."
        )


def for_each_momentum(
    call: str,
    operate: Callable[[MomentumState], MomentumState],
    state: State,
    rebox: Callable[[MomentumState, MomentumState], MomentumState] = boxed_like,
) -> State:
    """Applies `operate` to every `MomentumState` in a state, out of any boxes."""

    def is_momentum(node: object) -> bool:
        return isinstance(node, MomentumState)

    def apply(node: Any) -> Any:
        if not is_momentum(node):
            return node
        return rebox(node, operate(unboxed(node)))

    leaves, tree = jax.tree.flatten(state, is_leaf=is_momentum)
    if not any(map(is_momentum, leaves)):
        raise ValueError(
            f"{call}: there is no MomentumState in the state, a "
            f"{type(state).__name__}. Pass the state of an optimizer that contains one "
            "of this library's methods."
        )
    return tree.unflatten(map(apply, leaves))


def _selected(call: str, buffer: optax.Updates, where: Where) -> optax.Updates:
    """A tree like the buffer with a bool, perhaps traced, for each of its leaves."""
    all_leaves = jax.tree.map(lambda _: True, buffer, is_leaf=is_stored)
    if where is None:
        return all_leaves
    if callable(where):
        return jax.tree.map_with_path(lambda path, _: where(path), all_leaves)
    bools = dict(jax.tree.leaves_with_path(unboxed(where)))
    unused = set(bools)

    def bool_at(path: Any, _: Any) -> ArrayLike:
        # By path, so that a dict also selects from a container like Flax's `State`.
        for end in range(len(path) + 1):
            if path[:end] in bools:
                unused.discard(path[:end])
                return bools[path[:end]]
        raise _misfit(call, f"it has none for {jax.tree_util.keystr(path)}")

    selected = jax.tree.map_with_path(bool_at, all_leaves)
    # Bools may also stand for leaves that `optax.masked` has taken out.
    for path, leaf in jax.tree.leaves_with_path(buffer, is_leaf=is_absent):
        if is_absent(leaf):
            unused -= {path[:end] for end in range(len(path) + 1)}
    if unused:
        named = ", ".join(sorted(map(jax.tree_util.keystr, unused)))
        raise _misfit(call, f"the params have no {named}")
    return selected


def _misfit(call: str, difference: str) -> ValueError:
    return ValueError(
        f"{call}: `where` must be a function of the path, or a tree with one bool for "
        f"each leaf or subtree of the params: {difference}."
    )


def _zero_where(selected: ArrayLike, m: Stored) -> Stored:
    def zero(m: jax.Array) -> jax.Array:
        # Zeros computed from m keep its sharding; under jit, jnp.zeros would be
        # replicated. |m| because 0·−1 is −0.
        size = jnp.where(jnp.isfinite(m), jnp.abs(m), 0)
        return _select(selected, conform_to(m, 0 * size), m)

    return jax.tree.map(zero, m)


def _select(selected: ArrayLike, new: jax.Array, old: jax.Array) -> jax.Array:
    """One of two arrays of the same type; the other may contain NaN."""
    if is_concrete(selected):
        return new if selected else old
    return jax.lax.select(jnp.asarray(selected, bool), new, old)


def _times(factor: ArrayLike, m: Stored) -> Stored:
    """factor·m, multiplied in float32 or wider, in the dtype and sharding of m."""
    if isinstance(m, Blocks):
        return m._replace(scales=_times(factor, m.scales))
    if isinstance(m, Parts):
        return Parts(_times(factor, m.real), _times(factor, m.imag))
    dtype = common_dtype(m.dtype, jnp.float32)
    return conform_to(
        m, m.astype(dtype) * jnp.asarray(promote_scalar(factor)).astype(dtype)
    )
