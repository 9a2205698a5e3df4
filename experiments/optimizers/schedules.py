"""How the learning rate of a run changes from its first to its last step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


class Schedule(NamedTuple):
    """A course of the learning rate.

    `factor(t)` is what the learning rate is multiplied by when the share t of all steps
    is done, 0 at the first step; None stands for a rate that never changes.
    """

    title: str
    factor: Callable[[jax.Array], jax.Array] | None

    def rate(self, learning_rate: ArrayLike, steps: int) -> Any:
        """What an optimizer takes for its learning rate: a number or a function.

        Args:
          learning_rate: the largest, shape (), a number or a traced scalar.
          steps: of the whole run.
        """
        factor = self.factor
        if factor is None:
            return learning_rate
        peak = jnp.asarray(learning_rate, jnp.float32)
        return lambda step: peak * factor(jnp.asarray(step, jnp.float32) / steps)


def _cosine(t: jax.Array) -> jax.Array:
    return (1 + jnp.cos(jnp.pi * jnp.clip(t, 0, 1))) / 2


def _steps(t: jax.Array) -> jax.Array:
    return jnp.where(t < 0.5, 1.0, jnp.where(t < 0.75, 0.1, 0.01))


def _warm_up_cosine(t: jax.Array) -> jax.Array:
    warm = 0.05
    return jnp.where(t < warm, t / warm, _cosine((t - warm) / (1 - warm)))


def _one_cycle(t: jax.Array) -> jax.Array:
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
    # Smith and Topin 2017, arXiv:1708.07120, in cosines; beta stays what it is.
    "one_cycle": Schedule("one cycle: up over 30%, then down to nothing", _one_cycle),
}
