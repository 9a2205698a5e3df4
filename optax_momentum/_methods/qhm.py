"""Quasi-hyperbolic momentum: a weighted mean of the gradient and of its average."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

from optax_momentum._base.checks import check_beta, check_scalar
from optax_momentum._base.scalars import checked
from optax_momentum._methods.momentum import Coefficients, linear_momentum
from optax_momentum.storage import Storage


def qhm(
    beta: optax.ScalarOrSchedule = 0.999,
    nu: optax.ScalarOrSchedule = 0.7,
    *,
    storage: Storage | None = None,
) -> optax.GradientTransformation:
    """Quasi-hyperbolic momentum, QHM: plain SGD and momentum SGD, averaged.

        v₀ = 0,   vₜ = β·vₜ₋₁ + (1 − β)·gₜ,   uₜ = (1 − ν)·gₜ + ν·vₜ

    ν = 0 is SGD, ν = 1 is `ema`, ν = β is Nesterov's momentum; `as_qhm` gives the
    (learning_rate, β, ν) of that and of five more methods.

    Units: v and u are gradients (loss per unit of parameter); the learning rate stays
    outside. A constant g settles at u = g: at the same learning rate, the settled step
    is that of SGD, 1/(1 − β) times smaller than `heavy_ball`'s. The authors' rule of
    thumb for its defaults, to follow heavy ball at (α, 0.9): keep β and ν, take α/0.1.

    Args:
      beta: β in [0, 1), the share of v that a step keeps: a number, a traced scalar,
        or a schedule of the step (0 at the first update).
      nu: ν in [0, 1], the share of the average in the step: likewise.
      storage: how v is kept between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is v. It emits uₜ, *not*
      negated: chain it with `optax.scale_by_learning_rate`.

    Raises:
      ValueError: beta outside [0, 1), nu outside [0, 1], either NaN or not a scalar.
      TypeError: an argument that is not a real number, or storage no `Storage`.

    Differs from `ema`, which is ν = 1: there the newest gradient weighs 1 − β, here
    1 − νβ. Differs from qhoptim's `QHM`, which has weight decay inside.

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
    """The coefficients of `qhm` at a step: β, gain 1 − β, u = ν·m + (1 − ν)·g."""
    beta_at = checked(partial(check_beta, "qhm"), beta)
    nu_at = checked(_check_nu, nu)

    def coefficients(step: jax.Array) -> Coefficients:
        beta, nu = beta_at(step), nu_at(step)
        return Coefficients(beta, 1 - beta, from_buffer=nu, from_gradient=1 - nu)

    return coefficients


def _check_nu(nu: Any) -> None:
    check_scalar(
        "qhm: nu",
        nu,
        lambda known: 0 <= known <= 1,
        "lie in [0, 1]",
        "It is the share of the average in the step, the gradient has the rest; "
        "`linear_momentum` takes coefficients unchecked.",
    )
