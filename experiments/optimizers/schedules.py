"""Learning-rate schedules: how the rate changes from the first to the last step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float32


class Schedule(NamedTuple):
    """A learning-rate schedule.

    At a step, the learning rate is multiplied by `factor(t)`, where t is the fraction
    of the run's steps that come before it: 0 at the first. A `factor` of None means
    that the rate is constant.
    """

    title: str
    factor: Callable[[Float32[Array, ""]], Float32[Array, ""]] | None

    def rate(self, learning_rate: ArrayLike, steps: int) -> Any:
        """The learning rate as an optimizer takes it: a number, or a function of steps.

        Args:
          learning_rate: the largest rate of the run, a number or a traced scalar.
          steps: the number of steps in the whole run.

        Returns:
          `learning_rate` itself if the rate is constant; otherwise a function that maps
          the number of steps done to a float32 scalar.
        """
        factor = self.factor
        if factor is None:
            return learning_rate
        peak = jnp.asarray(learning_rate, jnp.float32)
        return lambda step: peak * factor(jnp.asarray(step, jnp.float32) / steps)


def _cosine(t: Float32[Array, ""]) -> Float32[Array, ""]:
    return (1 + jnp.cos(jnp.pi * jnp.clip(t, 0, 1))) / 2


def _steps(t: Float32[Array, ""]) -> Float32[Array, ""]:
    return jnp.where(t < 0.5, 1.0, jnp.where(t < 0.75, 0.1, 0.01))


def _warm_up_cosine(t: Float32[Array, ""]) -> Float32[Array, ""]:
    warm = 0.05
    return jnp.where(t < warm, t / warm, _cosine((t - warm) / (1 - warm)))


def _one_cycle(t: Float32[Array, ""]) -> Float32[Array, ""]:
    rise, first, last = 0.3, 1 / 25, 1e-4 / 25
    up = first + (1 - first) * (1 - _cosine(t / rise))
    down = last + (1 - last) * _cosine((t - rise) / (1 - rise))
    return jnp.where(t < rise, up, down)


SCHEDULES = {
    "constant": Schedule("constant", None),
    "step": Schedule(
        "steps: a tenth at half of the run, again at three quarters", _steps
    ),
    "cosine": Schedule("half a cosine to 0", _cosine),
    "warmup_cosine": Schedule(
        "linear over 5%, then half a cosine to 0", _warm_up_cosine
    ),
    # Smith and Topin 2017, arXiv:1708.07120, with cosines and a constant beta.
    "one_cycle": Schedule("one cycle: up over 30%, then down to nothing", _one_cycle),
}
