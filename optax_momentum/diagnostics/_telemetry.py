"""Live measurements of a run, which show whether momentum helps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import on_plain_trees
from optax_momentum._base.checks import check_beta, check_transformation, wrong_state
from optax_momentum._base.norm import squared_norm
from optax_momentum._base.placement import zero_beside
from optax_momentum._base.scalars import common_dtype, promote_scalar
from optax_momentum._methods.momentum import MomentumState, momentum_states


class TelemetryState(NamedTuple):
    """State of `telemetry`: the state of inner, and an `optax.MonitorState`."""

    inner_state: optax.OptState
    monitor: optax.MonitorState


class _Step(NamedTuple):
    """The trees of one step that the measurements read."""

    gradient: optax.Updates
    # Of past gradients: for each momentum of inner, buffer/weight.
    averages: Sequence[optax.Updates]
    update: optax.Updates
    params: optax.Params


def telemetry(
    inner: optax.GradientTransformation, *, beta: ArrayLike = 0.9
) -> optax.GradientTransformationExtraArgs:
    """Measures at every step how the gradients agree with the momentum of `inner`.

    Let g be the new gradient, ḡ = m/weight the average of the gradients before it,
    which is the same in every convention, and Δθ the update. Read the measurements with
    `optax.tree.get(state, name)`:

      `cosine`          the cosine of the angle between g and ḡ
      `sign_agreement`  the fraction of elements in which g and ḡ have the same sign
      `update_ratio`    ‖Δθ‖/‖θ‖
      `overshoot`       −2⟨g, ḡ⟩/⟨ḡ, ḡ⟩

    Each is averaged over recent steps, overshoot as the ratio of two averages. Each is
    0 until there is something to measure.

    Does momentum help in this run? Compare it with SGD at the settled learning rate
    η·gain, whose steps equal the updates that momentum settles at under a constant
    gradient.

    - While the loss falls steadily, cosine is positive and overshoot negative: momentum
      acts like that SGD.
    - On a plateau, overshoot is the settled rate times the curvature along ḡ, if the
      update reads only the buffer. Near 0, momentum still acts like that SGD, with
      equal noise. At 2 and above, that SGD would diverge: only momentum allows such a
      rate.
    - If cosine is near 0 and overshoot is small, noise dominates.

    Wrap the whole optimizer, so that Δθ is what is added to θ. Put `guard` outside
    `telemetry`, so that non-finite steps do not enter the measurements.

    Units: none; all four are ratios.

    Args:
      inner: an optimizer whose state contains a `MomentumState`, or several, which are
        measured as one; it receives the extra arguments of `update`.
      beta: in [0, 1), the weight of the past in the averages; 0 measures single steps.

    Returns:
      A transformation with a `TelemetryState`, which emits the updates of `inner`. It
      stores a few scalars; its `update` needs the parameters.

    Raises:
      ValueError: beta is outside [0, 1), NaN or not a scalar; `init` finds no
        `MomentumState` in inner; `update` gets no params.
      TypeError: inner is not an `optax.GradientTransformation`; beta is not a real
        number; `update` gets a state of another type.

    Differs from `optax.monitor`, which it uses: it sees gradient, momentum, update and
    parameters together, and the structure of its state is the same from `init` on.

    >>> import jax.numpy as jnp
    >>> from optax_momentum import sgd
    >>> tx = telemetry(sgd(0.5, 0.5), beta=0.0)
    >>> params = jnp.ones(4)
    >>> _, state = tx.update(jnp.ones(4), tx.init(params), params)
    >>> _, state = tx.update(jnp.array([1.0, 1.0, 1.0, -3.0]), state, params)
    >>> optax.tree.get(state, "cosine"), optax.tree.get(state, "sign_agreement")
    (Array(0., dtype=float32), Array(0.75, dtype=float32))

    References:
      Wang et al. 2024, arXiv:2307.15196: when momentum makes no difference.
    """
    check_transformation("telemetry: inner", inner)
    check_beta("telemetry", beta)
    wrapped = optax.with_extra_args_support(inner)
    averaged = optax.measure_with_ema(_terms, decay=promote_scalar(beta), debias=False)
    ratios = optax.stateless(lambda sums, _: _measurements(sums))
    monitor = optax.monitor({"telemetry": optax.chain(averaged, ratios)})

    def init(params: optax.Params) -> TelemetryState:
        inner_state, zero = wrapped.init(params), jnp.zeros(())
        if not _averages(inner_state):
            raise ValueError(
                "telemetry: there is no MomentumState in the state of `inner`. Wrap an "
                "optimizer that contains one of this library's methods."
            )
        # optax.monitor has no measurements before its first update; start them at 0.
        no_step = _Step(zero, [zero], zero, zero)
        state: Any = monitor.init(no_step)
        _, state = jax.eval_shape(monitor.update, no_step, state, zero)
        zeros = jax.tree.map(lambda leaf: zero_beside(params, leaf.dtype), state)
        return TelemetryState(inner_state, zeros)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: object,
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
        step = _Step(updates, averages, emitted, params)
        monitor_state: Any = monitor.update(step, state.monitor, params)[1]
        return emitted, TelemetryState(inner_state, monitor_state)

    return on_plain_trees(optax.GradientTransformationExtraArgs(init, update))


def _averages(state: optax.OptState) -> list[optax.Updates]:
    """m/weight of every momentum: the average of the past gradients, initially 0."""

    def average(momentum: MomentumState) -> optax.Updates:
        one_over = _ratio(jnp.ones((), jnp.float32), momentum.weight)
        return jax.tree.map(lambda m: m * one_over.astype(m.dtype), momentum.buffer)

    return list(map(average, momentum_states(state)))


def _terms(step: Any) -> dict[str, jax.Array]:
    """The terms of one step that are averaged over steps: float32 scalars."""
    gradients = dict(jax.tree.leaves_with_path(step.gradient))
    pairs = [
        _promoted(gradients[path], average)
        for tree in step.averages
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
        "total_update_ratio": _ratio(_norm(step.update), _norm(step.params)),
        "total_overlap": overlap,
        "total_average": jnp.square(average),
    }


def _measurements(sums: Any) -> dict[str, jax.Array]:
    """The averages over the steps with a past; all sums have the same weights."""
    return {
        "cosine": _ratio(sums["total_cosine"], sums["steps_with_past"]),
        "sign_agreement": _ratio(sums["total_sign_agreement"], sums["steps_with_past"]),
        "update_ratio": _ratio(sums["total_update_ratio"], sums["steps"]),
        "overshoot": -2 * _ratio(sums["total_overlap"], sums["total_average"]),
    }


def _promoted(gradient: jax.Array, average: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both in their common dtype, in float32 or wider."""
    g = jnp.asarray(gradient)
    dtype = common_dtype(g.dtype, average.dtype, jnp.float32)
    return g.astype(dtype), average.astype(dtype)


def _norm(tree: optax.Updates) -> jax.Array:
    return jnp.sqrt(squared_norm(tree)).astype(jnp.float32)


def _total(terms: list[jax.Array]) -> jax.Array:
    sums = [jnp.sum(term, dtype=jnp.float32) for term in terms]
    return sum(sums, jnp.zeros((), jnp.float32))


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The ratio, or 0 if the denominator is 0, as before the first gradient."""
    empty = denominator == 0
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))
