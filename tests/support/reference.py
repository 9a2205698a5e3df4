"""Reference implementations: one plain NumPy loop in float64 for each method.

This module imports NumPy only and shares no code with the library. `gradients` and all
results have the shape [step, ...]; `beta` is one number, or one for each step.
"""

import numpy as np
from numpy.typing import ArrayLike

Trajectories = tuple[np.ndarray, np.ndarray]  # Updates and buffers of every step.


def sgd(
    start: ArrayLike, gradients: ArrayLike, learning_rates: ArrayLike
) -> np.ndarray:
    """Returns θₜ = θₜ₋₁ − αₜ·gₜ after every step.

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
    """vₜ = β·vₜ₋₁ + (1 − β)·gₜ; debiased, divided by the v of gradients of 1."""
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
    momentum_correction: bool = False,
) -> Trajectories:
    """vₜ = β·vₜ₋₁ − αₜ·gₜ; emits vₜ, to be added to θ, with Nesterov β·vₜ − αₜ·gₜ.

    Momentum correction first multiplies vₜ₋₁ by αₜ/αₜ₋₁.
    """
    gradients = np.asarray(gradients)
    v = np.zeros(gradients.shape[1:])
    updates, buffers = [], []
    rates = _per_step(learning_rates, gradients)
    for t, (g, b) in enumerate(zip(gradients, _per_step(beta, gradients), strict=True)):
        alpha = rates[t]
        if momentum_correction and t > 0:
            v = v * alpha / rates[t - 1]
        v = b * v - alpha * g
        updates.append(b * v - alpha * g if nesterov else v)
        buffers.append(v)
    return np.stack(updates), np.stack(buffers)


def qhm(gradients: ArrayLike, beta: ArrayLike, nu: ArrayLike) -> Trajectories:
    """vₜ = β·vₜ₋₁ + (1 − β)·gₜ; emits (1 − ν)·gₜ + ν·vₜ."""
    gradients = np.asarray(gradients)
    v = np.zeros(gradients.shape[1:])
    updates, buffers = [], []
    betas, nus = _per_step(beta, gradients), _per_step(nu, gradients)
    for g, b, share in zip(gradients, betas, nus, strict=True):
        v = b * v + (1 - b) * g
        updates.append((1 - share) * g + share * v)
        buffers.append(v)
    return np.stack(updates), np.stack(buffers)


def aggmo(gradients: ArrayLike, betas: list[ArrayLike]) -> Trajectories:
    """bₜ = β·bₜ₋₁ + gₜ for every β; emits their mean. Buffers are [step, beta, ...]."""
    gradients = np.asarray(gradients)
    sums = np.zeros((len(betas), *gradients.shape[1:]))
    updates, buffers = [], []
    per_step = np.stack([_per_step(beta, gradients) for beta in betas], axis=1)
    for g, b in zip(gradients, per_step, strict=True):
        sums = np.stack([b[i] * sums[i] + g for i in range(len(betas))])
        updates.append(np.mean(sums, axis=0))
        buffers.append(sums)
    return np.stack(updates), np.stack(buffers)


def nesterov(
    gradients: ArrayLike, learning_rates: ArrayLike, beta: ArrayLike
) -> Trajectories:
    """vₜ = βₜ·vₜ₋₁ − αₜ·gₜ; emits βₜ₊₁·vₜ − αₜ·gₜ. The last β is also its successor."""
    gradients = np.asarray(gradients)
    v = np.zeros(gradients.shape[1:])
    updates, buffers = [], []
    betas, rates = _per_step(beta, gradients), _per_step(learning_rates, gradients)
    next_betas = np.append(betas[1:], betas[-1])
    for g, alpha, b, next_b in zip(gradients, rates, betas, next_betas, strict=True):
        v = b * v - alpha * g
        updates.append(next_b * v - alpha * g)
        buffers.append(v)
    return np.stack(updates), np.stack(buffers)


def sgd_with_decay(
    start: ArrayLike,
    gradients: ArrayLike,
    learning_rates: ArrayLike,
    beta: float | None,
    weight_decay: ArrayLike,
    decay: str,
    *,
    nesterov: bool = False,
    dampening: float = 0.0,
    maximize: bool = False,
) -> np.ndarray:
    """Returns the parameters after every step of SGD with one of three weight decays.

    "coupled": g ← g + λ·θ; "decoupled": θ ← θ − α·λ·θ; "independent": θ ← θ − λ·θ.
    """
    gradients = np.asarray(gradients)
    theta = np.asarray(start)
    m, parameters = np.zeros_like(theta), []
    rates, decays = (_per_step(v, gradients) for v in (learning_rates, weight_decay))
    for t, (g, alpha, lam) in enumerate(zip(gradients, rates, decays, strict=True)):
        if maximize:
            g = -g
        if decay == "coupled":
            g = g + lam * theta
        shrink = {"coupled": 0.0, "decoupled": alpha * lam, "independent": lam}[decay]
        if beta is None:
            u = g
        else:
            m = g if t == 0 else beta * m + (1 - dampening) * g
            u = g + beta * m if nesterov else m
        theta = theta - alpha * u - shrink * theta
        parameters.append(theta)
    return np.stack(parameters)


def outer_loop(
    start: ArrayLike,
    updates: ArrayLike,
    every_k: int,
    learning_rate: float,
    beta: float,
    *,
    nesterov: bool = False,
) -> Trajectories:
    """Returns parameters and slow weights after every step of an inner method.

    θ follows the inner method's `updates`. Every k steps, s = w − θ and b = β·b + s,
    and then both θ and the slow weights w become w − α·b, or with Nesterov
    w − α·(β·b + s).
    """
    theta = slow = np.asarray(start)
    b = np.zeros_like(theta)
    fast, slows = [], []
    for t, update in enumerate(np.asarray(updates), start=1):
        theta = theta + update
        if t % every_k == 0:
            s = slow - theta
            b = beta * b + s
            theta = slow = slow - learning_rate * (beta * b + s if nesterov else b)
        fast.append(theta)
        slows.append(slow)
    return np.stack(fast), np.stack(slows)


def _per_step(value: ArrayLike, gradients: np.ndarray) -> np.ndarray:
    """Returns a number, or one for each step, as float64 [step]."""
    return np.broadcast_to(np.asarray(value, np.float64), len(gradients))
