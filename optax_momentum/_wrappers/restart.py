"""Adaptive restart: momentum is dropped when it would do harm."""

import math
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import on_plain_trees
from optax_momentum._base.checks import check_scalar, wrong_state
from optax_momentum._base.placement import zero_beside, zeros_like
from optax_momentum._base.scalars import common_dtype
from optax_momentum._methods.momentum import MomentumState, momentum_states


class RestartState(NamedTuple):
    """State of `adaptive_restart`; all scalars have shape ()."""

    inner_state: optax.OptState
    steps: jax.Array  # int32: updates since the last restart
    restarts: jax.Array  # int32: number of restarts so far
    last: jax.Array  # float32: the loss, or the squared speed, one step ago


def adaptive_restart(
    inner: optax.GradientTransformation,
    criterion: Literal["gradient", "value", "speed"] = "gradient",
    *,
    min_steps: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """Restarts the momentum of `inner` whenever it would do harm.

        "gradient"   ⟨gₜ, vₜ⟩ > 0:           the velocity points uphill
        "value"      f(θₜ₋₁) > f(θₜ₋₂):      the loss rose
        "speed"      ‖vₜ‖ < ‖vₜ₋₁‖:          the velocity shrank

    v is the velocity: the buffer with the sign that descends. With `nesterov` it is the
    papers' xₜ − xₜ₋₁; with any other linear method it is that up to a scale.

    If the criterion holds, the step is taken from rest: every `MomentumState` inside is
    reset to its initial buffer, weight and step, so schedules of β start over. All
    other state continues. To let a learning-rate schedule continue too, put it outside:
    `optax.chain(adaptive_restart(nesterov(1.0, beta)), optax.scale_by_schedule(rate))`.

    Meant for full-batch gradients. Noisy gradients restart too often; for those,
    `srsgd` restarts on a schedule.

    Units: those of `inner`.

    Args:
      inner: the transformation, or chain, that holds the momentum.
      criterion: "gradient", "value" or "speed". "value" needs the loss at the params,
        of shape (), as an extra argument:
        `update(gradients, state, params, value=loss)`. A NaN loss restarts nothing.
      min_steps: the smallest number of steps between restarts, ≥ 0: a number or a
        traced scalar. Su et al. use 10 with "speed".

    Returns:
      A transformation with a `RestartState`, which emits the updates of `inner`.

    Raises:
      ValueError: criterion is none of the three; min_steps is negative, NaN or not a
        scalar; `init` finds no momentum inside; `update` gets no value for "value".
      TypeError: min_steps is not a real number; `update` gets a state of another type.

    Differs from a schedule of restarts: the run itself decides when to restart. The
    cost is a second step of `inner`, from rest, at every step; one of the two is
    selected.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import heavy_ball
    >>> tx = adaptive_restart(heavy_ball(0.9))
    >>> _, state = tx.update(jnp.asarray(10.0), tx.init(jnp.zeros(())))
    >>> tx.update(jnp.asarray(-1.0), state)[0]  # not 0.9·10 − 1, which points uphill
    Array(-1., dtype=float32)

    References:
      O'Donoghue and Candès 2015, arXiv:1204.3982, section 3.2: gradient and value.
      Su, Boyd and Candès 2016, jmlr.org/papers/v17/15-084.html, section 5: speed.
    """
    if criterion not in ("gradient", "value", "speed"):
        raise ValueError(
            "adaptive_restart: criterion must be 'gradient', 'value' or 'speed', got "
            f"{criterion!r}. For restarts on a schedule, use `srsgd` or `sawtooth`."
        )
    check_scalar(
        "adaptive_restart: min_steps",
        min_steps,
        lambda known: 0 <= known < math.inf,
        "lie in [0, inf)",
        "It is the smallest number of steps between restarts.",
    )
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> RestartState:
        steps, restarts = (zero_beside(params, jnp.int32) for _ in range(2))
        last = zero_beside(params, jnp.float32)
        last = last + jnp.inf if criterion == "value" else last
        inner_state = inner.init(params)
        if not momentum_states(inner_state):
            raise ValueError(
                "adaptive_restart: inner must hold momentum, got a state without a "
                "MomentumState. Wrap a method of this library, or a chain with such a "
                "method."
            )
        return RestartState(inner_state, steps, restarts, last)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        value: ArrayLike | None = None,
        **extra_args: object,
    ) -> tuple[optax.Updates, RestartState]:
        if not isinstance(state, RestartState):
            raise wrong_state(state, RestartState)
        if value is not None:
            extra_args["value"] = value
        step = partial(inner.update, params=params, **extra_args)
        moved = step(updates, state.inner_state)
        rested = step(updates, _at_rest(state.inner_state))
        if criterion == "gradient":
            harmful = _points_uphill(updates, moved[1])
        elif criterion == "value":
            harmful = _required_loss(value) > state.last
        else:
            harmful = _squared_speed(moved[1]) < state.last
        harmful &= state.steps >= jnp.asarray(min_steps, jnp.int32)
        pick = partial(jnp.where, harmful)
        emitted, inner_state = jax.tree.map(pick, rested, moved)
        last = jnp.zeros_like(state.last)  # a new array, so that states share no memory
        if criterion == "value":
            last = jnp.fmin(_required_loss(value), jnp.inf)  # inf in place of NaN
        if criterion == "speed":
            last = _squared_speed(inner_state)
        steps = pick(jnp.ones_like(state.steps), _next(state.steps))
        restarts = pick(_next(state.restarts), state.restarts)
        return emitted, RestartState(inner_state, steps, restarts, last)

    return on_plain_trees(optax.GradientTransformationExtraArgs(init, update))


