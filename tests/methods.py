"""The table of methods: add a row, get every test."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import reference

from optax_momentum import ema, heavy_ball, keras


class Method(NamedTuple):
    """A method at settings where it differs from all the others."""

    build: Callable[..., optax.GradientTransformation]  # beta: number, tracer, schedule
    reference: Callable[..., tuple[np.ndarray, np.ndarray]]  # (gradients, beta)


RATES = 0.3 / (1 + 0.25 * np.arange(100))  # of the rows that hold one: always falling


def falling_rate(step):
    return jnp.asarray(RATES)[step]


def _keras_reference(gradients, beta, **options):
    return reference.keras(gradients, RATES[: len(gradients)], beta, **options)


METHODS = {
    "ema": Method(ema, reference.ema),
    "ema, debiased": Method(
        partial(ema, debias=True), partial(reference.ema, debias=True)
    ),
    "heavy_ball": Method(heavy_ball, reference.heavy_ball),
    "heavy_ball, dampened": Method(
        partial(heavy_ball, dampening=0.3),
        partial(reference.heavy_ball, dampening=0.3),
    ),
    "heavy_ball, nesterov": Method(
        partial(heavy_ball, nesterov=True),
        partial(reference.heavy_ball, nesterov=True),
    ),
    "keras": Method(partial(keras, falling_rate), _keras_reference),
    "keras, nesterov": Method(
        partial(keras, falling_rate, nesterov=True),
        partial(_keras_reference, nesterov=True),
    ),
}
