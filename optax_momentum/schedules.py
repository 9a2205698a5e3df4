"""Schedules of beta: plain functions that return step → β, the step being 0 at first.

What a schedule means for the size of a step depends on the method that reads it. `ema`
and `qhm` keep their gain of 1: β sets how long the gradients are remembered, and
nothing else. In `heavy_ball`, `keras`, `nesterov` and `aggmo` the gain 1/(1 − β) moves
with β, as in the papers below: 0.95 → 0.85 is a settled step of 20·αg → 6.7·αg, and
Demon's 0.9 → 0 one of 10·αg → αg, so that part of the effect is that of the learning
rate's decay.

Every schedule takes a Python int or an int32 scalar, traced or not, and returns a
scalar in JAX's default float dtype: float32, or float64 where that is enabled.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_scalar

Schedule = Callable[[ArrayLike], jax.Array]


def demon(beta: ArrayLike, steps: ArrayLike) -> Schedule:
    """Decaying momentum: the gain's share of the past, β/(1 − β), falls linearly to 0.

        βₜ = β·(1 − t/T)/((1 − β) + β·(1 − t/T)),   0 from T on

    Args:
      beta: β in [0, 1), at step 0; 0.9 in the paper.
      steps: T > 0, of the whole training.

    Returns:
      A schedule of β.

    Raises:
      ValueError: an argument out of range or not a scalar.
      TypeError: an argument that is not a real number.

    >>> float(demon(0.5, steps=4)(2))  # 0.5·0.5/(0.5 + 0.5·0.5)
    0.3333333432674408

    References:
      Chen, Wolfe, Li and Kyrillidis 2019, arXiv:1910.04952.
    """
    _check_beta("demon: beta", beta)
    _check_steps("demon: steps", steps)

    def schedule(step: ArrayLike) -> jax.Array:
        left = 1 - _progress(step, steps)
        return _float(beta) * left / (1 - _float(beta) + _float(beta) * left)

    return schedule


def sutskever(beta_max: ArrayLike = 0.99, every: ArrayLike = 250) -> Schedule:
    """Stairs towards 1: the n-th is ½/n away from it.

        βₜ = min(1 − 2^(−1 − log₂ n), β_max) = min(1 − ½/n, β_max),   n = ⌊t/250⌋ + 1

    Args:
      beta_max: β_max in [0, 1), the last stair; in the paper 0.9, 0.99, 0.995 or 0.999.
      every: the steps a stair lasts, above 0.

    Returns:
      A schedule of β, from 0.5 up.

    Raises:
      ValueError: an argument out of range or not a scalar.
      TypeError: an argument that is not a real number.

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
    """k/(k + 3) at step k: Nesterov's acceleration of convex descent.

    `nesterov` reads β one step ahead: `nesterov(rate, delayed(fista(), 1))` is the
    method whose k-th step, k = 0, 1, …, extrapolates by k/(k + 3).

    Returns:
      A schedule of β, from 0 towards 1.

    >>> float(fista()(3))
    0.5

    References:
      Su, Boyd and Candès 2016, jmlr.org/papers/v17/15-084.html, section 1.
    """
    return lambda step: _float(step) / (_float(step) + 3)


def one_cycle(
    steps: ArrayLike, high: ArrayLike = 0.95, low: ArrayLike = 0.85
) -> Schedule:
    """Linearly from high to low and back, while the learning rate goes up and down.

    Args:
      steps: of the whole cycle, above 0; β stays at `high` afterwards.
      high: β at both ends, in [0, 1).
      low: β in the middle, in [0, 1).

    Returns:
      A schedule of β.

    Raises:
      ValueError: an argument out of range or not a scalar.
      TypeError: an argument that is not a real number.

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
    """A straight line from start to end, and then end.

    Args:
      start: β at step 0, in [0, 1).
      end: β from `steps` on, in [0, 1).
      steps: the length of the way, above 0.

    Returns:
      A schedule of β.

    Raises:
      ValueError: an argument out of range or not a scalar.
      TypeError: an argument that is not a real number.

    >>> float(linear(0.5, 0.75, steps=4)(1))
    0.5625
    """
    return _ramp("linear", start, end, steps, lambda progress: progress)


def cosine(start: ArrayLike, end: ArrayLike, steps: ArrayLike) -> Schedule:
    """Half a cosine from start to end, flat at both, and then end.

    Args:
      start: β at step 0, in [0, 1).
      end: β from `steps` on, in [0, 1).
      steps: the length of the way, above 0.

    Returns:
      A schedule of β.

    Raises:
      ValueError: an argument out of range or not a scalar.
      TypeError: an argument that is not a real number.

    >>> float(cosine(0.5, 0.75, steps=4)(2))
    0.625
    """
    return _ramp("cosine", start, end, steps, lambda p: (1 - jnp.cos(math.pi * p)) / 2)


def _ramp(
    call: str, start: Any, end: Any, steps: Any, shape: Callable[[jax.Array], jax.Array]
) -> Schedule:
    _check_beta(f"{call}: start", start)
    _check_beta(f"{call}: end", end)
    _check_steps(f"{call}: steps", steps)

    def schedule(step: ArrayLike) -> jax.Array:
        way = _float(end) - _float(start)
        return _float(start) + way * shape(_progress(step, steps))

    return schedule


def _progress(step: ArrayLike, steps: ArrayLike) -> jax.Array:
    """The share of the steps that is over, from 0 to 1."""
    return jnp.clip(_float(step) / _float(steps), 0, 1)


def _float(x: ArrayLike) -> jax.Array:
    return jnp.asarray(x, float)


def _check_beta(name: str, beta: Any) -> None:
    remedy = "It is the share of the buffer that a step keeps."
    check_scalar(name, beta, lambda known: 0 <= known < 1, "lie in [0, 1)", remedy)


def _check_steps(name: str, steps: Any) -> None:
    check_scalar(
        name,
        steps,
        lambda known: 0 < known < math.inf,
        "lie in (0, inf)",
        "It is a number of calls of update.",
    )
