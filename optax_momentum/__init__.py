"""Momentum SGD, done right, in JAX: gradient transformations for `optax.chain`."""

from optax_momentum.conventions import (
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    keras_coefficients,
)
from optax_momentum.momentum import Coefficients, MomentumState, linear_momentum

__all__ = [
    "Coefficients",
    "MomentumState",
    "ema",
    "ema_coefficients",
    "heavy_ball",
    "heavy_ball_coefficients",
    "keras",
    "keras_coefficients",
    "linear_momentum",
]
