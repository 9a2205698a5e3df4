"""A quadratic with eight curvatures, and its gradients with and without noise."""

from typing import Any

import numpy as np
from support.trajectory import descend

RANDOM = np.random.default_rng(31)
CURVATURE = np.geomspace(0.01, 1.0, 8)
START = RANDOM.normal(size=8)
NOISE = RANDOM.normal(size=(400, 8))
NOISY = [lambda theta, n=n: CURVATURE * theta + n for n in NOISE]
EXACT = [lambda theta: CURVATURE * theta] * 300


def train(optimizer: Any, gradients, **extra) -> tuple[np.ndarray, Any]:
    """Returns θ before every step, and the last state; see `descend`."""
    descent = descend(optimizer, START, gradients, **extra)
    return descent.points, descent.state
