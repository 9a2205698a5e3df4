"""One run in the words of another convention: its hyper-parameters and its state."""

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
from optax_momentum._surgery.surgery import rescale_momentum
from optax_momentum.as_qhm import Qhm


class HeavyBall(NamedTuple):
    """`heavy_ball`, then the rate: as PyTorch's SGD, TensorFlow 1's, `optax.sgd`."""

    learning_rate: float  # of every convention: α ≥ 0, in parameters per gradient
    beta: float
    dampening: float = 0.0
    nesterov: bool = False


class Ema(NamedTuple):
    """`ema`, then the rate."""

    learning_rate: float
    beta: float
    debias: bool = False


class Keras(NamedTuple):
    """`keras`, the rate inside: as Keras's SGD and TensorFlow 2's."""

    learning_rate: float
    beta: float
    nesterov: bool = False


Convention = HeavyBall | Ema | Keras | Qhm
Target = TypeVar("Target", bound=Convention)
Converted = TypeVar("Converted")


class Conversion(NamedTuple, Generic[Converted]):
    """What came of a conversion, and whether it makes the same steps."""

    value: Converted
    exact: bool  # equal to rounding, whatever the gradients
    reason: str  # why it is not exact; empty where it is


def hyperparameters(source: Convention, target: type[Target]) -> Conversion[Target]:
    """The settings of another convention that make the same steps from a fresh start.

    Each convention moves the parameters by −A·Σₖβᵏ·gₜ₋ₖ − C·gₜ; equal β, A and C are
    equal steps. A schedule of the learning rate converts by the same factor.

    Args:
      source: the settings, as plain numbers.
      target: the convention that is wanted: `HeavyBall`, `Ema`, `Keras` or `Qhm`.

    Returns:
      A `Conversion` to settings of the type `target`.

    Raises:
      ValueError: a setting out of its range, or `target` has no such step: `Ema` no
        Nesterov, `HeavyBall` and `Keras` no ν other than β and 1.

    >>> hyperparameters(HeavyBall(0.25, 0.5, nesterov=True), Qhm).value
    Qhm(learning_rate=0.5, beta=0.5, nu=0.5)
    >>> conversion = hyperparameters(Keras(0.25, beta=0.75), Ema)
    >>> conversion.value, conversion.exact
    (Ema(learning_rate=1.0, beta=0.75, debias=False), False)
    >>> conversion.reason
    'Keras has the learning rate inside: equal only where that has been constant over \
about the last 4 steps.'
    """
    if isinstance(source, target):
        return Conversion(source, True, "")
    value = _settings(source, target)
    reasons = _differences(source, value)
    if isinstance(source, HeavyBall) and source.dampening:
        reasons.append(
            "PyTorch does not dampen the first gradient: equal only from a converted "
            "state on."
        )
    return Conversion(value, not reasons, " ".join(reasons))


def momentum_state(
    state: Converted, source: Convention, target: Convention
) -> Conversion[Converted]:
    """The state in which `target` continues what `source` began, under jit as well.

    The buffer is multiplied by the ratio of the two gains: 1 for `HeavyBall` (1 − τ
    dampened), 1 − β for `Ema` and `Qhm`, −α for `Keras`. The step becomes 1 or more,
    so that PyTorch's undampened first step is not made again. `change_convention` does
    as much for any coefficients, and cannot say whether the steps stay equal.

    Args:
      state: of a run under `source`, after one step or more: a `MomentumState`, or
        the state of a chain or wrapper with one inside.
      source: the settings of that run, as plain numbers: as of its last step.
      target: the settings that are to continue it, such as `hyperparameters` gives.

    Returns:
      A `Conversion` to a state with the structure, dtypes and shardings of `state`.

    Raises:
      ValueError: unequal beta; a setting out of its range; a source without gain, that
        is, of dampening 1 or of a Keras learning rate of 0; no `MomentumState`.

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
            "the target. No buffer serves both; convert at the beta of the run, then "
            "change it."
        )
    old, new = _kernel(source), _kernel(target)
    if old.gain == 0:
        raise ValueError(
            f"momentum_state: {source} lets no gradient into its buffer, so that there "
            "is nothing to convert. Begin with a fresh state."
        )

    def begun(leaf: Any) -> Any:
        if not isinstance(leaf, MomentumState):
            return leaf
        return leaf._replace(step=jnp.maximum(leaf.step, 1))

    rescaled = rescale_momentum(state, new.gain / old.gain)
    value = jax.tree.map(
        begun, rescaled, is_leaf=lambda node: isinstance(node, MomentumState)
    )
    reasons = _differences(source, target)
    if not all(map(math.isclose, old[1:], new[1:])):
        reasons.append(
            f"Equal steps need equal A and C: they are {old[1:]} in the source and "
            f"{new[1:]} in the target."
        )
    return Conversion(value, not reasons, " ".join(reasons))


class _Kernel(NamedTuple):
    """m ← β·m + gain·g, and a step of −(of_sum·Σₖβᵏ·gₜ₋ₖ + of_gradient·gₜ)."""

    gain: float
    of_sum: float  # A
    of_gradient: float  # C


def _kernel(settings: Convention) -> _Kernel:
    """The settings as numbers, past the first step; checks every value."""
    beta, rate = settings.beta, settings.learning_rate
    check_learning_rate(type(settings).__name__, rate)
    match settings:
        case HeavyBall(dampening=dampening, nesterov=nesterov):
            read = heavy_ball_coefficients(beta, dampening=dampening, nesterov=nesterov)
        case Keras(nesterov=nesterov):
            read = heavy_ball_coefficients(beta, nesterov=nesterov)
        case Ema():
            read = ema_coefficients(beta)
        case Qhm(nu=nu):
            read = qhm_coefficients(beta, nu)
    past_the_first: Any = 1
    now: Any = read(past_the_first)
    gain, from_buffer, from_gradient = map(float, now[1:])
    of_sum, of_gradient = rate * gain * from_buffer, rate * from_gradient
    if beta == 0:  # the sum is the gradient
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
        "`Qhm` mixes the gradient and the buffer freely."
    )


def _differences(source: Convention, target: Convention) -> list[str]:
    """What keeps two conventions apart even at equal settings."""
    beta = source.beta
    reasons = []
    if isinstance(source, Keras) != isinstance(target, Keras):
        reasons.append(
            "Keras has the learning rate inside: equal only where that has been "
            f"constant over about the last {round(1 / (1 - beta))} steps."
        )
    if getattr(source, "debias", False) != getattr(target, "debias", False):
        reasons.append(
            "Debiasing enlarges the first steps: equal only once βᵗ is negligible."
        )
    return reasons
