"""Settings of QHM that equal other methods, against simulations of those methods."""

import re
from functools import partial

import jax
import numpy as np
import optax
import pytest
from support.trajectory import descend

from optax_momentum import as_qhm, qhm

NAN, INF = float("nan"), float("inf")
RANDOM = np.random.default_rng(21)
STEPS = 60
CURVATURE = np.linspace(0.2, 2.0, 5)
START, SHIFT = RANDOM.normal(size=5), RANDOM.normal(size=5)
NOISE = RANDOM.normal(size=(STEPS, 5))


def gradient(step, theta):
    """Returns the gradient of a noisy quadratic, which depends on θ."""
    return CURVATURE * (theta - SHIFT) + NOISE[step]


GRADIENTS = [partial(gradient, step) for step in range(STEPS)]


def train_qhm(tuning):
    optimizer = optax.chain(
        qhm(tuning.beta, tuning.nu), optax.scale(-tuning.learning_rate)
    )
    return descend(optimizer, START, GRADIENTS).points


def synthesized_nesterov(alpha, beta_1, beta_2):
    xi = before = START
    points = []
    for step in range(STEPS):
        y = xi + beta_2 * (xi - before)
        before, xi = xi, xi + beta_1 * (xi - before) - alpha * gradient(step, y)
        points.append(y)
    return points


def triple_momentum(largest_curvature, condition_number):
    """Returns the points of the gradients, with the paper's α, β, γ at ρ = 1 − 1/√κ."""
    rho = 1 - 1 / np.sqrt(condition_number)
    alpha = (1 + rho) / largest_curvature
    beta = rho**2 / (2 - rho)
    gamma = rho**2 / ((1 + rho) * (2 - rho))
    xi = before = START
    points = []
    for step in range(STEPS):
        y = (1 + gamma) * xi - gamma * before
        before, xi = xi, (1 + beta) * xi - beta * before - alpha * gradient(step, y)
        points.append(y)
    return points


def robust_momentum(largest_curvature, condition_number, rho):
    kappa = condition_number
    alpha = kappa * (1 - rho) ** 2 * (1 + rho) / largest_curvature
    beta = kappa * rho**3 / (kappa - 1)
    gamma = rho**3 / ((kappa - 1) * (1 - rho) ** 2 * (1 + rho))
    return synthesized_nesterov(alpha, beta, gamma)  # The same recurrence.


def pid(k_p, k_i, k_d):
    beta = k_d / (k_d - k_p)
    theta, last, v, w = START, 0.0, 0.0, 0.0
    points = []
    for step in range(STEPS):
        points.append(theta)
        e = -gradient(step, theta)
        v = beta * v + (1 - beta) * (e - last)
        w = w + e
        theta = START + k_p * e + k_i * w + k_d * v
        last = e
    return points


def accsgd(delta, kappa, xi, epsilon):
    """Follows the order of the authors' code: first the average, then the mixture."""
    a = 1 - epsilon**2 * xi / kappa
    zeta = epsilon / (epsilon + 1 - a)
    theta = average = START
    points = []
    for step in range(STEPS):
        points.append(theta)
        g = gradient(step, theta)
        average = a * average + (1 - a) * (theta - kappa * delta / epsilon * g)
        theta = zeta * (theta - delta * g) + (1 - zeta) * average
    return points


def nesterov(alpha, beta):
    """Takes each gradient at the look-ahead point, and returns these points."""
    theta, v = START, 0.0
    points = []
    for step in range(STEPS):
        points.append(theta + beta * v)
        v = beta * v - alpha * gradient(step, theta + beta * v)
        theta = theta + v
    return points


@pytest.mark.parametrize(
    ("tuning", "simulation", "arguments"),
    [
        (as_qhm.nesterov, nesterov, (0.07, 0.83)),
        (as_qhm.pid, pid, (-0.03, 0.11, 0.27)),
        (as_qhm.synthesized_nesterov, synthesized_nesterov, (0.07, 0.8, 1.3)),
        (as_qhm.triple_momentum, triple_momentum, (2.0, 10.0)),
        (as_qhm.robust_momentum, robust_momentum, (2.0, 10.0, 0.77)),
        (as_qhm.accsgd, accsgd, (0.03, 30.0, 4.0, 0.7)),
        (as_qhm.accsgd, accsgd, (0.03, 1000.0, 10.0, 0.7)),
    ],
)
def test_converted_settings_make_qhm_equal_to_the_method(tuning, simulation, arguments):
    want = np.stack(simulation(*arguments))
    np.testing.assert_allclose(train_qhm(tuning(*arguments)), want, 1e-10, 1e-12)
    # A slightly different setting visits clearly different points.
    nearby = (*arguments[:-1], arguments[-1] * 1.01)
    assert np.abs(train_qhm(tuning(*nearby)) - want).max() > 1e-5


