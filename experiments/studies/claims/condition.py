"""Claim 2, "faster convergence": steps to a target against the condition number κ.

On quadratics of curvatures 1/κ to 1, by the optimal tuning of each method. In theory
gradient descent shrinks the distance to (κ − 1)/(κ + 1) a step, and heavy ball, in the
long run, to (√κ − 1)/(√κ + 1): steps in proportion to κ and to √κ.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.studies.claims import verdict
from experiments.studies.claims.descent import momentum
from experiments.studies.claims.verdict import Measured, Prediction, difference
from experiments.studies.lifecycle import OpenStudy
from optax_momentum import Coefficients
from optax_momentum.diagnostics import convergence_rate

BETA = 0.9
DIMENSIONS = 8
TARGET = 1e-3  # of the first distance to the minimum
MOST_STEPS = 10**8

FIXED = {"beta": BETA, "dimensions": DIMENSIONS, "target": TARGET}
PREDICTIONS = (
    Prediction(
        "slope",
        "slope of log steps in log κ of tuned momentum, where √κ is 0.5 and κ is 1",
        "below",
        0.75,
    ),
    Prediction(
        "slope_difference", "the same, tuned momentum − tuned SGD", "below", -0.25
    ),
    Prediction("tuned_least", "steps at κ = 10, tuned momentum / SGD", "below", 1),
    Prediction(
        "tuned_most", "steps at the largest κ, tuned momentum / SGD", "below", 1
    ),
    Prediction(
        "settled_slope",
        f"slope of momentum with β = {BETA} at SGD's best settled step",
        "below",
        0.75,
    ),
    Prediction(
        "settled_most",
        f"steps at the largest κ, momentum with β = {BETA} / SGD, both with SGD's "
        "best settled step",
        "below",
        1,
    ),
    Prediction(
        "rate_least",
        f"steps at κ = 10, momentum with β = {BETA} / SGD, both with SGD's best "
        "learning rate",
        "below",
        1,
    ),
    Prediction("rate_most", "the same at the largest κ", "below", 1),
)


class Tuning(NamedTuple):
    """A method's settings at every condition number, arrays [κ]."""

    title: str
    settled: np.ndarray  # η/(1 − β)
    beta: np.ndarray


def tunings(conditions: np.ndarray) -> dict[str, Tuning]:
    """SGD and heavy ball at their best, and momentum with SGD's steps."""
    root = np.sqrt(conditions)
    rate = 2 / (1 + 1 / conditions)
    best = ((root - 1) / (root + 1)) ** 2
    beta = np.full_like(conditions, BETA)
    return {
        "sgd": Tuning("SGD, tuned", rate, 0 * conditions),
        "tuned": Tuning("Momentum, tuned", 4 / (1 + 1 / root) ** 2 / (1 - best), best),
        "settled": Tuning("Momentum, β = 0.9, at SGD's settled step", rate, beta),
        "rate": Tuning(
            "Momentum, β = 0.9, at SGD's learning rate", rate / (1 - BETA), beta
        ),
    }


def measure(study: OpenStudy, budget: Any) -> dict[str, Any]:
    """All figures of the claim, as JSON values."""
    del study
    conditions = 10.0 ** np.arange(1, budget.largest_exponent + 1)
    starts = np.random.default_rng([budget.seed, 2]).normal(
        size=(budget.quadratic_starts, DIMENSIONS)
    )
    methods = tunings(conditions)
    steps = {
        key: count_steps(conditions, tuning, starts) for key, tuning in methods.items()
    }
    slopes = {key: slope(conditions, own) for key, own in steps.items()}

    told = {key: difference(own, 0 * own) for key, own in slopes.items()}

    def faster(key: str, which: int) -> Measured:
        return verdict.ratio(steps[key][which], steps["sgd"][which])

    return {
        "slope": told["tuned"],
        "settled_slope": told["settled"],
        "slope_difference": difference(slopes["tuned"], slopes["sgd"]),
        "tuned_least": faster("tuned", 0),
        "tuned_most": faster("tuned", -1),
        "settled_most": faster("settled", -1),
        "rate_least": faster("rate", 0),
        "rate_most": faster("rate", -1),
        "conditions": conditions.tolist(),
        "slopes": told,
        "steps": {
            key: [difference(row, 0 * row) for row in own] for key, own in steps.items()
        },
        "theory": {
            key: steps_in_theory(conditions, tuning).tolist()
            for key, tuning in methods.items()
        },
    }


def count_steps(
    conditions: np.ndarray, tuning: Tuning, starts: np.ndarray
) -> np.ndarray:
    """Steps from each start until the distance is `TARGET` of the first, in float64.

    Args:
      conditions: κ of each quadratic.
      tuning: of the method.
      starts: in the quadratic's axes, [starts, dimensions].

    Returns:
      An array [κ, starts]; NaN after `MOST_STEPS`.
    """
    with jax.enable_x64(True):
        counts = _count(tuning.settled, tuning.beta, curvatures(conditions), starts)
    counts = np.asarray(counts, float)
    return np.where(counts < MOST_STEPS, counts, np.nan)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, 0, None))
@partial(jax.vmap, in_axes=(None, None, None, 0))
def _count(settled: Array, beta: Array, curvature: Array, start: Array) -> Array:
    transformation = momentum(settled, beta)
    goal = TARGET * jnp.linalg.norm(start)

    def far(carry: Any) -> Array:
        x, _, count = carry
        return (jnp.linalg.norm(x) > goal) & (count < MOST_STEPS)

    def step(carry: Any) -> Any:
        x, state, count = carry
        updates, state = transformation.update(curvature * x, state)
        return x + updates, state, count + 1

    return jax.lax.while_loop(far, step, (start, transformation.init(start), 0))[2]


def curvatures(conditions: np.ndarray) -> np.ndarray:
    """Those of every quadratic, from 1 to 1/κ in equal factors: [κ, dimensions]."""
    shares = np.linspace(0, 1, DIMENSIONS)
    return conditions[:, None] ** -shares[None]


def slope(conditions: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The slope of log steps in log κ, of every start: steps is [κ, starts]."""
    return np.polyfit(np.log(conditions), np.log(steps), 1)[0]


def steps_in_theory(conditions: np.ndarray, tuning: Tuning) -> np.ndarray:
    """Steps that would be needed if the rate were that of the long run from the first.

    ln(1/TARGET)/−ln(rate). Fewer are needed from starts with little in the slowest
    direction, more where the buffer has to fill first.
    """
    rates = []
    with jax.enable_x64(True):
        for row, settled, beta in zip(
            curvatures(conditions), tuning.settled, tuning.beta, strict=True
        ):
            coefficients = Coefficients(beta, 1 - beta)
            rates.append(np.max(convergence_rate(coefficients, settled * row)))
    return np.log(TARGET) / np.log(np.array(rates, float))
