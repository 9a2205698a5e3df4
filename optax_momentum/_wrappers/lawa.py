"""The mean of the latest iterates (LAWA), kept in a ring."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

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
    """What `lawa` keeps; read it by `averaged_params`."""

    step: jax.Array  # shape (), int32: calls of update so far
    latest: optax.Params  # [k, *shape] for each parameter, in its dtype: a ring
    kept: jax.Array  # shape (), int32: iterates put into the ring so far


def lawa(k: int, *, every: ArrayLike = 1) -> optax.GradientTransformation:
    """Keeps the last k iterates for their mean (LAWA), changing no update.

        θ̄ₜ = mean of the last k of θₑ, θ₂ₑ, θ₃ₑ, …          e = every

    Units: parameters. Put it last in the chain, as `parameter_ema`. Costs k copies of
    the parameters; their mean is computed where it is read.

    Args:
      k: iterates in the mean, an int of at least 1: it is a shape. The paper's k is 6.
      every: e ≥ 1, steps from one kept iterate to the next: the paper's are an epoch
        apart. An int or a traced scalar.

    Returns:
      A transformation with a `LatestState`. It emits the updates that it is given; its
      update needs the parameters.

    Raises:
      ValueError: k or every not a whole number of at least 1; at update, without
        params.
      TypeError: every is not a real number.

    Differs from `parameter_ema`: forgets an iterate after k·e steps, wholly.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import averaged_params
    >>> optimizer = optax.chain(optax.scale(-1.0), lawa(2))
    >>> params = jnp.zeros(2)
    >>> state = optimizer.init(params)
    >>> for _ in range(3):
    ...     updates, state = optimizer.update(jnp.ones(2), state, params)
    ...     params = optax.apply_updates(params, updates)
    >>> averaged_params(state)  # of −2 and −3
    Array([-2.5, -2.5], dtype=float32)

    References:
      Kaddour 2022, arXiv:2209.14981.
    """
    if not isinstance(k, int) or k < 1:
        raise ValueError(
            f"lawa: k must be an int of at least 1, got {k!r}. It is the number of "
            "copies that are kept, which a traced value can't be."
        )
    check_scalar(
        "lawa: every",
        every,
        lambda steps: steps >= 1 and steps % 1 == 0,
        "be a whole number of at least 1",
        "It is in steps; 1 keeps every iterate.",
    )

    def init(params: optax.Params) -> LatestState:
        check_params(params)
        latest = jax.tree.map(partial(_ring, k), params)
        step, kept = (zero_beside(params, jnp.int32) for _ in range(2))
        return LatestState(step, latest, kept)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, LatestState]:
        if not isinstance(state, LatestState):
            raise wrong_state(state, LatestState)
        check_given("lawa", params)
        step = jnp.asarray(optax.safe_increment(state.step))
        due = step % jnp.asarray(every, jnp.int32) == 0
        slot = state.kept % k

        def keep(theta: Any, ring: Any) -> Any:
            if is_absent(theta):
                return ring
            kept = jnp.where(due, jnp.asarray(theta, ring.dtype), ring[slot])
            return conform_to(ring, ring.at[slot].set(kept))

        latest = jax.tree.map(
            keep,
            apply_present_updates(params, updates),
            state.latest,
            is_leaf=is_absent,
        )
        kept = jnp.where(due, optax.safe_increment(state.kept), state.kept)
        return updates, LatestState(step, latest, kept)

    return optax.GradientTransformation(init, update)


def mean_of_latest(state: LatestState) -> optax.Params:
    """The mean over the slots in use, in float32 or wider; at first θ₀ fills one."""

    def mean(ring: jax.Array) -> jax.Array:
        dtype = common_dtype(ring.dtype, jnp.float32)
        used = jnp.clip(state.kept, 1, len(ring))
        in_use = jnp.arange(len(ring)) < used
        weights = in_use.astype(dtype) / used.astype(dtype)
        weighed = weights.reshape(-1, *[1] * (ring.ndim - 1)) * ring.astype(dtype)
        return jnp.sum(weighed, axis=0)

    return jax.tree.map(mean, state.latest)


def _ring(k: int, leaf: Any) -> Any:
    """k copies of a leaf, [k, *shape]."""

    def stack(leaf: Any) -> jax.Array:
        return jnp.stack([leaf] * k)

    leaf = strongly_typed_copy(leaf)
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.eval_shape(stack, leaf)
    return stack(leaf)
