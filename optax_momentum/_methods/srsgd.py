"""Scheduled restarts: momentum that grows, and begins anew every so many steps."""

import math
from functools import partial
from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_scalar
from optax_momentum._base.scalars import checked
from optax_momentum._methods.nesterov import nesterov
from optax_momentum.schedules import fista
from optax_momentum.storage import Storage


def srsgd(
    learning_rate: optax.ScalarOrSchedule,
    restart_every: optax.ScalarOrSchedule = 40,
    *,
    storage: Storage | None = None,
) -> optax.GradientTransformation:
    """Scheduled restart SGD: Nesterov's growing momentum, begun anew every F steps.

        yₜ = θₜ₋₁ − αₜ·gₜ,   θₜ = yₜ + μₜ·(yₜ − yₜ₋₁)          α = learning_rate
        μₜ = k/(k + 3) with k = t mod F, t = 0 at the first step      F = restart_every

    No y is kept: in v = yₜ − yₜ₋₁ this is `nesterov` with the schedule of β
    `delayed(sawtooth(fista(), restart_every), 1)`, and a restart is a β of 0.

    Units: v and the updates are parameters: the update is ready for
    `optax.apply_updates` as it is. A constant g and α never settle: the k-th step since
    a restart is −α·g·(1 + k/4).

    Args:
      learning_rate: α ≥ 0, in parameters per gradient: a number, a traced scalar, or a
        schedule of the step (0 at the first update).
      restart_every: F ≥ 1, in steps: likewise. The paper lets it grow from 40 or so at
        every drop of the learning rate; drop at a multiple of both F for whole cycles.
      storage: how v is kept between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is the velocity v. It emits
      Δθₜ, negated and scaled: no learning rate follows it.

    Raises:
      ValueError: learning_rate negative, infinite or NaN, restart_every below 1 or NaN,
        either not a scalar.
      TypeError: an argument that is not a real number, or storage no `Storage`.

    Differs from the authors' code, which keeps a copy of the parameters, and whose
    `restarting_iter` is F + 1: it restarts one step early.

    >>> import jax.numpy as jnp
    >>> tx = srsgd(learning_rate=1.0, restart_every=40)
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.ones(2), state)[0]  # 0.25·(−1) − 1
    Array([-1.25, -1.25], dtype=float32)

    References:
      Wang et al. 2020, arXiv:2002.10583.
      minhtannguyen/SRSGD `cifar_imagenet/optimizers/sgd_adaptive3.py`.
    """
    if not callable(restart_every):
        _check_period("srsgd: restart_every", restart_every)
    growing = sawtooth(fista(), restart_every)
    return nesterov(learning_rate, delayed(growing, 1), storage=storage)


def sawtooth(schedule: optax.Schedule, every: optax.ScalarOrSchedule) -> optax.Schedule:
    """The schedule, begun anew every so many steps: schedule(t mod F).

    Args:
      schedule: of β, or of anything else.
      every: F ≥ 1, rounded down to a whole number: a number, a traced scalar, or a
        schedule of it.

    Returns:
      A schedule of the same.

    Raises:
      ValueError: every below 1, infinite, NaN or not a scalar.
      TypeError: every is not a real number.

    >>> [round(float(sawtooth(fista(), every=3)(t)), 2) for t in range(5)]
    [0.0, 0.25, 0.4, 0.0, 0.25]
    """
    every_at = checked(partial(_check_period, "sawtooth: every"), every)

    def restarting(step: ArrayLike) -> Any:
        period = jnp.asarray(every_at(step), jnp.int32)
        return schedule(jnp.remainder(jnp.asarray(step, jnp.int32), period))

    return restarting


def delayed(schedule: optax.Schedule, steps: ArrayLike) -> optax.Schedule:
    """The schedule, begun `steps` later; until then it stays at its step 0.

    Args:
      schedule: of β, or of anything else.
      steps: how many steps, ≥ 0; rounded down to a whole number.

    Returns:
      A schedule of the same.

    Raises:
      ValueError: steps negative, infinite, NaN or not a scalar.
      TypeError: steps is not a real number.

    >>> from optax_momentum.schedules import linear
    >>> float(delayed(linear(0.5, 0.75, steps=4), steps=10)(11))
    0.5625
    """
    check_scalar(
        "delayed: steps",
        steps,
        lambda known: 0 <= known < math.inf,
        "lie in [0, inf)",
        "It is how many steps the schedule waits at its beginning.",
    )

    def later(step: ArrayLike) -> Any:
        since = jnp.asarray(step, jnp.int32) - jnp.asarray(steps, jnp.int32)
        return schedule(jnp.maximum(since, 0))

    return later


def _check_period(name: str, period: Any) -> None:
    check_scalar(
        name,
        period,
        lambda known: 1 <= known < math.inf,
        "lie in [1, inf)",
        "It is the number of steps after which the schedule begins anew.",
    )
