"""The conventions of momentum: each a choice of coefficients of one recurrence."""

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
    check_switch,
)
from optax_momentum._base.scalars import (
    checked,
    common_dtype,
    is_concrete,
    select,
    widen,
)
from optax_momentum._methods.momentum import Coefficients, linear_momentum
from optax_momentum.storage import Storage


def ema(
    beta: optax.ScalarOrSchedule,
    *,
    debias: ArrayLike = False,
    storage: Storage | None = None,
) -> optax.GradientTransformation:
    """Momentum as an exponential moving average of the gradients.

        v₀ = 0,   vₜ = β·vₜ₋₁ + (1 − β)·gₜ,   uₜ = vₜ   or, debiased, vₜ/(1 − ∏ᵢ₌₁ᵗ βᵢ)

    Units: v and u are gradients (loss per unit of parameter); the learning rate stays
    outside. A constant g settles at u = g: the settled step is that of SGD, 1/(1 − β)
    times smaller than `heavy_ball`'s. No schedule of β changes it.

    Args:
      beta: β in [0, 1), the share of v that a step keeps: a number, a traced scalar,
        or a schedule of the step (0 at the first update).
      debias: divide by the weights' sum, so that the first updates are not too small
        and the first is g₁ itself, not (1 − β)·g₁. A bool or traced scalar.
      storage: how v is kept between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is v. It emits uₜ, *not*
      negated: chain it with `optax.scale_by_learning_rate`.

    Raises:
      ValueError: beta outside [0, 1), NaN, or not a scalar.
      TypeError: beta is not a real number, or storage no `Storage`.

    Differs from `optax.ema`: not debiased unless asked; then right under a schedule of
    β, and in float32; the state's dtypes never change.

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
    """The coefficients of `ema` at a step: β, gain 1 − β, u = m."""
    beta_at = checked(partial(check_beta, "ema"), beta)

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
) -> optax.GradientTransformation:
    """Heavy-ball momentum, step for step as `torch.optim.SGD` computes it.

        m₁ = g₁,   mₜ = β·mₜ₋₁ + (1 − τ)·gₜ          β = beta, τ = dampening
        uₜ = mₜ,   or with nesterov  uₜ = gₜ + β·mₜ

    Units: m and u are gradients (loss per unit of parameter); the learning rate stays
    outside. A constant g settles at u = g·(1 − τ)/(1 − β), with nesterov too: 10·g at
    β = 0.9, τ = 0. A schedule of β changes that settled step.

    Args:
      beta: β in [0, 1), the share of m that a step keeps: a number, a traced scalar,
        or a schedule of the step (0 at the first update).
      dampening: τ in [0, 1], the share of each gradient that is kept out; not applied
        at the first step, as in PyTorch. A number or a traced scalar.
      nesterov: read out one step ahead; needs `dampening=0`. A bool or traced scalar.
      storage: how m is kept between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is m, PyTorch's
      `momentum_buffer`. It emits uₜ, *not* negated: chain it with
      `optax.scale_by_learning_rate`.

    Raises:
      ValueError: beta outside [0, 1) or NaN, dampening outside [0, 1], either not a
        scalar, or nesterov together with dampening.
      TypeError: an argument that is not a real number, or storage no `Storage`.

    Differs from `optax.trace`: adds dampening, refuses β outside [0, 1), never sums
    below float32, keeps the state's dtypes. Differs from `torch.optim.SGD`, which skips
    the dampening at each parameter's own first gradient, not the first call of update.

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
    """The coefficients of `heavy_ball`: β, gain 1 and then 1 − τ, u = m or g + β·m."""
    check_switch("heavy_ball: nesterov", nesterov)
    check_dampening("heavy_ball", dampening, nesterov)
    undamped = isinstance(dampening, int | float) and dampening == 0
    beta_at = checked(partial(check_beta, "heavy_ball"), beta)

    def coefficients(step: jax.Array) -> Coefficients:
        beta = beta_at(step)
        return Coefficients(
            beta,
            gain=1.0 if undamped else select(step == 0, 1.0, 1 - widen(dampening)),
            from_buffer=select(nesterov, beta, 1.0),
            from_gradient=select(nesterov, 1.0, 0.0),
        )

    return coefficients


