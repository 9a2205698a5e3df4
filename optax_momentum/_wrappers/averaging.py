"""Running averages of the parameters, as chain elements that change no update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import boxed_like, map_boxed, on_plain_trees, unboxed
from optax_momentum._base.checks import (
    check_params,
    check_scalar,
    check_switch,
    is_absent,
    wrong_state,
)
from optax_momentum._base.parameters import (
    apply_present_updates,
    check_given,
    strongly_typed_copy,
)
from optax_momentum._base.placement import conform_to, zero_beside
from optax_momentum._base.scalars import checked_schedule, select
from optax_momentum._wrappers.lawa import LatestState, mean_of_latest


class AverageState(NamedTuple):
    """State of `parameter_ema` and `polyak_average`; `averaged_params` reads it."""

    step: jax.Array  # shape (), int32: number of updates so far
    average: optax.Params  # θ̄: the parameters' tree and shapes, in float32 or wider


def parameter_ema(
    rho: optax.ScalarOrSchedule = 0.999, *, warm_up: ArrayLike = True
) -> optax.GradientTransformationExtraArgs:
    """Tracks an exponential moving average (EMA) of the parameters; changes no update.

        θ̄₀ = θ₀,   θ̄ₜ = ρₜ·θ̄ₜ₋₁ + (1 − ρₜ)·θₜ
        ρₜ = ρ,   or with warm_up  min(ρ, (t − 1)/t)

    θₜ are the parameters after step t. With the warm-up, θ̄ is the plain mean of θ₁,
    θ₂, … for the first 1/(1 − ρ) steps, so θ₀ leaves no trace. Put this element last:
    it does not see what later elements of the chain do to the update.

    Units: θ̄ has the parameters' units. ρ is the share of θ̄ kept per step;
    `beta_from_half_life` computes it from a half-life in steps or samples. For κ times
    the batch size use ρ^κ.

    Args:
      rho: ρ in [0, 1]: a number, a traced scalar, or a schedule of the step, which is 0
        at the first update.
      warm_up: whether to start with the plain mean: a bool or a traced scalar.

    Returns:
      A transformation with an `AverageState`. It passes updates through unchanged; its
      `update` needs the parameters.

    Raises:
      ValueError: rho is outside [0, 1], NaN or not a scalar; `update` gets no params.
      TypeError: rho is not a real number.

    Differs from `optax.ema`, which averages the updates, and from
    `optax.incremental_update`, a function without state. Here the average is part of
    the optimizer's state, in float32 or wider even if the parameters are bfloat16.

    >>> import jax.numpy as jnp
    >>> optimizer = optax.chain(optax.scale(-1.0), parameter_ema(0.75))
    >>> params = jnp.zeros(2)
    >>> state = optimizer.init(params)
    >>> for _ in range(3):
    ...     updates, state = optimizer.update(jnp.ones(2), state, params)
    ...     params = optax.apply_updates(params, updates)
    >>> averaged_params(state)  # the mean of −1, −2 and −3
    Array([-2., -2.], dtype=float32)

    References:
      Polyak and Juditsky 1992, doi:10.1137/0330046.
      Morales-Brotons et al. 2024, arXiv:2411.18704: EMA of weights.
      Busbridge et al. 2023, arXiv:2307.13813: ρ^κ at κ times the batch.
    """
    check_switch("parameter_ema: warm_up", warm_up)
    rho_at = checked_schedule(_check_rho, rho)

    def share(step: jax.Array) -> jax.Array:
        share = jnp.asarray(1 - rho_at(step), float)
        of_mean = 1 / (step.astype(float) + 1)
        return jnp.maximum(share, select(warm_up, of_mean, jnp.zeros_like(share)))

    return _running_average("parameter_ema", share)


def polyak_average(start: ArrayLike = 0) -> optax.GradientTransformationExtraArgs:
    """Tracks the mean of the parameters since step `start`; changes no update.

        θ̄ₜ = (θ_{s+1} + … + θₜ)/(t − s),   and θ̄ₜ = θₜ for t ≤ s          s = start

    Put it last in the chain, like `parameter_ema`.

    Units: θ̄ has the parameters' units.

    Args:
      start: s ≥ 0, the number of initial steps to leave out: a number or a traced
        scalar.

    Returns:
      A transformation with an `AverageState`. It passes updates through unchanged; its
      `update` needs the parameters.

    Raises:
      ValueError: start is negative, NaN or not a scalar; `update` gets no params.
      TypeError: start is not a real number.

    Differs from `torch.optim.ASGD`, which also decays the learning rate.

    >>> import jax.numpy as jnp
    >>> optimizer = optax.chain(optax.scale(-1.0), polyak_average(start=1))
    >>> params = jnp.zeros(2)
    >>> state = optimizer.init(params)
    >>> for _ in range(3):
    ...     updates, state = optimizer.update(jnp.ones(2), state, params)
    ...     params = optax.apply_updates(params, updates)
    >>> averaged_params(state)  # the mean of −2 and −3
    Array([-2.5, -2.5], dtype=float32)

    References:
      Polyak and Juditsky 1992, doi:10.1137/0330046.
    """
    remedy = "It is the number of initial steps that the mean leaves out."
    bound = "be at least 0"
    check_scalar("polyak_average: start", start, lambda s: s >= 0, bound, remedy)

    def share(step: jax.Array) -> jax.Array:
        since = step.astype(float) - jnp.asarray(start, float)
        return 1 / (jnp.maximum(since, 0) + 1)

    return _running_average("polyak_average", share)


def averaged_params(state: optax.OptState, params: optax.Params | None = None) -> Any:
    """Reads the averaged parameters from an optimizer's state, however deeply nested.

    Args:
      state: the state of `parameter_ema`, `polyak_average` or `lawa`, or of any
        optimizer that contains one of them.
      params: the current parameters. If given, the averages are cast to their dtypes,
        and leaves that are not averaged because they are masked are taken from here.

    Returns:
      The averages as a tree like the parameters, in float32 or wider if params is None.
      Before the first step they equal the parameters passed to `init`.

    Raises:
      ValueError: the state holds no average, or more than one.
    """
    kinds = AverageState | LatestState
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds))
    states = [node for node in nodes if isinstance(node, kinds)]
    if len(states) != 1:
        raise ValueError(
            f"averaged_params: the state must hold one average, got {len(states)}. Put "
            "`parameter_ema`, `polyak_average` or `lawa` last in the chain; if there "
            "are several averages, pass the state of one of them."
        )
    one = unboxed(states[0])
    average: Any = one.average if isinstance(one, AverageState) else mean_of_latest(one)
    if params is None:
        return average

    def like(average: jax.Array, parameter: jax.Array) -> jax.Array:
        if is_absent(average):
            return parameter
        return average.astype(jnp.result_type(parameter))

    averages = jax.tree.map(like, average, unboxed(params), is_leaf=is_absent)
    return boxed_like(params, averages)


def _running_average(
    call: str, share_at: Callable[[jax.Array], jax.Array]
) -> optax.GradientTransformationExtraArgs:
    """θ̄ ← θ̄ + share·(θ − θ̄)."""

    def init(params: optax.Params) -> AverageState:
        check_params(params)
        average = map_boxed(lambda leaf: strongly_typed_copy(leaf, jnp.float32), params)
        return AverageState(zero_beside(params, jnp.int32), average)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, AverageState]:
        if not isinstance(state, AverageState):
            raise wrong_state(state, AverageState)
        params = check_given(call, params)
        share = share_at(state.step)

        def move(theta: jax.Array, average: jax.Array) -> jax.Array:
            if is_absent(theta):
                return average
            # Not (1 − share)·θ̄ + share·θ: rounding errors of 1 − share would add up.
            away = jnp.asarray(theta, average.dtype) - average
            return conform_to(average, average + jnp.asarray(share, away.dtype) * away)

        average = jax.tree.map(
            move,
            apply_present_updates(params, updates),
            state.average,
            is_leaf=is_absent,
        )
        step = jnp.asarray(optax.safe_increment(state.step))
        return updates, AverageState(step, average)

    return on_plain_trees(optax.GradientTransformation(init, update))


def _check_rho(rho: object) -> None:
    remedy = "It is the share of the average that each step keeps."
    check_scalar(
        "parameter_ema: rho", rho, lambda r: 0 <= r <= 1, "lie in [0, 1]", remedy
    )
