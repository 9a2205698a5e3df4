"""Scheduled restart SGD, and schedules that repeat or start later."""

import math
from functools import partial

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_scalar
from optax_momentum._base.scalars import checked_schedule, widest
from optax_momentum._methods.nesterov import nesterov
from optax_momentum.schedules import fista
from optax_momentum.storage import Storage


def srsgd(
    learning_rate: optax.ScalarOrSchedule,
    restart_every: optax.ScalarOrSchedule = 40,
    *,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Scheduled restart SGD: Nesterov's growing momentum, restarted every F steps.

        yₜ = θₜ₋₁ − αₜ·gₜ,   θₜ = yₜ + μₜ·(yₜ − yₜ₋₁)          α = learning_rate
        μₜ = k/(k + 3) with k = t mod F, t = 0 at the first step      F = restart_every

    The state holds v = yₜ − yₜ₋₁ instead of y: this is `nesterov` with the schedule
    `delayed(sawtooth(fista(), restart_every), 1)` of β, and a restart is a step with
    β = 0.

    Units: v and the updates are in units of the parameters, so the update is ready for
    `optax.apply_updates`. A constant g and α never settle: the k-th step after a
    restart is −α·g·(1 + k/4).

    Args:
      learning_rate: α ≥ 0, in parameters per gradient: a number, a traced scalar, or a
        schedule of the step (0 at the first update).
      restart_every: F ≥ 1, in steps: a number, a traced scalar or a schedule. The paper
        starts near 40 and increases F whenever the learning rate drops. Let it change
        at a multiple of the old and the new F, so that no cycle is cut short.
      storage: how to store v between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is the velocity v. Its update
      is Δθₜ, already negated and scaled: don't apply a learning rate afterwards.

    Raises:
      ValueError: learning_rate is negative, infinite or NaN, restart_every is below 1
        or NaN, or either is not a scalar.
      TypeError: an argument is not a real number, or storage is not a `Storage`.

    Differs from the authors' code, which stores a copy of the parameters and restarts
    one step earlier: its `restarting_iter` corresponds to F + 1.

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
    restarted = sawtooth(fista(), restart_every)
    return nesterov(learning_rate, delayed(restarted, 1), storage=storage)


def sawtooth(schedule: optax.Schedule, every: optax.ScalarOrSchedule) -> optax.Schedule:
    """Returns the schedule restarted every F steps: schedule(t mod F).

    Args:
      schedule: any schedule, of β or of another hyperparameter.
      every: F ≥ 1, in steps, rounded down to a whole number: a number, a traced scalar,
        or a schedule.

    Returns:
      A schedule of the same hyperparameter.

    Raises:
      ValueError: every is below 1, infinite, NaN or not a scalar.
      TypeError: every is not a real number.

    >>> [round(float(sawtooth(fista(), every=3)(t)), 2) for t in range(5)]
    [0.0, 0.25, 0.4, 0.0, 0.25]
    """
    every_at = checked_schedule(partial(_check_period, "sawtooth: every"), every)

    def restarting(step: ArrayLike) -> ArrayLike:
        period = jnp.asarray(every_at(step), jnp.int32)
        return schedule(widest(jnp.remainder(jnp.asarray(step, jnp.int32), period)))

    return restarting


def delayed(schedule: optax.Schedule, steps: ArrayLike) -> optax.Schedule:
    """Returns the schedule started `steps` later; until then it stays at its step 0.

    Args:
      schedule: any schedule, of β or of another hyperparameter.
      steps: the delay ≥ 0, in steps, rounded down to a whole number.

    Returns:
      A schedule of the same hyperparameter.

    Raises:
      ValueError: steps is negative, infinite, NaN or not a scalar.
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
        "It is the number of steps before the schedule starts.",
    )

    def delayed_schedule(step: ArrayLike) -> ArrayLike:
        steps_since = jnp.asarray(step, jnp.int32) - jnp.asarray(steps, jnp.int32)
        return schedule(widest(jnp.maximum(steps_since, 0)))

    return delayed_schedule


def _check_period(name: str, period: object) -> None:
    check_scalar(
        name,
        period,
        lambda known: 1 <= known < math.inf,
        "lie in [1, inf)",
        "It is the number of steps after which the schedule restarts.",
    )