def test_conversions_take_traced_arguments():
    for tuning, arguments in [
        (as_qhm.nesterov, (0.07, 0.83)),
        (as_qhm.pid, (-0.03, 0.11, 0.27)),
        (as_qhm.synthesized_nesterov, (0.07, 0.8, 1.3)),
        (as_qhm.triple_momentum, (2.0, 10.0)),
        (as_qhm.robust_momentum, (2.0, 10.0, 0.77)),
        (as_qhm.accsgd, (0.03, 30.0, 4.0, 0.7)),
    ]:
        traced, known = jax.jit(tuning)(*arguments), tuning(*arguments)
        np.testing.assert_allclose(np.stack(traced), np.stack(known), 1e-5)


def test_robust_momentum_is_triple_momentum_at_its_fast_end():
    fast = as_qhm.triple_momentum(2.0, 7.0)
    near = as_qhm.robust_momentum(2.0, 7.0, 1 - 7**-0.5 + 1e-12)
    np.testing.assert_allclose(np.stack(near), np.stack(fast), 1e-10)


def test_robust_momentum_is_gradient_descent_at_its_robust_end():
    near = as_qhm.robust_momentum(2.0, 7.0, 1 - 1 / 7 - 1e-12)
    assert near.nu == pytest.approx(0, abs=1e-10)
    assert near.learning_rate == pytest.approx(1 / 2)


RHO = "rho must lie in (1 − condition_number^−½, 1 − 1/conditi"
BAD = [
    (as_qhm.nesterov, (-1, 0.9), "learning_rate must lie in [0, inf)"),
    (as_qhm.nesterov, (0.1, 1.0), "beta must lie in [0, 1)"),
    (as_qhm.pid, (0.0, 1, 1), "proportional must lie in (-inf, 0)"),
    (as_qhm.pid, (NAN, 1, 1), "proportional must lie in (-inf, 0)"),
    (as_qhm.pid, (-1, 0.0, 1), "integral must lie in (0, inf)"),
    (as_qhm.pid, (-1, 2.0, 0.49), "derivative must lie in [proportional²/integr"),
    (as_qhm.pid, (-1, 2.0, INF), "derivative must lie in [proportional²/integra"),
    (as_qhm.synthesized_nesterov, (-1, 0.5, 0.5), "learning_rate must lie in [0, inf)"),
    (as_qhm.synthesized_nesterov, (0.1, 0, 0), "beta must lie in (0, 1)"),
    (
        as_qhm.synthesized_nesterov,
        (0.1, 0.5, 1.01),
        "extrapolation must lie in [0, beta/(1 − beta)]",
    ),
    (as_qhm.triple_momentum, (0, 10), "largest_curvature must lie in (0, inf)"),
    (as_qhm.triple_momentum, (1, 1), "condition_number must lie in (1, inf)"),
    (as_qhm.robust_momentum, (INF, 10, 0.8), "largest_curvature must lie in (0, inf)"),
    (as_qhm.robust_momentum, (1, NAN, 0.8), "condition_number must lie in (1, inf)"),
    *((as_qhm.robust_momentum, (1, 4, rho), RHO) for rho in (0.5, 0.75, NAN)),
    (as_qhm.accsgd, (-0.1,), "learning_rate must lie in [0, inf)"),
    (as_qhm.accsgd, (0.1, 1000, 10, 0), "epsilon must lie in (0, 1]"),
    (as_qhm.accsgd, (0.1, 1000, 1.4, 0.7), "xi must lie in [1/epsilon, inf)"),
    (as_qhm.accsgd, (0.1, 4.8, 10, 0.7), "kappa must lie in [epsilon²·xi, inf"),
]


@pytest.mark.parametrize(("tuning", "arguments", "message"), BAD)
def test_argument_outside_the_range_of_qhm_is_refused(tuning, arguments, message):
    message = re.escape(f"{tuning.__name__}: {message}")
    with pytest.raises(ValueError, match=message) as raised:
        tuning(*arguments)
    assert any(f", got {argument!s}." in str(raised.value) for argument in arguments)
