"""Momentum in NumPy, float64, one plain loop a method: what the library is judged by.

Imports NumPy alone and shares no code with what it judges. `gradients` has the shape
[step, ...], and every result the same; `beta` is a number or one number a step.
"""

import numpy as np
from numpy.typing import ArrayLike

Trajectories = tuple[np.ndarray, np.ndarray]  # updates, buffers: after every step


def sgd(start: ArrayLike, gradients: ArrayLike, learning_rates: ArrayLike):
    """θₜ = θₜ₋₁ − αₜ·gₜ, after every step.

    With the updates of `ema` or `heavy_ball` as gradients this is SGD with momentum.
    """
    gradients = np.asarray(gradients)
    theta = np.asarray(start)
    parameters = []
    for g, alpha in zip(gradients, _per_step(learning_rates, gradients), strict=True):
        theta = theta - alpha * g
        parameters.append(theta)
    return np.stack(parameters)


def ema(gradients: ArrayLike, beta: ArrayLike, *, debias: bool = False) -> Trajectories:
    """vₜ = β·vₜ₋₁ + (1 − β)·gₜ, and with debias divided by the same sum of ones."""
    gradients = np.asarray(gradients)
    v, weight = np.zeros(gradients.shape[1:]), 0.0
    updates, buffers = [], []
    for g, b in zip(gradients, _per_step(beta, gradients), strict=True):
        v = b * v + (1 - b) * g
        weight = b * weight + (1 - b)
        updates.append(v / weight if debias else v)
        buffers.append(v)
    return np.stack(updates), np.stack(buffers)


def heavy_ball(
    gradients: ArrayLike,
    beta: ArrayLike,
    *,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> Trajectories:
    """m₁ = g₁, mₜ = β·mₜ₋₁ + (1 − τ)·gₜ; emits mₜ, with Nesterov gₜ + β·mₜ."""
    gradients = np.asarray(gradients)
    m = np.zeros(gradients.shape[1:])
    updates, buffers = [], []
    for t, (g, b) in enumerate(zip(gradients, _per_step(beta, gradients), strict=True)):
        m = m + g if t == 0 else b * m + (1 - dampening) * g
        updates.append(g + b * m if nesterov else m)
        buffers.append(m)
    return np.stack(updates), np.stack(buffers)


def keras(
    gradients: ArrayLike,
    learning_rates: ArrayLike,
    beta: ArrayLike,
    *,
    nesterov: bool = False,
) -> Trajectories:
    """vₜ = β·vₜ₋₁ − αₜ·gₜ; emits what is added to θ: vₜ, with Nesterov β·vₜ − αₜ·gₜ."""
    gradients = np.asarray(gradients)
    v = np.zeros(gradients.shape[1:])
    updates, buffers = [], []
    for g, alpha, b in zip(
        gradients,
        _per_step(learning_rates, gradients),
        _per_step(beta, gradients),
        strict=True,
    ):
        v = b * v - alpha * g
        updates.append(b * v - alpha * g if nesterov else v)
        buffers.append(v)
    return np.stack(updates), np.stack(buffers)


def _per_step(value: ArrayLike, gradients: np.ndarray) -> np.ndarray:
    """A number, or one a step, as float64 [step]."""
    return np.broadcast_to(np.asarray(value, np.float64), len(gradients))
