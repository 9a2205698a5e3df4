"""Quasi-hyperbolic momentum: a weighted mean of the gradient and its moving average."""

from collections.abc import Callable
from functools import partial

import jax
import optax

from optax_momentum._base.checks import check_beta, check_scalar
from optax_momentum._base.scalars import checked_schedule
from optax_momentum._methods.momentum import Coefficients, linear_momentum
from optax_momentum.storage import Storage


def qhm(
    beta: optax.ScalarOrSchedule = 0.999,
    nu: optax.ScalarOrSchedule = 0.7,
    *,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Quasi-hyperbolic momentum (QHM): a weighted mean of SGD and momentum SGD.

        v₀ = 0,   vₜ = β·vₜ₋₁ + (1 − β)·gₜ,   uₜ = (1 − ν)·gₜ + ν·vₜ

    ν = 0 is SGD, ν = 1 is `ema`, ν = β is Nesterov's momentum. `as_qhm` returns the
    (learning_rate, β, ν) of Nesterov's momentum and of five more methods.

    Units: v and u are gradients (loss per unit of parameter). Apply the learning rate
    afterwards. A constant g settles at u = g, so at the same learning rate the settled
    step is that of SGD: smaller than `heavy_ball`'s by the factor 1 − β. To replace
    heavy ball with learning rate α and β = 0.9, the authors recommend the default β and
    ν with learning rate α/0.1.

    Args:
      beta: β in [0, 1), the fraction of v kept at each step: a number, a traced
        scalar, or a schedule of the step (0 at the first update). A β in float32 is
        exact as it is, but 1 − β is 1e-5 of itself away from that of a Python 0.999.
      nu: ν in [0, 1], the weight of v in the update: a number, a traced scalar or a
        schedule.
      storage: how to store v between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is v. Its update is uₜ, *not*
      negated: chain it with `optax.scale_by_learning_rate`.

    Raises:
      ValueError: beta is outside [0, 1), nu is outside [0, 1], or either is NaN or not
        a scalar.
      TypeError: an argument is not a real number, or storage is not a `Storage`.

    Differs from `ema`, the case ν = 1, by the weight of the newest gradient: 1 − νβ
    instead of 1 − β. Differs from qhoptim's `QHM`, which includes weight decay.

    >>> import jax.numpy as jnp
    >>> tx = optax.chain(qhm(0.75, nu=0.5), optax.scale_by_learning_rate(1.0))
    >>> tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))[0]  # −(0.5·1 + 0.5·0.25)
    Array([-0.625, -0.625], dtype=float32)

    References:
      Ma and Yarats 2019, arXiv:1810.06801, section 3.
      facebookresearch/qhoptim `qhoptim/pyt/qhm.py`.
    """
    return linear_momentum(qhm_coefficients(beta, nu), storage=storage)


def qhm_coefficients(
    beta: optax.ScalarOrSchedule = 0.999, nu: optax.ScalarOrSchedule = 0.7
) -> Callable[[jax.Array], Coefficients]:
    """Returns the coefficients of `qhm`: β, gain 1 − β, u = ν·m + (1 − ν)·g."""
    beta_at = checked_schedule(partial(check_beta, "qhm"), beta)
    nu_at = checked_schedule(_check_nu, nu)

    def coefficients(step: jax.Array) -> Coefficients:
        beta, nu = beta_at(step), nu_at(step)
        return Coefficients(beta, 1 - beta, from_buffer=nu, from_gradient=1 - nu)

    return coefficients


def _check_nu(nu: object) -> None:
    check_scalar(
        "qhm: nu",
        nu,
        lambda known: 0 <= known <= 1,
        "lie in [0, 1]",
        "It is the weight of the average in the update, where the gradient has weight "
        "1 − nu; `linear_momentum` accepts any coefficients.",
    )