def _at_rest(state: optax.OptState) -> optax.OptState:
    """The state with every `MomentumState` reset to its initial value."""

    def is_momentum(node: object) -> bool:
        return isinstance(node, MomentumState)

    def rest(node: object) -> object:
        return jax.tree.map(zeros_like, node) if is_momentum(node) else node

    return jax.tree.map(rest, state, is_leaf=is_momentum)


def _points_uphill(gradients: optax.Updates, state: optax.OptState) -> jax.Array:
    """True if the inner product of gradients and velocities is positive.

    The weight is the buffer that a constant gradient of 1 would give. Its sign tells a
    buffer that sums gradients from one that sums descent steps.
    """
    slopes = dict(jax.tree.leaves_with_path(gradients))
    along = jnp.zeros((), jnp.float32)
    for momentum in momentum_states(state):
        total = jnp.zeros((), jnp.float32)
        for path, m in jax.tree.leaves_with_path(momentum.buffer):
            if path in slopes:  # false for masked leaves and those without a gradient
                total += _inner_product(jnp.asarray(slopes[path]), m)
        along += total * jnp.sign(momentum.weight)
    return along < 0


def _squared_speed(state: optax.OptState) -> jax.Array:
    """The squared norm of the buffers: that of the velocity up to a constant factor."""
    buffers = [momentum.buffer for momentum in momentum_states(state)]
    norms = [_inner_product(m, m) for m in jax.tree.leaves(buffers)]
    return sum(norms, jnp.zeros((), jnp.float32))


def _inner_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """The real part of Σ x̄·y, summed in float32 or wider."""
    dtype = common_dtype(x.dtype, y.dtype, jnp.float32)
    product = jnp.conj(x.astype(dtype)) * y.astype(dtype)
    return jnp.sum(product.real).astype(jnp.float32)


def _required_loss(value: ArrayLike | None) -> jax.Array:
    """The loss; raises if `update` was called without it."""
    if value is None:
        raise ValueError(
            "update: criterion='value' needs the loss at params, got None. Call "
            "update(gradients, state, params, value=loss)."
        )
    check_scalar("update: value", value, lambda _: True, "be a loss", "")
    return jnp.asarray(value, jnp.float32)


def _next(count: jax.Array) -> jax.Array:
    return jnp.asarray(optax.safe_increment(count))
