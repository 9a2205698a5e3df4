"""Whom the bad inputs are given to: momentum, as a library offers it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from optax_momentum import (
    Coefficients,
    ema,
    guard,
    heavy_ball,
    linear_momentum,
    sgd,
    storage,
)

Build = Callable[..., Any]  # a transformation


class System(NamedTuple):
    """The same methods of one library; what it hasn't got is None."""

    name: str
    heavy_ball: Build  # of beta
    unchecked: Build  # of whatever beta
    average: Build  # of beta, and debias
    sgd: Build  # of the learning rate and of beta, or None
    dampened: Build | None  # of beta, Nesterov's, with dampening
    kept_in: Build  # of beta and the buffer's dtype
    narrow: Build  # of beta, its buffer in less than float32
    skipping: Build  # of a transformation: without the steps that aren't finite


def ours() -> System:
    """This library."""
    return System(
        "optax_momentum",
        heavy_ball,
        lambda beta: linear_momentum(lambda step: Coefficients(beta, 1.0)),
        ema,
        sgd,
        partial(heavy_ball, dampening=0.3, nesterov=True),
        lambda beta, dtype: heavy_ball(beta, storage=dtype),
        partial(heavy_ball, storage=storage.int8(min_size=1)),
        guard,
    )


def optax_() -> System:
    """Optax. `apply_if_finite` is told to skip two such steps in a row."""

    def sgd(learning_rate: Any, beta: Any) -> Any:
        return optax.sgd(learning_rate, momentum=beta)

    return System(
        "Optax",
        optax.trace,
        optax.trace,
        optax.ema,
        sgd,
        None,
        lambda beta, dtype: optax.trace(beta, accumulator_dtype=dtype),
        partial(optax.trace, accumulator_dtype=jnp.bfloat16),
        lambda inner: optax.apply_if_finite(inner, 2),
    )
