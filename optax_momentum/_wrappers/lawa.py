"""Latest weight averaging (LAWA): the mean of the latest iterates, in a ring buffer."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import map_boxed, on_plain_trees
from optax_momentum._base.checks import (
    check_params,
    check_scalar,
    is_absent,
    wrong_state,
)
from optax_momentum._base.parameters import (
    apply_present_updates,
    check_given,
    strongly_typed_copy,
)
from optax_momentum._base.placement import conform_to, zero_beside
from optax_momentum._base.scalars import common_dtype


class LatestState(NamedTuple):
    """State of `lawa`; `averaged_params` reads it."""

    step: jax.Array  # shape (), int32: number of updates so far
    latest: optax.Params  # the ring: [k, *shape] for each parameter, in its dtype
    kept: jax.Array  # shape (), int32: number of iterates stored so far


def lawa(k: int, *, every: ArrayLike = 1) -> optax.GradientTransformationExtraArgs:
    """Tracks the mean of the latest k iterates (LAWA); changes no update.

        θ̄ₜ = mean of the last k of θₑ, θ₂ₑ, θ₃ₑ, …          e = every

    Put it last in the chain, like `parameter_ema`. It stores k copies of the
    parameters; `averaged_params` computes their mean on demand.

    Units: θ̄ has the parameters' units.

    Args:
      k: number of iterates in the mean, an int of at least 1; it is an array shape, so
        it cannot be traced. The paper uses 6.
      every: e ≥ 1, steps between stored iterates: an int or a traced scalar. The paper
        stores one iterate per epoch.

    Returns:
      A transformation with a `LatestState`. It passes updates through unchanged; its
      `update` needs the parameters.

    Raises:
      ValueError: k or every is not a whole number of at least 1; `update` gets no
        params.
      TypeError: every is not a real number.

    Differs from `parameter_ema`: it forgets an iterate completely after k·e steps.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import averaged_params
    >>> optimizer = optax.chain(optax.scale(-1.0), lawa(2))
    >>> params = jnp.zeros(2)
    >>> state = optimizer.init(params)
    >>> for _ in range(3):
    ...     updates, state = optimizer.update(jnp.ones(2), state, params)
    ...     params = optax.apply_updates(params, updates)
    >>> averaged_params(state)  # the mean of −2 and −3
    Array([-2.5, -2.5], dtype=float32)

    References:
      Kaddour 2022, arXiv:2209.14981.
    """
    if not isinstance(k, int) or k < 1:
        raise ValueError(
            f"lawa: k must be an int of at least 1, got {k!r}. It is the number of "
            "copies to store: an array shape, which cannot be traced."
        )
    check_scalar(
        "lawa: every",
        every,
        lambda steps: steps >= 1 and steps % 1 == 0,
        "be a whole number of at least 1",
        "It counts steps between stored iterates; 1 stores every iterate.",
    )

    def init(params: optax.Params) -> LatestState:
        check_params(params)
        latest = map_boxed(partial(_ring, k), params)
        step, kept = (zero_beside(params, jnp.int32) for _ in range(2))
        return LatestState(step, latest, kept)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, LatestState]:
        if not isinstance(state, LatestState):
            raise wrong_state(state, LatestState)
        params = check_given("lawa", params)
        step = jnp.asarray(optax.safe_increment(state.step))
        due = step % jnp.asarray(every, jnp.int32) == 0
        slot = state.kept % k

        def store(theta: jax.Array, ring: jax.Array) -> jax.Array:
            if is_absent(theta):
                return ring
            iterate = jnp.where(due, jnp.asarray(theta, ring.dtype), ring[slot])
            return conform_to(ring, ring.at[slot].set(iterate))

        iterates = apply_present_updates(params, updates)
        latest = jax.tree.map(store, iterates, state.latest, is_leaf=is_absent)
        kept = jnp.where(due, optax.safe_increment(state.kept), state.kept)
        return updates, LatestState(step, latest, kept)

    return on_plain_trees(optax.GradientTransformation(init, update))


def mean_of_latest(state: LatestState) -> optax.Params:
    """The mean over the slots in use, in float32 or wider; θ₀ fills the first slot."""

    def mean(ring: jax.Array) -> jax.Array:
        dtype = common_dtype(ring.dtype, jnp.float32)
        used = jnp.clip(state.kept, 1, len(ring))
        in_use = jnp.arange(len(ring)) < used
        weights = in_use.astype(dtype) / used.astype(dtype)
        weighted = weights.reshape(-1, *[1] * (ring.ndim - 1)) * ring.astype(dtype)
        return jnp.sum(weighted, axis=0)

    return jax.tree.map(mean, state.latest)


def _ring(
    k: int, leaf: ArrayLike | jax.ShapeDtypeStruct
) -> jax.Array | jax.ShapeDtypeStruct:
    """k copies of a leaf, [k, *shape]."""

    def stack(leaf: jax.Array) -> jax.Array:
        return jnp.stack([leaf] * k)

    leaf = strongly_typed_copy(leaf)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.eval_shape(stack, leaf)
    return stack(leaf)
