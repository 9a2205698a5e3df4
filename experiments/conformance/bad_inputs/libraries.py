"""The libraries that get the bad inputs, and how each builds momentum SGD."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

import optax_momentum as om

Build = Callable[..., Any]  # returns a gradient transformation


class Library(NamedTuple):
    """Builders of the same methods in one library."""

    name: str
    heavy_ball: Build  # (beta)
    unchecked: Build  # (beta); accepts every beta
    ema: Build  # (beta, debias)
    sgd: Build  # (learning_rate, beta); beta may be None
    dampened_nesterov: Build | None  # (beta); None where the library has no dampening
    with_buffer_dtype: Build  # (beta, dtype)
    low_precision: Build  # (beta); its buffer is narrower than float32
    skip_nonfinite: Build  # (transformation); skips its non-finite steps


def optax_momentum_() -> Library:
    """This library."""
    return Library(
        name="optax_momentum",
        heavy_ball=om.heavy_ball,
        unchecked=lambda beta: om.linear_momentum(lambda _: om.Coefficients(beta, 1.0)),
        ema=om.ema,
        sgd=om.sgd,
        dampened_nesterov=partial(om.heavy_ball, dampening=0.3, nesterov=True),
        with_buffer_dtype=lambda beta, dtype: om.heavy_ball(beta, storage=dtype),
        low_precision=partial(om.heavy_ball, storage=om.storage.int8(min_size=1)),
        skip_nonfinite=om.guard,
    )


def optax_() -> Library:
    """Optax. `apply_if_finite` is set to skip two non-finite steps in a row."""
    return Library(
        name="Optax",
        heavy_ball=optax.trace,
        unchecked=optax.trace,
        ema=optax.ema,
        sgd=lambda learning_rate, beta: optax.sgd(learning_rate, momentum=beta),
        dampened_nesterov=None,
        with_buffer_dtype=lambda beta, kind: optax.trace(beta, accumulator_dtype=kind),
        low_precision=partial(optax.trace, accumulator_dtype=jnp.bfloat16),
        skip_nonfinite=lambda inner: optax.apply_if_finite(inner, 2),
    )
