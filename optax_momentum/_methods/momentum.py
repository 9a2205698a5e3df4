"""The linear recurrence behind every momentum method, and its state."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import map_boxed, on_plain_trees, unboxed
from optax_momentum._base.checks import (
    check_buffer,
    check_params,
    check_storage,
    check_switch,
    is_absent,
    pair_leaves,
    wrong_state,
)
from optax_momentum._base.placement import zero_beside, zeros_like
from optax_momentum._base.scalars import common_dtype, is_concrete, select
from optax_momentum._storage.branch import as_cond_branch
from optax_momentum._storage.stall import (
    warn_if_buffer_stalls,
    warn_if_float64_disabled,
)
from optax_momentum._storage.stored import Stored, is_stored, value, values
from optax_momentum.storage import Storage, store


class Coefficients(NamedTuple):
    """One step of a method: m ← beta·m + gain·g, u = from_buffer·m + from_gradient·g.

    Every field is a scalar: a Python number, or an array or tracer of shape ().

    Attributes:
      beta: β, the fraction of m kept at the step.
      gain: a, the factor of the gradient g that enters m.
      from_buffer: b, the factor of m in the update u.
      from_gradient: c, the factor of g in the update u.
    """

    beta: ArrayLike
    gain: ArrayLike
    from_buffer: ArrayLike = 1.0
    from_gradient: ArrayLike = 0.0


class MomentumState(NamedTuple):
    """The state of a linear momentum method between steps.

    Attributes:
      step: int32, shape (), the number of update calls so far.
      buffer: m, a tree like params; leaves of the same dtypes, or encoded by a storage.
      weight: float32, shape (), the m that constant gradients of 1 would have led to.
    """

    step: jax.Array
    buffer: optax.Updates
    weight: jax.Array


def linear_momentum(
    coefficients: Callable[[jax.Array], Coefficients],
    *,
    debias: ArrayLike = False,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The linear recurrence itself, for any coefficients, without checking them.

        m₀ = 0,   mₜ = βₜ·mₜ₋₁ + aₜ·gₜ,   uₜ = bₜ·mₜ + cₜ·gₜ

    Here (β, a, b, c) = `coefficients(step)`, evaluated at every step 0, 1, … Any values
    are allowed: β = 1 integrates, β < 0 is the negative momentum used for games.

    Sums run in float32 or wider, whatever the gradients' dtype. The buffer m has the
    parameter's dtype unless `storage` says otherwise, and uₜ has the gradient's. If the
    gradient of a leaf is `None`, `optax.MaskedNode` or float0, it is returned unchanged
    and its m stays as it is. `optax.apply_updates` and `optax.MultiSteps` (0.2.8)
    reject `None` and float0: use `optax.masked`, or Equinox's `apply_updates`.

    A NaN or infinity stays in its element of m forever; use `guard` to keep it out. A
    sum that overflows its dtype becomes infinite. A subnormal becomes 0 on devices that
    flush subnormals, XLA's CPU backend among them.

    Units: m is in gradients times a. A constant g settles at u = (a·b/(1 − β) + c)·g.

    Args:
      coefficients: maps the step, an int32 scalar, to the `Coefficients` of that step.
      debias: whether to divide b by the state's `weight`, which is the m of a constant
        gradient of 1. The weights of the average then sum to 1, at every step and
        under any schedule of β. A bool or a traced scalar.
      storage: how to store m between steps, for example `storage.int8()`; see
        `optax_momentum.storage`. By default m has the parameter's dtype, and init
        warns if that is so narrow that m would stall.

    Returns:
      A transformation with a `MomentumState`. Its update is uₜ, not negated: chain it
      with `optax.scale_by_learning_rate`, unless the coefficients already include the
      sign and the learning rate.

    Raises:
      TypeError: storage is not a `Storage`; at init, if a parameter is not
        floating-point or complex; at update, if a gradient is not, or if it is complex
        and its parameter real.
      ValueError: at update, if the gradients' tree or a shape differs from the params
        passed to init, if a gradient is on another device than its buffer, or if the
        buffer was made with another storage.

    Warns: at init, if a parameter is float64 and `jax_enable_x64` is off, so that JAX
      converts it to float32.

    Differs from `optax.trace` and `optax.ema`: the state's dtypes never change, shapes
    are never broadcast, leaves without a gradient keep their m, debiasing is correct
    under schedules, and the update never shares memory with the state.

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
        warn_if_float64_disabled(unboxed(params))
        if storage is None:
            warn_if_buffer_stalls(unboxed(params), coefficients)
        buffer = map_boxed(zeros_like if storage is None else storage.init, params)
        return MomentumState(
            step=zero_beside(params, jnp.int32),
            buffer=buffer,
            weight=zero_beside(params, jnp.float32),
        )

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, MomentumState]:
        del params  # A linear method doesn't depend on the parameters.
        if not isinstance(state, MomentumState):
            raise wrong_state(state, MomentumState)
        check_buffer("update", state.buffer, updates)
        now = coefficients(state.step)
        one = jnp.ones((), jnp.float32)
        weight = scale(now.beta, state.weight) + scale(now.gain, one)
        if not is_concrete(debias) or debias:
            debiased = scale(now.from_buffer, one) / weight
            now = now._replace(from_buffer=select(debias, debiased, now.from_buffer))
        leaves, tree = pair_leaves(updates, state.buffer)
        stepped = []
        for path, g, stored in leaves:
            if is_absent(g):
                stepped.append((g, stored))
                continue
            g = jnp.asarray(g)
            step_stored = partial(_step_stored, now, storage, state.step, path)
            if is_stored(stored) and not is_concrete(state.step):
                step_stored = as_cond_branch(state.step >= 0, step_stored)
            stepped.append(step_stored(g, stored))
        emitted = tree.unflatten([gradient for gradient, _ in stepped])
        buffer = tree.unflatten([buffer for _, buffer in stepped])
        step = jnp.asarray(optax.safe_increment(state.step))
        return emitted, MomentumState(step, buffer, weight)

    return on_plain_trees(optax.GradientTransformation(init, update))


def momentum_states(state: optax.OptState) -> list[MomentumState]:
    """Returns every `MomentumState` in a chain's or wrapper's state, m decoded."""
    leaves = jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, MomentumState))
    return [
        unboxed(leaf)._replace(buffer=values(leaf.buffer))
        for leaf in leaves
        if isinstance(leaf, MomentumState)
    ]


def _step_stored(
    now: Coefficients,
    storage: Storage | None,
    step: jax.Array,
    path: jax.tree_util.KeyPath,
    gradient: jax.Array,
    stored: Stored,
) -> tuple[jax.Array, Stored]:
    """Decodes, steps and stores one leaf; returns its u and its stored m."""
    u, m = _step_leaf(now, gradient, jnp.asarray(value(stored)))
    return u, store(storage, m, stored, step, path)


def _step_leaf(
    now: Coefficients, gradient: jax.Array, buffer: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Takes one step of one leaf; returns u, and m in float32 or wider."""
    dtype = common_dtype(gradient.dtype, buffer.dtype, jnp.float32)
    g, m = gradient.astype(dtype), buffer.astype(dtype)
    added = g if _is_number(now.gain, 1) else unfusable(scale(now.gain, g))
    m = scale(now.beta, m) + added
    # Multiply even if b = 1: u must not be the array that the state keeps.
    u = scale(now.from_buffer, m)
    if not _is_number(now.from_gradient, 0):  # 0·g would turn an infinite g into NaN.
        # The barrier stops the compiler from sharing one product between both sums,
        # which it would then have to keep in memory.
        separate_g = jax.lax.optimization_barrier(g)
        u += unfusable(scale(now.from_gradient, separate_g))
    return u.astype(gradient.dtype), m


def scale(factor: ArrayLike, x: jax.Array) -> jax.Array:
    """Returns factor·x in the dtype of x, where the factor is real and x may not be."""
    factor = jnp.asarray(factor, jnp.finfo(x.dtype).dtype)
    if jnp.iscomplexobj(x):
        return jax.lax.complex(factor * x.real, factor * x.imag)
    return factor * x


def _is_number(factor: ArrayLike, number: int) -> bool:
    """True if the factor is a Python number of this value, so never a tracer."""
    return isinstance(factor, int | float) and factor == number


def unfusable(product: jax.Array) -> jax.Array:
    """Returns the product unchanged, but such that no compiler fuses it with a sum.

    In a sum of two products, XLA turns one of them and the sum into a fused
    multiply-add: not always the same one inside a scan as outside, which differs by an
    ulp. It can't fuse a clamped product, and clamping to the finite range changes no
    value.
    """
    if jnp.iscomplexobj(product):
        return jax.lax.complex(unfusable(product.real), unfusable(product.imag))
    most = jnp.finfo(product.dtype).max
    clamped = jax.lax.clamp(-most, product, most)
    return jnp.where(jnp.isinf(product), product, clamped)
