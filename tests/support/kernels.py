"""Kernels m ← β·m + a·g, u = b·m + c·g, whose response and convergence are known."""

from typing import Any

import jax.numpy as jnp
import optax
import pytest

from optax_momentum import (
    Coefficients,
    ema_coefficients,
    heavy_ball_coefficients,
    linear_momentum,
)

KERNELS = {
    "heavy_ball": heavy_ball_coefficients(0.83)(jnp.asarray(1)),
    "dampened": heavy_ball_coefficients(0.83, dampening=0.3)(jnp.asarray(1)),
    "nesterov": heavy_ball_coefficients(0.83, nesterov=True)(jnp.asarray(1)),
    "ema": ema_coefficients(0.83)(jnp.asarray(1)),
    "any": Coefficients(0.71, 0.6, from_buffer=1.3, from_gradient=0.45),
}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def method_of(kernel: Coefficients) -> Any:
    """Returns the method with these coefficients at every step."""
    return linear_momentum(lambda step: kernel)


def descent(transformation, learning_rate) -> Any:
    return optax.chain(transformation, optax.scale_by_learning_rate(learning_rate))
