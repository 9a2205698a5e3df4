"""Live readings of a run, that tell whether momentum helps in it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_beta, wrong_state
from optax_momentum._base.norm import squared_norm
from optax_momentum._base.placement import zero_beside
from optax_momentum._base.scalars import common_dtype, promote_scalar
from optax_momentum._methods.momentum import MomentumState, momentum_states


class TelemetryState(NamedTuple):
    """What `telemetry` keeps: the state of inner, and an `optax.MonitorState`."""

    inner_state: optax.OptState
    monitor: optax.MonitorState


class _Seen(NamedTuple):
    """One step, as the measures see it."""

    gradient: Any
    averages: Any  # of the past gradients: the buffers of inner over their weights
    update: Any
    params: Any


def telemetry(
    inner: optax.GradientTransformation, *, beta: ArrayLike = 0.9
) -> optax.GradientTransformationExtraArgs:
    """Reads, at every step, how the gradients and the momentum of `inner` agree.

    With g a new gradient, ḡ = m/weight the average of those before it, which is the
    same in every convention, and Δθ the update, `optax.tree.get(state, name)` is

      `cosine`         of g and ḡ
      `sign_agreement` the share of elements in which g and ḡ have one sign
      `update_ratio`   ‖Δθ‖/‖θ‖
      `overshoot`      −2⟨g, ḡ⟩/⟨ḡ, ḡ⟩

    each averaged over the last steps, overshoot as the ratio of two averages; 0 where
    there is nothing yet.

    Does momentum help in this run? While the loss falls steadily, cosine is positive
    and overshoot negative: momentum is then SGD with the settled learning rate,
    η·gain. On a plateau overshoot is the settled rate times the curvature along ḡ, if
    the update reads the buffer alone. Near 0, momentum still is SGD at the settled
    rate, with equal noise. At 2 and above SGD would diverge at that rate, and only
    momentum allows it. Cosine near 0 at a small overshoot says that noise rules.

    Wrap the whole optimizer, so that Δθ is what is added. Put `guard` outside: it keeps
    out of the readings, too, what is not finite.

    Units: all are without unit.

    Args:
      inner: an optimizer with a `MomentumState` in its state, or with several, which
        are read as one; extra arguments of update are handed to it.
      beta: in [0, 1), the share of the past in the averages; 0 reads each step alone.

    Returns:
      A transformation with a `TelemetryState`, whose updates are those of `inner`. It
      costs a few scalars, and its update needs the parameters.

    Raises:
      ValueError: beta outside [0, 1), NaN, or not a scalar; at init, no
        `MomentumState` in inner; at update, no params.
      TypeError: beta is not a real number; at update, a state of another type.

    Differs from `optax.monitor`, on which it is built: sees gradient, momentum, update
    and parameters at once, and its state has one structure from init on.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import sgd
    >>> tx = telemetry(sgd(0.5, 0.5), beta=0.0)
    >>> params = jnp.ones(4)
    >>> _, state = tx.update(jnp.ones(4), tx.init(params), params)
    >>> _, state = tx.update(jnp.array([1.0, 1.0, 1.0, -3.0]), state, params)
    >>> optax.tree.get(state, "cosine"), optax.tree.get(state, "sign_agreement")
    (Array(0., dtype=float32), Array(0.75, dtype=float32))

    References:
      Wang et al. 2024, arXiv:2307.15196, where momentum makes no difference.
    """
    check_beta("telemetry", beta)
    wrapped = optax.with_extra_args_support(inner)
    smoothed = optax.measure_with_ema(
        _measures, decay=promote_scalar(beta), debias=False
    )
    measure = optax.chain(smoothed, optax.stateless(lambda sums, _: _readings(sums)))
    monitor = optax.monitor({"telemetry": measure})

    def init(params: optax.Params) -> TelemetryState:
        inner_state, zero = wrapped.init(params), jnp.zeros(())
        if not _averages(inner_state):
            raise ValueError(
                "telemetry: there is no MomentumState in the state of `inner`. Wrap an "
                "optimizer that has one of this library's methods in it."
            )
        # optax.monitor has no measurements before the first step: here they are 0.
        nothing = _Seen(zero, [zero], zero, zero)
        state: Any = monitor.init(nothing)
        _, state = jax.eval_shape(monitor.update, nothing, state, zero)
        zeros = jax.tree.map(lambda leaf: zero_beside(params, leaf.dtype), state)
        return TelemetryState(inner_state, zeros)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, TelemetryState]:
        if not isinstance(state, TelemetryState):
            raise wrong_state(state, TelemetryState)
        if params is None:
            raise ValueError(
                "telemetry: update needs params, got None. Call "
                "`update(gradients, state, params)`."
            )
        averages = _averages(state.inner_state)
        emitted, inner_state = wrapped.update(
            updates, state.inner_state, params, **extra_args
        )
        seen = _Seen(updates, averages, emitted, params)
        readings: Any = monitor.update(seen, state.monitor, params)[1]
        return emitted, TelemetryState(inner_state, readings)

    return optax.GradientTransformationExtraArgs(init, update)


def _averages(state: Any) -> list[Any]:
    """m/weight of every momentum: the average of the gradients so far, 0 at first."""

    def average(momentum: MomentumState) -> Any:
        one_over = _ratio(jnp.ones((), jnp.float32), momentum.weight)
        return jax.tree.map(lambda m: m * one_over.astype(m.dtype), momentum.buffer)

    return list(map(average, momentum_states(state)))


def _measures(seen: Any) -> dict[str, jax.Array]:
    """What is averaged over the steps: float32 scalars of one step."""
    gradients = dict(jax.tree.leaves_with_path(seen.gradient))
    pairs = [
        _alike(gradients[path], average)
        for tree in seen.averages
        for path, average in jax.tree.leaves_with_path(tree)
        if path in gradients
    ]
    gradient, average = (_norm([pair[i] for pair in pairs]) for i in (0, 1))
    overlap = _total([jnp.real(g * jnp.conj(a)) for g, a in pairs])
    signs = [jnp.real(jnp.sign(g) * jnp.conj(jnp.sign(a))) for g, a in pairs]
    agree, either = _total([s > 0 for s in signs]), _total([s != 0 for s in signs])
    return {
        "steps": jnp.ones((), jnp.float32),
        "steps_with_past": (average > 0).astype(jnp.float32),
        "total_cosine": _ratio(overlap, gradient * average),
        "total_sign_agreement": _ratio(agree, either),
        "total_update_ratio": _ratio(_norm(seen.update), _norm(seen.params)),
        "total_overlap": overlap,
        "total_average": jnp.square(average),
    }


def _readings(sums: Any) -> dict[str, jax.Array]:
    """The averages over the steps that have one; the sums are all weighted alike."""
    return {
        "cosine": _ratio(sums["total_cosine"], sums["steps_with_past"]),
        "sign_agreement": _ratio(sums["total_sign_agreement"], sums["steps_with_past"]),
        "update_ratio": _ratio(sums["total_update_ratio"], sums["steps"]),
        "overshoot": -2 * _ratio(sums["total_overlap"], sums["total_average"]),
    }


def _alike(gradient: Any, average: jax.Array) -> tuple[jax.Array, jax.Array]:
    g = jnp.asarray(gradient)
    dtype = common_dtype(g.dtype, average.dtype, jnp.float32)
    return g.astype(dtype), average.astype(dtype)


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(squared_norm(tree)).astype(jnp.float32)


def _total(terms: list[jax.Array]) -> jax.Array:
    sums = [jnp.sum(term, dtype=jnp.float32) for term in terms]
    return sum(sums, jnp.zeros((), jnp.float32))


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Their ratio, and 0 where it says nothing yet: the denominator is 0."""
    empty = denominator == 0
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))
