"""Momentum as one linear recurrence; every convention is a choice of coefficients."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import (
    check_params,
    check_storage,
    check_switch,
    is_absent,
    pair_leaves,
    wrong_state,
)
from optax_momentum._base.placement import zero_beside, zeros_like
from optax_momentum._base.scalars import common_dtype, is_concrete, select
from optax_momentum._storage.branch import in_a_branch
from optax_momentum._storage.stall import warn_of_float32, warn_of_stall
from optax_momentum._storage.stored import is_stored, value, values
from optax_momentum.storage import Storage, store


class Coefficients(NamedTuple):
    """One step: m ← beta·m + gain·g, then u = from_buffer·m + from_gradient·g."""

    beta: ArrayLike  # every field: shape (), a Python number or a traced scalar
    gain: ArrayLike
    from_buffer: ArrayLike = 1.0
    from_gradient: ArrayLike = 0.0


class MomentumState(NamedTuple):
    """What a linear momentum method keeps between steps."""

    step: jax.Array  # shape (), int32: calls of update so far
    buffer: optax.Updates  # m: structure, shapes and dtypes of params, or as stored
    weight: jax.Array  # shape (), float32: the same recurrence fed with gradient 1


def linear_momentum(
    coefficients: Callable[[jax.Array], Coefficients],
    *,
    debias: ArrayLike = False,
    storage: Storage | None = None,
) -> optax.GradientTransformation:
    """The recurrence itself: whatever its coefficients make of it, unchecked.

        m₀ = 0,   mₜ = βₜ·mₜ₋₁ + aₜ·gₜ,   uₜ = bₜ·mₜ + cₜ·gₜ

    with (β, a, b, c) = `coefficients(step)`, read anew at step 0, 1, … Any value is
    taken: β = 1 is an integrator, β < 0 the negative momentum of games (Gidel et al.).

    Sums run in float32 or wider, whatever the gradients' dtype; m is kept in the
    parameter's dtype, or by `storage`; uₜ comes back in the gradient's. A leaf whose
    gradient is `None`, `optax.MaskedNode` or float0 is passed on as it is and keeps its
    m; `optax.apply_updates` and `optax.MultiSteps` (0.2.8) refuse the first and last:
    use `optax.masked`, or Equinox's `apply_updates`.

    NaN and infinity stay in their own element of m, for good; `guard` keeps them out. A
    sum beyond its dtype is infinite, and a subnormal is 0 where the device has none, as
    in XLA on a CPU.

    Units: m is in gradients times a; a constant g settles at u = (a·b/(1 − β) + c)·g.

    Args:
      coefficients: maps the step, an int32 scalar, to `Coefficients` of scalars.
      debias: divides b by the state's `weight`, which is the m of a constant gradient
        of 1: the average then weighs the gradients by weights that sum to 1, at every
        step and under any schedule of β. A bool, or a traced scalar.
      storage: how m is kept between steps, `storage.int8()` for example; see
        `optax_momentum.storage`. None keeps it in the parameter's dtype, and warns
        where that is so narrow that m would stall.

    Returns:
      A transformation with a `MomentumState`. It emits uₜ, not negated: chain it with
      `optax.scale_by_learning_rate`, unless the coefficients hold the sign and rate.

    Raises:
      TypeError: storage is no `Storage`; at init, for a leaf that is not floating-point
        or complex; at update, for such a gradient, or one that is complex where its
        parameter is real.
      ValueError: at update, for a tree or a shape that init did not see, a gradient on
        another device, or a buffer in another storage.

    Warns: at init, of a leaf in float64 where `jax_enable_x64` is off, of which JAX
      keeps float32.

    Differs from `optax.trace` and `optax.ema`: the state's dtypes never change, shapes
    are never broadcast, absent leaves keep their m, debiasing knows schedules, and the
    update never shares memory with the state.

    >>> import jax.numpy as jnp
    >>> tx = linear_momentum(lambda step: Coefficients(beta=-0.5, gain=1.0))
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.ones(2), state)[0]  # −0.5·1 + 1
    Array([0.5, 0.5], dtype=float32)

    References:
      Gidel et al. 2018, arXiv:1807.04740, negative momentum.
    """

    check_switch("linear_momentum: debias", debias)
    check_storage(storage)

    def init(params: optax.Params) -> MomentumState:
        check_params(params)
        warn_of_float32(params)
        if storage is None:
            warn_of_stall(params, coefficients)
        zeros = zeros_like if storage is None else storage.init
        buffer = jax.tree.map(zeros, params)
        step, weight = (zero_beside(params, d) for d in (jnp.int32, jnp.float32))
        return MomentumState(step, buffer, weight)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, MomentumState]:
        del params  # a linear method never looks at the parameters
        if not isinstance(state, MomentumState):
            raise wrong_state(state, MomentumState)
        now = coefficients(state.step)
        one = jnp.ones((), jnp.float32)
        weight = scaled(now.beta, state.weight) + scaled(now.gain, one)
        if not is_concrete(debias) or debias:
            debiased = scaled(now.from_buffer, one) / weight
            now = now._replace(from_buffer=select(debias, debiased, now.from_buffer))
        leaves, tree = pair_leaves(updates, state.buffer)
        stepped = []
        for path, g, held in leaves:
            if is_absent(g):
                stepped.append((g, held))
                continue
            g = jnp.asarray(g)
            step_stored = partial(_step_stored, now, storage, state.step, path)
            if is_stored(held) and not is_concrete(state.step):
                step_stored = in_a_branch(state.step >= 0, step_stored)
            stepped.append(step_stored(g, held))
        emitted = tree.unflatten([gradient for gradient, _ in stepped])
        buffer = tree.unflatten([buffer for _, buffer in stepped])
        step = jnp.asarray(optax.safe_increment(state.step))
        return emitted, MomentumState(step, buffer, weight)

    return optax.GradientTransformation(init, update)


def momenta(state: optax.OptState) -> list[MomentumState]:
    """Every `MomentumState` in the state of a chain or wrapper; its m as arrays."""
    leaves = jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, MomentumState))
    found = [leaf for leaf in leaves if isinstance(leaf, MomentumState)]
    return [momentum._replace(buffer=values(momentum.buffer)) for momentum in found]


def _step_stored(
    now: Coefficients,
    storage: Storage | None,
    step: jax.Array,
    path: Any,
    gradient: jax.Array,
    held: Any,
) -> tuple[jax.Array, Any]:
    """u, and m as it is kept: a leaf is decoded, stepped and stored again."""
    u, m = _step_leaf(now, gradient, jnp.asarray(value(held)))
    return u, store(storage, m, held, step, path)


def _step_leaf(
    now: Coefficients, gradient: jax.Array, buffer: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """u, and m in the widest of both dtypes and float32: one step of one leaf."""
    dtype = common_dtype(gradient.dtype, buffer.dtype, jnp.float32)
    g, m = gradient.astype(dtype), buffer.astype(dtype)
    added = g if _is(now.gain, 1) else rounded(scaled(now.gain, g))
    m = scaled(now.beta, m) + added
    # Also b = 1 is multiplied: u must not be the array that the state keeps.
    u = scaled(now.from_buffer, m)
    if not _is(now.from_gradient, 0):  # 0·g makes NaN of an infinite g
        # Another g to a compiler, which would keep a product that both sums share.
        apart = jax.lax.optimization_barrier(g)
        u += rounded(scaled(now.from_gradient, apart))
    return u.astype(gradient.dtype), m


def scaled(factor: ArrayLike, x: jax.Array) -> jax.Array:
    """factor·x in the dtype of x, with a real factor also where x is complex."""
    factor = jnp.asarray(factor, jnp.finfo(x.dtype).dtype)
    if jnp.iscomplexobj(x):
        return jax.lax.complex(factor * x.real, factor * x.imag)
    return factor * x


def _is(factor: ArrayLike, number: int) -> bool:
    """True for the number itself, known before any step is traced."""
    return isinstance(factor, int | float) and factor == number


def rounded(product: jax.Array) -> jax.Array:
    """The product, for a sum with another: so that a compiler fuses the other one.

    Of two products it fuses either with their sum, not the same one inside a scan as
    outside: an ulp apart. It can't fuse what is clamped, here to what it is anyway.
    """
    if jnp.iscomplexobj(product):
        return jax.lax.complex(rounded(product.real), rounded(product.imag))
    most = jnp.finfo(product.dtype).max
    clamped = jax.lax.clamp(-most, product, most)
    return jnp.where(jnp.isinf(product), product, clamped)
