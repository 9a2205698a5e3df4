"""Claims: what a linear optimizer says it computes, and its closed-form consequences.

The closed forms use only NumPy in float64, so that they share no code with the
optimizers that they judge.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from optax_momentum._methods.momentum import Coefficients


class Claim(NamedTuple):
    """What a linear optimizer computes, for each of its buffers m ("kernels").

        m ← beta·m + gain·g
        u = Σ (from_buffer·m + from_gradient·g)          over the kernels
        θ ← θ − α·u − α·decoupled_decay·θ

    g is the gradient plus coupled_decay·θ, and α the learning rate.

    Examples: PyTorch with dampening τ is
    `Claim((Coefficients(β, 1 − τ),), first_gain=1.0)`, and Keras's SGD is
    `Claim((Coefficients(β, 1.0),), rate_inside=True)`.
    """

    kernels: tuple[Coefficients, ...]  # coefficients that are numbers
    first_gain: float | None = None  # the gain at the first step, if it differs
    rate_inside: bool = False  # m ← beta·m + α·gain·g, and α does not multiply m later
    debiased: bool = False  # m is divided by its value under a constant gradient of 1
    coupled_decay: float = 0.0
    decoupled_decay: float = 0.0

    @property
    def gain(self) -> float:
        """The value of u that a constant gradient of 1 settles at."""
        total = 0.0
        for beta, gain, from_buffer, from_gradient in _numbers(self):
            settled = 1.0 if self.debiased else gain / (1 - beta)
            total += from_buffer * settled + from_gradient
        return total


def path(
    claim: Claim,
    gradient: Callable[[np.ndarray, int], np.ndarray],
    start: np.ndarray,
    learning_rates: np.ndarray,
) -> np.ndarray:
    """Computes θ after every step, with each update summed over all past gradients.

    Args:
      claim: what the optimizer computes.
      gradient: maps θ and the step, from 0 on, to the gradient there.
      start: θ before the first step, of any shape.
      learning_rates: α of every step, of shape [steps].

    Returns:
      An array of shape [steps, *shape of θ].
    """
    through, direct = shares(claim, len(learning_rates))
    at_update = learning_rates[:, None]
    weights = through * (learning_rates if claim.rate_inside else at_update)
    weights += direct * at_update
    theta, gradients, visited = start, [], []
    for t, alpha in enumerate(learning_rates):
        gradients.append(gradient(theta, t) + claim.coupled_decay * theta)
        update = np.tensordot(weights[t, : t + 1], np.stack(gradients), axes=1)
        theta = theta - update - alpha * claim.decoupled_decay * theta
        visited.append(theta)
    return np.stack(visited)


def shares(claim: Claim, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The weight of gradient s in update t, without learning rates.

    Returns two matrices [t, s]: the part through the buffers, and the direct part.
    """
    lag = np.subtract.outer(np.arange(steps), np.arange(steps))
    through, direct = np.zeros((steps, steps)), np.zeros((steps, steps))
    for beta, gain, from_buffer, from_gradient in _numbers(claim):
        gains = np.full(steps, gain)
        if claim.first_gain is not None:
            gains[0] = claim.first_gain
        fading = np.where(lag >= 0, beta ** np.maximum(lag, 0), 0.0) * gains
        if claim.debiased:
            fading /= fading.sum(axis=1, keepdims=True)
        through += from_buffer * fading
        direct += from_gradient * np.eye(steps)
    return through, direct


def step_matrix(claim: Claim, rate: float, curvature: float) -> np.ndarray:
    """The matrix M of one step z ← M·z on curvature·x²/2, with z = (x, m₁, …, m_K)."""
    slope = curvature + claim.coupled_decay
    matrix = np.zeros((1 + len(claim.kernels),) * 2)
    matrix[0, 0] = 1 - rate * claim.decoupled_decay
    for i, (beta, gain, from_buffer, from_gradient) in enumerate(_numbers(claim), 1):
        matrix[i, 0], matrix[i, i] = gain * slope, beta
        matrix[0] -= rate * from_buffer * matrix[i]
        matrix[0, 0] -= rate * from_gradient * slope
    return matrix


def stability_limit(claim: Claim, curvature: float) -> float:
    """The learning rate above which curvature·x²/2 diverges.

    With one kernel and no decay, it is 2(1 + β)/(ab + c(1 + β)) over the curvature.
    """

    def stable(rate: float) -> bool:
        matrix = step_matrix(claim, rate, curvature)
        return bool(np.abs(np.linalg.eigvals(matrix)).max() < 1)

    low, high = 0.0, 1 / curvature
    while stable(high):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low


def _numbers(claim: Claim) -> list[np.ndarray]:
    """β, a, b, c of every kernel, as float64."""
    return [np.asarray(kernel, np.float64) for kernel in claim.kernels]