def keras(
    learning_rate: optax.ScalarOrSchedule,
    beta: optax.ScalarOrSchedule,
    *,
    nesterov: ArrayLike = False,
    momentum_correction: ArrayLike = False,
    storage: Storage | None = None,
) -> optax.GradientTransformation:
    """Momentum with the learning rate inside, as `keras.optimizers.SGD` computes it.

        v₀ = 0,   vₜ = β·vₜ₋₁ − αₜ·gₜ,   or corrected  vₜ = (αₜ/αₜ₋₁)·β·vₜ₋₁ − αₜ·gₜ
        Δθₜ = vₜ,   or with nesterov  Δθₜ = β·vₜ − αₜ·gₜ          α = learning_rate

    Units: v and Δθ are parameters: the update is ready for `optax.apply_updates` as it
    is. A constant g and α settle at Δθ = −α·g/(1 − β), with nesterov too. When α
    changes, the steps that v holds keep the size they were made with, if they are not
    corrected to the new one: then this is `heavy_ball` with α outside, for every α > 0.

    Args:
      learning_rate: α ≥ 0, in parameters per gradient: a number, a traced scalar, or a
        schedule of the step (0 at the first update).
      beta: β in [0, 1), the share of v that a step keeps: likewise.
      nesterov: read out one step ahead. A bool or a traced scalar.
      momentum_correction: rescale v when α changes. A bool or a traced scalar. α must
        then be a schedule, or a number, which never changes: a scalar that is set at
        run time does not tell what it was a step ago, and counts as constant where
        this is traced too. After α = 0, which leaves no v to rescale, v starts anew.
      storage: how v is kept between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is Keras's velocity, sign
      included. It emits Δθₜ, negated and scaled: no learning rate follows it.

    Raises:
      ValueError: learning_rate negative, infinite or NaN, beta outside [0, 1) or NaN,
        either not a scalar, or momentum_correction of a learning_rate that is an array.
      TypeError: an argument that is not a real number, or storage no `Storage`.

    Differs from `heavy_ball` before `optax.scale_by_learning_rate`: equal while α is
    constant, after a change not: there α scales the old gradients too.

    >>> import jax.numpy as jnp
    >>> tx = keras(learning_rate=0.25, beta=0.5)
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.ones(2), state)[0]  # 0.5·(−0.25) − 0.25
    Array([-0.375, -0.375], dtype=float32)

    References:
      Keras `keras/src/optimizers/sgd.py`, `SGD.update_step`.
      Sutskever et al. 2013, proceedings.mlr.press/v28/sutskever13.html, equation 1.
      Goyal et al. 2017, arXiv:1706.02677, section 3, momentum correction.
    """
    coefficients = keras_coefficients(
        learning_rate, beta, nesterov=nesterov, momentum_correction=momentum_correction
    )
    return linear_momentum(coefficients, storage=storage)


def keras_coefficients(
    learning_rate: optax.ScalarOrSchedule,
    beta: optax.ScalarOrSchedule,
    *,
    nesterov: ArrayLike = False,
    momentum_correction: ArrayLike = False,
) -> Callable[[jax.Array], Coefficients]:
    """The coefficients of `keras`: β or corrected, gain −α, Δθ = m or β·m − α·g."""
    check_switch("keras: nesterov", nesterov)
    check_correction("keras", momentum_correction, learning_rate)
    schedule, correct = learning_rate, momentum_correction
    rate_at = checked(partial(check_learning_rate, "keras"), schedule)
    beta_at = checked(partial(check_beta, "keras"), beta)

    def coefficients(step: jax.Array) -> Coefficients:
        learning_rate, beta = rate_at(step), beta_at(step)
        kept = beta
        if callable(schedule) and (not is_concrete(correct) or correct):
            last = rate_at(jnp.maximum(step - 1, 0))
            kept = select(correct, _corrected(beta, learning_rate, last), beta)
        return Coefficients(
            kept,
            gain=-learning_rate,
            from_buffer=select(nesterov, beta, 1.0),
            from_gradient=select(nesterov, -learning_rate, 0.0),
        )

    return coefficients


def _corrected(beta: ArrayLike, learning_rate: ArrayLike, last: ArrayLike) -> jax.Array:
    """β·αₜ/αₜ₋₁, and 0 after αₜ₋₁ = 0."""
    dtype = common_dtype(*map(jnp.result_type, (beta, learning_rate, last)))
    beta, now, last = (jnp.asarray(x, dtype) for x in (beta, learning_rate, last))
    return jnp.where(last > 0, beta * now / jnp.where(last > 0, last, 1.0), 0.0)
