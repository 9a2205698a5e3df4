"""The conventions of momentum: each chooses the coefficients of one recurrence."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import (
    check_beta,
    check_correction,
    check_dampening,
    check_learning_rate,
    check_scalar,
    check_switch,
    one_beta,
)
from optax_momentum._base.scalars import (
    checked_schedule,
    common_dtype,
    is_concrete,
    promote_scalar,
    select,
)
from optax_momentum._methods.momentum import Coefficients, linear_momentum
from optax_momentum.storage import Storage


def ema(
    beta: optax.ScalarOrSchedule,
    *,
    debias: ArrayLike = False,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Momentum as an exponential moving average of the gradients.

        v₀ = 0,   vₜ = β·vₜ₋₁ + (1 − β)·gₜ,   uₜ = vₜ   or, debiased, vₜ/(1 − ∏ᵢ₌₁ᵗ βᵢ)

    Units: v and u are gradients (loss per unit of parameter). Apply the learning rate
    afterwards. A constant g settles at u = g, so at the same learning rate the settled
    step is that of SGD: smaller than `heavy_ball`'s by the factor 1 − β. Scheduling β
    does not change it.

    Args:
      beta: β in [0, 1), the fraction of v kept at each step: a number, a traced
        scalar, or a schedule of the step (0 at the first update). A β in float32 is
        exact as it is, but 1 − β is 1e-5 of itself away from that of a Python 0.999.
      debias: whether to divide v by the sum of its weights. The first update is then
        g₁ instead of (1 − β)·g₁. A bool or a traced scalar.
      storage: how to store v between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is v. Its update is uₜ, *not*
      negated: chain it with `optax.scale_by_learning_rate`.

    Raises:
      ValueError: beta is outside [0, 1), NaN, or not a scalar.
      TypeError: beta is not a real number, or storage is not a `Storage`.

    Differs from `optax.ema`: debiasing is off by default, stays correct under a
    schedule of β, and runs in float32; the state's dtypes never change.

    >>> import jax.numpy as jnp
    >>> tx = optax.chain(ema(0.75), optax.scale_by_learning_rate(1.0))
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.ones(2), state)[0]  # −(0.75·0.25 + 0.25)
    Array([-0.4375, -0.4375], dtype=float32)

    References:
      Kingma and Ba 2015, arXiv:1412.6980, section 3, debiasing.
    """
    check_switch("ema: debias", debias)
    return linear_momentum(ema_coefficients(beta), debias=debias, storage=storage)


def ema_coefficients(
    beta: optax.ScalarOrSchedule,
) -> Callable[[jax.Array], Coefficients]:
    """Returns the coefficients of `ema` as a function of the step: β, 1 − β, u = m."""
    beta_at = checked_schedule(partial(check_beta, "ema"), beta)

    def coefficients(step: jax.Array) -> Coefficients:
        beta = beta_at(step)
        return Coefficients(beta, gain=1 - beta)

    return coefficients


