"""Schedules of beta: functions that map the step, 0 at the first update, to β.

How a schedule affects the step size depends on the method. The settled step is the one
that a constant gradient g leads to in the long run. In `ema` and `qhm` it is αg for
every β, so a schedule changes only how long gradients are remembered. In `heavy_ball`,
`keras`, `nesterov` and `aggmo` it is αg/(1 − β), as in the papers below: from β = 0.95
to 0.85 it falls from 20·αg to 6.7·αg, and under Demon's 0.9 → 0 from 10·αg to αg. Part
of such a schedule's effect is therefore that of a learning rate decay.

Every schedule takes a Python int or an int32 scalar, traced or not, and returns a
scalar of JAX's default float dtype: float32, or float64 if `jax_enable_x64` is on.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_scalar

Schedule = Callable[[ArrayLike], jax.Array]


def demon(beta: ArrayLike, steps: ArrayLike) -> Schedule:
    """Decaying momentum (Demon): the total weight of the past, β/(1 − β), falls to 0.

        βₜ = β·(1 − t/T)/((1 − β) + β·(1 − t/T)),   0 from T on

    The total weight falls linearly, β itself does not.

    Args:
      beta: β in [0, 1) at step 0; 0.9 in the paper.
      steps: T > 0, the number of steps of the whole training run.

    Returns:
      A schedule of β.

    Raises:
      ValueError: an argument is out of range or not a scalar.
      TypeError: an argument is not a real number.

    >>> float(demon(0.5, steps=4)(2))  # 0.5·0.5/(0.5 + 0.5·0.5)
    0.3333333432674408

    References:
      Chen, Wolfe, Li and Kyrillidis 2019, arXiv:1910.04952.
    """
    _check_beta("demon: beta", beta)
    _check_steps("demon: steps", steps)

    def schedule(step: ArrayLike) -> jax.Array:
        remaining = 1 - _progress(step, steps)
        return _float(beta) * remaining / (1 - _float(beta) + _float(beta) * remaining)

    return schedule


def sutskever(beta_max: ArrayLike = 0.99, every: ArrayLike = 250) -> Schedule:
    """A staircase from 0.5 towards 1, which stays ½/n below 1 on its n-th stair.

        βₜ = min(1 − 2^(−1 − log₂ n), β_max) = min(1 − ½/n, β_max),   n = ⌊t/every⌋ + 1

    Args:
      beta_max: β_max in [0, 1), the highest β; 0.9, 0.99, 0.995 or 0.999 in the paper.
      every: the number of steps on each stair, above 0; 250 in the paper.

    Returns:
      A schedule of β.

    Raises:
      ValueError: an argument is out of range or not a scalar.
      TypeError: an argument is not a real number.

    >>> float(sutskever(beta_max=0.9)(250))
    0.75

    References:
      Sutskever et al. 2013, proceedings.mlr.press/v28/sutskever13.html, equation 5.
    """
    _check_beta("sutskever: beta_max", beta_max)
    _check_steps("sutskever: every", every)

    def schedule(step: ArrayLike) -> jax.Array:
        stair = 1 + jnp.floor(_float(step) / _float(every))
        return jnp.minimum(1 - 0.5 / stair, _float(beta_max))

    return schedule


def fista() -> Schedule:
    """Nesterov's acceleration for convex losses: β = k/(k + 3) at step k.

    `nesterov` reads β one step ahead, so `nesterov(rate, delayed(fista(), 1))` is the
    method that extrapolates by k/(k + 3) at step k = 0, 1, …

    Returns:
      A schedule of β, rising from 0 towards 1.

    >>> float(fista()(3))
    0.5

    References:
      Su, Boyd and Candès 2016, jmlr.org/papers/v17/15-084.html, section 1.
    """
    return lambda step: _float(step) / (_float(step) + 3)


def one_cycle(
    steps: ArrayLike, high: ArrayLike = 0.95, low: ArrayLike = 0.85
) -> Schedule:
    """Falls linearly from high to low and rises back, opposite to the learning rate.

    Args:
      steps: the number of steps in the cycle, above 0; β stays at `high` afterwards.
      high: β at both ends, in [0, 1).
      low: β in the middle, in [0, 1).

    Returns:
      A schedule of β.

    Raises:
      ValueError: an argument is out of range or not a scalar.
      TypeError: an argument is not a real number.

    >>> float(one_cycle(steps=8, high=0.75, low=0.25)(6))
    0.5

    References:
      Smith 2018, arXiv:1803.09820, section 4.3.
    """
    _check_steps("one_cycle: steps", steps)
    _check_beta("one_cycle: high", high)
    _check_beta("one_cycle: low", low)

    def schedule(step: ArrayLike) -> jax.Array:
        from_middle = jnp.abs(2 * _progress(step, steps) - 1)
        return _float(low) + (_float(high) - _float(low)) * from_middle

    return schedule


def linear(start: ArrayLike, end: ArrayLike, steps: ArrayLike) -> Schedule:
    """Moves linearly from start to end and stays there.

    Args:
      start: β at step 0, in [0, 1).
      end: β from step `steps` on, in [0, 1).
      steps: the number of steps from start to end, above 0.

    Returns:
      A schedule of β.

    Raises:
      ValueError: an argument is out of range or not a scalar.
      TypeError: an argument is not a real number.

    >>> float(linear(0.5, 0.75, steps=4)(1))
    0.5625
    """
    return _ramp("linear", start, end, steps, lambda progress: progress)


def cosine(start: ArrayLike, end: ArrayLike, steps: ArrayLike) -> Schedule:
    """Moves along half a cosine, flat at both ends, from start to end and stays there.

    Args:
      start: β at step 0, in [0, 1).
      end: β from step `steps` on, in [0, 1).
      steps: the number of steps from start to end, above 0.

    Returns:
      A schedule of β.

    Raises:
      ValueError: an argument is out of range or not a scalar.
      TypeError: an argument is not a real number.

    >>> float(cosine(0.5, 0.75, steps=4)(2))
    0.625
    """
    return _ramp("cosine", start, end, steps, lambda p: (1 - jnp.cos(math.pi * p)) / 2)


def _ramp(
    call: str,
    start: ArrayLike,
    end: ArrayLike,
    steps: ArrayLike,
    shape: Callable[[jax.Array], jax.Array],
) -> Schedule:
    _check_beta(f"{call}: start", start)
    _check_beta(f"{call}: end", end)
    _check_steps(f"{call}: steps", steps)

    def schedule(step: ArrayLike) -> jax.Array:
        distance = _float(end) - _float(start)
        return _float(start) + distance * shape(_progress(step, steps))

    return schedule


def _progress(step: ArrayLike, steps: ArrayLike) -> jax.Array:
    """Returns the fraction of the steps completed, from 0 to 1."""
    return jnp.clip(_float(step) / _float(steps), 0, 1)


def _float(x: ArrayLike) -> jax.Array:
    return jnp.asarray(x, float)


def _check_beta(name: str, beta: object) -> None:
    remedy = "It is the fraction of the buffer kept at each step."
    check_scalar(name, beta, lambda known: 0 <= known < 1, "lie in [0, 1)", remedy)


def _check_steps(name: str, steps: object) -> None:
    check_scalar(
        name,
        steps,
        lambda known: 0 < known < math.inf,
        "lie in (0, inf)",
        "It is a number of update calls.",
    )
