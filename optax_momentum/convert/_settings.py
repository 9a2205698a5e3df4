"""Conversion between conventions: hyper-parameters, and states in mid-run."""

import math
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from optax_momentum._base.checks import check_learning_rate
from optax_momentum._methods.conventions import (
    ema_coefficients,
    heavy_ball_coefficients,
)
from optax_momentum._methods.momentum import MomentumState
from optax_momentum._methods.qhm import qhm_coefficients
from optax_momentum._surgery.surgery import for_each_momentum, rescale_momentum
from optax_momentum.as_qhm import Qhm


class HeavyBall(NamedTuple):
    """`heavy_ball`, then the learning rate: PyTorch, TensorFlow 1 and `optax.sgd`."""

    learning_rate: float  # in every convention: α ≥ 0, in parameters per gradient
    beta: float
    dampening: float = 0.0
    nesterov: bool = False


class Ema(NamedTuple):
    """`ema`, then the learning rate."""

    learning_rate: float
    beta: float
    debias: bool = False


class Keras(NamedTuple):
    """`keras`, with the learning rate inside the buffer: Keras and TensorFlow 2."""

    learning_rate: float
    beta: float
    nesterov: bool = False


Convention = HeavyBall | Ema | Keras | Qhm
Target = TypeVar("Target", bound=Convention)
Converted = TypeVar("Converted")


class Conversion(NamedTuple, Generic[Converted]):
    """The result of a conversion, and whether it makes the same steps."""

    value: Converted
    exact: bool  # whether all steps are equal up to rounding, for any gradients
    reason: str  # why the conversion is not exact; empty if it is


def hyperparameters(source: Convention, target: type[Target]) -> Conversion[Target]:
    """Converts settings to those of another convention that make the same steps.

    Every convention moves the parameters by −A·Σₖβᵏ·gₜ₋ₖ − C·gₜ, so equal β, A and C
    mean equal steps from a fresh start. A learning-rate schedule is multiplied by the
    same factor as the learning rate. For a run in progress, use `momentum_state`.

    Args:
      source: the settings, as plain numbers.
      target: the convention to convert to: `HeavyBall`, `Ema`, `Keras` or `Qhm`.

    Returns:
      A `Conversion` whose value is of type `target`.

    Raises:
      ValueError: a setting is out of range, or `target` cannot express the steps: `Ema`
        has no Nesterov, and `HeavyBall` and `Keras` have only ν = β and ν = 1.

    >>> hyperparameters(HeavyBall(0.25, 0.5, nesterov=True), Qhm).value
    Qhm(learning_rate=0.5, beta=0.5, nu=0.5)
    >>> conversion = hyperparameters(Keras(0.25, beta=0.75), Ema)
    >>> conversion.value, conversion.exact
    (Ema(learning_rate=1.0, beta=0.75, debias=False), False)
    >>> conversion.reason
    'Keras has the learning rate inside the buffer: equal only if the rate was \
constant over about the last 4 steps.'
    """
    if isinstance(source, target):
        return Conversion(source, True, "")
    value = _settings(source, target)
    reasons = _differences(source, value)
    if isinstance(source, HeavyBall) and source.dampening:
        reasons.append(
            "PyTorch does not dampen the first gradient: equal only after it, from a "
            "converted state."
        )
    return Conversion(value, not reasons, " ".join(reasons))