def heavy_ball(
    beta: optax.ScalarOrSchedule,
    *,
    dampening: ArrayLike = 0.0,
    nesterov: ArrayLike = False,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Heavy-ball momentum, step for step as `torch.optim.SGD` computes it.

        m₁ = g₁,   mₜ = β·mₜ₋₁ + (1 − τ)·gₜ          β = beta, τ = dampening
        uₜ = mₜ,   or with nesterov  uₜ = gₜ + β·mₜ

    Units: m and u are gradients (loss per unit of parameter). Apply the learning rate
    afterwards. A constant g settles at u = g·(1 − τ)/(1 − β), also with nesterov: 10·g
    at β = 0.9 and τ = 0. Scheduling β changes that settled update.

    Args:
      beta: β in [0, 1), the fraction of m kept at each step: a number, a traced
        scalar, or a schedule of the step (0 at the first update).
      dampening: τ in [0, 1], the fraction of each gradient kept out of m. The first
        step is not dampened, as in PyTorch. A number or a traced scalar.
      nesterov: whether to look one step ahead; needs `dampening=0`. A bool or a traced
        scalar.
      storage: how to store m between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is m, PyTorch's
      `momentum_buffer`. Its update is uₜ, *not* negated: chain it with
      `optax.scale_by_learning_rate`.

    Raises:
      ValueError: beta is outside [0, 1) or NaN, dampening is outside [0, 1], either is
        not a scalar, or nesterov is combined with dampening.
      TypeError: an argument is not a real number, or storage is not a `Storage`.

    Differs from `optax.trace`: adds dampening, rejects β outside [0, 1), sums in
    float32 or wider, and keeps the state's dtypes. Differs from `torch.optim.SGD`,
    which leaves each parameter's first gradient undampened, whenever it comes; here
    that is the first call of update.

    >>> import jax.numpy as jnp
    >>> tx = optax.chain(heavy_ball(0.5), optax.scale_by_learning_rate(1.0))
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.ones(2), state)[0]  # −(0.5·1 + 1)
    Array([-1.5, -1.5], dtype=float32)

    References:
      Polyak 1964, doi:10.1016/0041-5553(64)90137-5, the heavy ball.
      Sutskever et al. 2013, proceedings.mlr.press/v28/sutskever13.html, Nesterov form.
      PyTorch `torch/optim/sgd.py`, `_single_tensor_sgd`, the order of operations.
    """
    coefficients = heavy_ball_coefficients(beta, dampening=dampening, nesterov=nesterov)
    return linear_momentum(coefficients, storage=storage)


def heavy_ball_coefficients(
    beta: optax.ScalarOrSchedule,
    *,
    dampening: ArrayLike = 0.0,
    nesterov: ArrayLike = False,
) -> Callable[[jax.Array], Coefficients]:
    """Returns the coefficients of `heavy_ball` as a function of the step.

    They are β, gain 1 at the first step and 1 − τ afterwards, and u = m, or g + β·m
    with nesterov.
    """
    check_switch("heavy_ball: nesterov", nesterov)
    check_dampening("heavy_ball", dampening, nesterov)
    undamped = isinstance(dampening, int | float) and dampening == 0
    beta_at = checked_schedule(partial(check_beta, "heavy_ball"), beta)

    def coefficients(step: jax.Array) -> Coefficients:
        beta = beta_at(step)
        return Coefficients(
            beta,
            gain=1.0
            if undamped
            else select(step == 0, 1.0, 1 - promote_scalar(dampening)),
            from_buffer=select(nesterov, beta, 1.0),
            from_gradient=select(nesterov, 1.0, 0.0),
        )

    return coefficients


def keras(
    learning_rate: optax.ScalarOrSchedule,
    beta: optax.ScalarOrSchedule | None = None,
    *,
    momentum: optax.ScalarOrSchedule | None = None,
    nesterov: ArrayLike = False,
    momentum_correction: ArrayLike = False,
    correction_threshold: ArrayLike = 1.0,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Momentum with the learning rate inside, as `keras.optimizers.SGD` computes it.

        v₀ = 0,   vₜ = β·vₜ₋₁ − αₜ·gₜ,   or corrected  vₜ = (αₜ/αₜ₋₁)·β·vₜ₋₁ − αₜ·gₜ
        Δθₜ = vₜ,   or with nesterov  Δθₜ = β·vₜ − αₜ·gₜ          α = learning_rate

    Units: v and Δθ are in units of the parameters, so the update is ready for
    `optax.apply_updates`. A constant g and α settle at Δθ = −α·g/(1 − β), also with
    nesterov. When α changes, the earlier steps in v keep the α they were taken with.
    Momentum correction rescales them to the new α, which gives the same steps as
    `heavy_ball` followed by the learning rate, for every α > 0.

    Args:
      learning_rate: α ≥ 0, in parameters per gradient: a number, a traced scalar, or a
        schedule of the step (0 at the first update).
      beta: β in [0, 1), the fraction of v kept at each step: a number, a traced scalar
        or a schedule.
      momentum: another name of beta, that of PyTorch, Keras and `optax.sgd`.
      nesterov: whether to look one step ahead. A bool or a traced scalar.
      momentum_correction: whether to rescale v when α changes. A bool or a traced
        scalar. It needs α as a schedule or a constant Python number, because an array
        doesn't reveal the α of the previous step; if this switch is traced too, an
        array counts as constant. After a step with α = 0 there is no v to rescale, and
        v restarts from zero.
      correction_threshold: ρ ≥ 1, a number or a traced scalar. Only changes of α by
        more than this factor, up or down, rescale v: αₜ > ρ·αₜ₋₁ or αₜ₋₁ > ρ·αₜ. At 1
        every change does; Detectron has 1.1, which spares smooth schedules.
      storage: how to store v between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is Keras's velocity,
      including its sign. Its update is Δθₜ, already negated and scaled: don't apply a
      learning rate afterwards.

    Raises:
      ValueError: learning_rate is negative, infinite or NaN, beta is outside [0, 1) or
        NaN, either is not a scalar, momentum_correction is on and learning_rate is
        an array, or correction_threshold is below 1 or infinite.
      TypeError: beta is missing, an argument is not a real number, storage is not a
        `Storage`, or both beta and momentum are given.

    Differs from `heavy_ball` followed by `optax.scale_by_learning_rate` once α has
    changed: there, the new α scales the earlier gradients too.

    >>> import jax.numpy as jnp
    >>> tx = keras(learning_rate=0.25, beta=0.5)
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.ones(2), state)[0]  # 0.5·(−0.25) − 0.25
    Array([-0.375, -0.375], dtype=float32)

    References:
      Keras `keras/src/optimizers/sgd.py`, `SGD.update_step`.
      Sutskever et al. 2013, proceedings.mlr.press/v28/sutskever13.html, equation 1.
      Goyal et al. 2017, arXiv:1706.02677, section 3, momentum correction.
      Detectron `detectron/modeling/detector.py`, `UpdateWorkspaceLr`, its threshold.
    """
    coefficients = keras_coefficients(
        learning_rate,
        one_beta("keras", beta, momentum),
        nesterov=nesterov,
        momentum_correction=momentum_correction,
        correction_threshold=correction_threshold,
    )
    return linear_momentum(coefficients, storage=storage)


