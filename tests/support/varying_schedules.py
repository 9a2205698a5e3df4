"""Sine-shaped gradients, with a different learning rate and beta at every step."""

import jax.numpy as jnp
import numpy as np
from support.trajectory import Descent, descend

RANDOM = np.random.default_rng(27)
STEPS = 50
CURVATURE = RANDOM.uniform(0.2, 2.0, 6)
NOISE = RANDOM.normal(size=(STEPS, 6))
START = RANDOM.normal(size=6)
BETAS = RANDOM.uniform(0.1, 0.98, STEPS + 1)
RATES = RANDOM.uniform(0.01, 0.3, STEPS)
GRADIENTS = [lambda theta, n=n: CURVATURE * np.sin(theta) + n for n in NOISE]


def beta_at(step):
    return jnp.asarray(np.array(BETAS))[step]


def rate_at(step):
    return jnp.asarray(np.array(RATES))[step]


def train(optimizer, **options) -> Descent:
    return descend(optimizer, START, GRADIENTS, **options)