def momentum_state(
    state: Converted, source: Convention, target: Convention
) -> Conversion[Converted]:
    """Converts a state so that `target` continues a run under `source`.

    Works under `jax.jit`. It multiplies the buffer by the ratio of the two gains: 1 for
    `HeavyBall` (1 − τ with dampening τ), 1 − β for `Ema` and `Qhm`, −α for `Keras`. It
    raises the step to at least 1, so that PyTorch's undampened first step is not
    repeated. `change_convention` does the same for any coefficients, but cannot tell
    whether the steps stay equal.

    Args:
      state: the state of a run under `source` after at least one step: a
        `MomentumState`, or the state of a chain or wrapper that contains one.
      source: the settings of that run at its last step, as plain numbers.
      target: the settings that continue it, for instance from `hyperparameters`.

    Returns:
      A `Conversion` whose value has the structure, dtypes and shardings of `state`.

    Raises:
      ValueError: beta differs; a setting is out of range; the source has gain 0, from a
        dampening of 1 or a Keras learning rate of 0; the state contains no
        `MomentumState`.

    >>> import jax.numpy as jnp
    >>> run = MomentumState(jnp.asarray(7), jnp.ones(2), jnp.asarray(1.5))
    >>> source, target = HeavyBall(0.5, beta=0.75), Ema(2.0, beta=0.75)
    >>> conversion = momentum_state(run, source, target)
    >>> conversion.value.buffer, conversion.exact
    (Array([0.25, 0.25], dtype=float32), True)
    """
    if source.beta != target.beta:
        raise ValueError(
            f"momentum_state: beta is {source.beta} in the source and {target.beta} in "
            "the target. No buffer serves both: convert at the beta of the run, then "
            "change beta."
        )
    old, new = _kernel(source), _kernel(target)
    if old.gain == 0:
        raise ValueError(
            f"momentum_state: the buffer of {source} contains no gradients, so there "
            "is nothing to convert. Start with a fresh state."
        )

    def continued(momentum: MomentumState) -> MomentumState:
        rescaled = rescale_momentum(momentum, new.gain / old.gain)
        return rescaled._replace(step=jnp.maximum(momentum.step, 1))

    value = for_each_momentum("momentum_state", continued, state)
    reasons = _differences(source, target)
    if not all(map(math.isclose, old[1:], new[1:])):
        reasons.append(
            f"Equal steps need equal A and C, which are {old[1:]} in the source and "
            f"{new[1:]} in the target."
        )
    return Conversion(value, not reasons, " ".join(reasons))


class _Kernel(NamedTuple):
    """m ← β·m + gain·g, and a step of −(of_sum·Σₖβᵏ·gₜ₋ₖ + of_gradient·gₜ)."""

    gain: float | jax.Array
    of_sum: float | jax.Array  # A
    of_gradient: float | jax.Array  # C


def _kernel(settings: Convention) -> _Kernel:
    """The settings as numbers, after the first step; checks every value."""
    beta, rate = settings.beta, settings.learning_rate
    check_learning_rate(type(settings).__name__, rate)
    match settings:
        case HeavyBall(dampening=dampening, nesterov=nesterov):
            coefficients = heavy_ball_coefficients(
                beta, dampening=dampening, nesterov=nesterov
            )
        case Keras(nesterov=nesterov):
            coefficients = heavy_ball_coefficients(beta, nesterov=nesterov)
        case Ema():
            coefficients = ema_coefficients(beta)
        case Qhm(nu=nu):
            coefficients = qhm_coefficients(beta, nu)
    step: Any = 1  # step 0 may be undampened
    now: Any = coefficients(step)
    gain, from_buffer, from_gradient = map(float, now[1:])
    of_sum, of_gradient = rate * gain * from_buffer, rate * from_gradient
    if beta == 0:  # the sum is only the gradient
        of_sum, of_gradient = of_sum + of_gradient, 0.0
    return _Kernel(-rate if isinstance(settings, Keras) else gain, of_sum, of_gradient)


def _settings(source: Convention, target: Any) -> Any:
    """The settings of the type `target` with the A and C of `source`."""
    _, of_sum, of_gradient = _kernel(source)
    beta = source.beta
    averaged = of_sum / (1 - beta)
    settled = averaged + of_gradient
    if target is Qhm:
        return Qhm(settled, beta, averaged / settled if settled else 1.0)
    if of_gradient == 0:
        return target(averaged if target is Ema else of_sum, beta)
    if target is not Ema and math.isclose(of_sum, beta * of_gradient):
        return target(of_gradient, beta, nesterov=True)
    raise ValueError(
        f"hyperparameters: no {target.__name__} makes the steps of {source}. Only "
        "`Qhm` can mix the gradient and the buffer freely."
    )


def _differences(source: Convention, target: Convention) -> list[str]:
    """Reasons why two conventions differ even with equal A and C."""
    beta = source.beta
    reasons = []
    if isinstance(source, Keras) != isinstance(target, Keras):
        reasons.append(
            "Keras has the learning rate inside the buffer: equal only if the rate was "
            f"constant over about the last {round(1 / (1 - beta))} steps."
        )
    if getattr(source, "debias", False) != getattr(target, "debias", False):
        reasons.append(
            "Debiasing enlarges the first steps: equal only once βᵗ is negligible."
        )
    return reasons