def keras_coefficients(
    learning_rate: optax.ScalarOrSchedule,
    beta: optax.ScalarOrSchedule,
    *,
    nesterov: ArrayLike = False,
    momentum_correction: ArrayLike = False,
    correction_threshold: ArrayLike = 1.0,
) -> Callable[[jax.Array], Coefficients]:
    """Returns the coefficients of `keras` as a function of the step.

    They are β, or the corrected β·αₜ/αₜ₋₁, gain −α, and Δθ = m, or β·m − α·g with
    nesterov.
    """
    check_switch("keras: nesterov", nesterov)
    check_correction("keras", momentum_correction, learning_rate)
    check_scalar(
        "keras: correction_threshold",
        correction_threshold,
        lambda threshold: 1 <= threshold < math.inf,
        "lie in [1, inf)",
        "It is the factor by which the learning rate must change: 1.1 in Detectron.",
    )
    rate_at = checked_schedule(partial(check_learning_rate, "keras"), learning_rate)
    beta_at = checked_schedule(partial(check_beta, "keras"), beta)
    may_correct = not is_concrete(momentum_correction) or bool(momentum_correction)

    def coefficients(step: jax.Array) -> Coefficients:
        rate, beta = rate_at(step), beta_at(step)
        decay = beta
        if callable(learning_rate) and may_correct:
            previous_rate = rate_at(jnp.maximum(step - 1, 0))
            corrected = _corrected_beta(beta, rate, previous_rate, correction_threshold)
            decay = select(momentum_correction, corrected, beta)
        return Coefficients(
            decay,
            gain=-rate,
            from_buffer=select(nesterov, beta, 1.0),
            from_gradient=select(nesterov, -rate, 0.0),
        )

    return coefficients


def _corrected_beta(
    beta: ArrayLike, rate: ArrayLike, previous_rate: ArrayLike, threshold: ArrayLike
) -> jax.Array:
    """Returns β·αₜ/αₜ₋₁, or 0 where αₜ₋₁ = 0, or β where α changes too little."""
    dtype = common_dtype(*map(jnp.result_type, (beta, rate, previous_rate)))
    beta, rate, previous, threshold = (
        jnp.asarray(x, dtype) for x in (beta, rate, previous_rate, threshold)
    )
    divisor = jnp.where(previous > 0, previous, 1.0)
    corrected = jnp.where(previous > 0, beta * rate / divisor, 0.0)
    smaller, larger = jnp.minimum(rate, previous), jnp.maximum(rate, previous)
    return jnp.where(larger > threshold * smaller, corrected, beta)
