"""Claim 2, "faster convergence": steps to a target against the condition number κ.

The functions are quadratics with curvatures from 1/κ to 1, and every method has its
optimal hyper-parameters. In theory each step of gradient descent shrinks the distance
to (κ − 1)/(κ + 1) of what it was, and each step of heavy ball asymptotically to
(√κ − 1)/(√κ + 1): the number of steps grows as κ and as √κ.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from experiments.records.config import JSON
from experiments.reporting.drawing import STROKES, legend, plain_axes
from experiments.reporting.page import Figure, Section, Table
from experiments.studies.claims import verdict
from experiments.studies.claims.budget import ClaimsBudget
from experiments.studies.claims.descent import momentum
from experiments.studies.claims.verdict import (
    JudgedPrediction,
    Measured,
    Prediction,
    difference,
    mean,
    ratio,
)
from experiments.studies.lifecycle import OpenStudy
from optax_momentum import Coefficients
from optax_momentum.diagnostics import convergence_rate

BETA = 0.9
DIMENSIONS = 8
TARGET = 1e-3  # as a fraction of the first distance to the minimum
MOST_STEPS = 10**8

FIXED = {"beta": BETA, "dimensions": DIMENSIONS, "target": TARGET}
_UNTUNED, _BOTH = f"momentum with β = {BETA}", "both with SGD's best"
_LOG = "slope of log steps in log κ of tuned momentum, where √κ is 0.5 and κ is 1"
PREDICTIONS = tuple(
    Prediction(key, quantity, "below", bound)
    for key, quantity, bound in (
        ("slope", _LOG, 0.75),
        ("slope_difference", "the same, tuned momentum − tuned SGD", -0.25),
        ("tuned_least", "steps at κ = 10, tuned momentum / SGD", 1),
        ("tuned_most", "steps at the largest κ, tuned momentum / SGD", 1),
        ("settled_slope", f"slope of {_UNTUNED} at SGD's best settled step", 0.75),
        (
            "settled_most",
            f"steps at the largest κ, {_UNTUNED} / SGD, {_BOTH} settled step",
            1,
        ),
        ("rate_least", f"steps at κ = 10, {_UNTUNED} / SGD, {_BOTH} learning rate", 1),
        ("rate_most", "the same at the largest κ", 1),
    )
)

PerCondition = Float[np.ndarray, " conditions"]
PerPath = Float[np.ndarray, "conditions starts"]


class Tuning(NamedTuple):
    """The hyper-parameters of a method at each condition number."""

    title: str
    settled_step: PerCondition  # η/(1 − β)
    beta: PerCondition


def tunings(conditions: PerCondition) -> dict[str, Tuning]:
    """SGD and heavy ball at their optimum, and momentum with SGD's steps."""
    root = np.sqrt(conditions)
    rate = 2 / (1 + 1 / conditions)
    best_beta = ((root - 1) / (root + 1)) ** 2
    best_step = 4 / (1 + 1 / root) ** 2 / (1 - best_beta)
    beta = np.full_like(conditions, BETA)
    return {
        "sgd": Tuning("SGD, tuned", rate, 0 * conditions),
        "tuned": Tuning("Momentum, tuned", best_step, best_beta),
        "settled": Tuning("Momentum, β = 0.9, at SGD's settled step", rate, beta),
        "rate": Tuning(
            "Momentum, β = 0.9, at SGD's learning rate", rate / (1 - BETA), beta
        ),
    }


_TITLES = {key: tuning.title for key, tuning in tunings(np.ones(1)).items()}


def measure(study: OpenStudy, budget: ClaimsBudget) -> dict[str, JSON]:
    """All measurements of the claim, as JSON values."""
    del study
    conditions = 10.0 ** np.arange(1, budget.largest_exponent + 1)
    starts = np.random.default_rng([budget.seed, 2]).normal(
        size=(budget.quadratic_starts, DIMENSIONS)
    )
    methods = tunings(conditions)
    steps = {
        key: count_steps(conditions, tuning, starts) for key, tuning in methods.items()
    }
    slopes = {key: slope(conditions, counts) for key, counts in steps.items()}
    mean_slopes = {key: mean(values) for key, values in slopes.items()}

    def against_sgd(key: str, condition: int) -> Measured:
        return ratio(steps[key][condition], steps["sgd"][condition])

    return {
        "slope": mean_slopes["tuned"],
        "settled_slope": mean_slopes["settled"],
        "slope_difference": difference(slopes["tuned"], slopes["sgd"]),
        "tuned_least": against_sgd("tuned", 0),
        "tuned_most": against_sgd("tuned", -1),
        "settled_most": against_sgd("settled", -1),
        "rate_least": against_sgd("rate", 0),
        "rate_most": against_sgd("rate", -1),
        "conditions": conditions.tolist(),
        "slopes": mean_slopes,
        "steps": {key: [mean(row) for row in counts] for key, counts in steps.items()},
        "theory": {
            key: steps_in_theory(conditions, tuning).tolist()
            for key, tuning in methods.items()
        },
    }


def count_steps(
    conditions: PerCondition,
    tuning: Tuning,
    starts: Float[np.ndarray, "starts dimensions"],
) -> PerPath:
    """Counts the steps until the distance is `TARGET` of the first, in float64.

    NaN if `MOST_STEPS` were not enough. Starts are in the axes of the quadratics.
    """
    with jax.enable_x64(True):
        curvature = curvatures(conditions)
        counts = _count(tuning.settled_step, tuning.beta, curvature, starts)
    counts = np.asarray(counts, float)
    return np.where(counts < MOST_STEPS, counts, np.nan)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, 0, None))
@partial(jax.vmap, in_axes=(None, None, None, 0))
def _count(settled_step: Array, beta: Array, curvature: Array, start: Array) -> Array:
    transformation = momentum(settled_step, beta)
    goal = TARGET * jnp.linalg.norm(start)

    def is_far(carry: PyTree) -> Array:
        x, _, count = carry
        return (jnp.linalg.norm(x) > goal) & (count < MOST_STEPS)

    def step(carry: PyTree) -> PyTree:
        x, state, count = carry
        updates, state = transformation.update(curvature * x, state)
        return x + updates, state, count + 1

    first: PyTree = (start, transformation.init(start), 0)
    return jax.lax.while_loop(is_far, step, first)[2]


def curvatures(conditions: PerCondition) -> Float[np.ndarray, "conditions dimensions"]:
    """The curvatures of each quadratic, a geometric sequence from 1 to 1/κ."""
    exponents = np.linspace(0, 1, DIMENSIONS)
    return conditions[:, None] ** -exponents[None]


def slope(conditions: PerCondition, steps: PerPath) -> Float[np.ndarray, " starts"]:
    """The slope of log steps in log κ, for each start."""
    return np.polyfit(np.log(conditions), np.log(steps), 1)[0]


def steps_in_theory(conditions: PerCondition, tuning: Tuning) -> PerCondition:
    """The steps to the target if the asymptotic rate held from the first step on.

    ln(1/TARGET)/−ln(rate). Starts with a small component in the slowest direction need
    fewer, and methods whose buffer has to fill first need more.
    """
    rates = []
    with jax.enable_x64(True):
        for row, settled_step, beta in zip(
            curvatures(conditions), tuning.settled_step, tuning.beta, strict=True
        ):
            coefficients = Coefficients(beta, 1 - beta)
            rates.append(np.max(convergence_rate(coefficients, settled_step * row)))
    return np.log(TARGET) / np.log(np.array(rates, float))


def section(measured: dict[str, JSON], judged: Sequence[JudgedPrediction]) -> Section:
    """The claim's part of the page."""
    slopes = {key: Measured(*values) for key, values in measured["slopes"].items()}
    listed = "; ".join(
        f"{_TITLES[key]}: {slope.mean:.3f} ({slope.low:.3f} to {slope.high:.3f})"
        for key, slope in slopes.items()
    )
    return Section(
        "Claim 2: momentum converges faster",
        (
            f"Quadratics with {DIMENSIONS} curvatures, spaced evenly on a log axis "
            "from 1/κ to 1. A path ends once its distance to the minimum is 1/1,000 of "
            f"the first. All methods start from the same {slopes['sgd'].n} random "
            "points and compute in float64.",
            "Slopes of log steps in log κ, with the mean and 95% interval over starts: "
            f"{listed}. The steepest direction bounds the learning rate of SGD; "
            "momentum tolerates a larger settled step. With SGD's settled step, "
            "momentum loses that advantage and gains nothing.",
        ),
        (_steps_figure(measured),),
        (verdict.table(judged),),
    )


def _steps_figure(measured: dict[str, JSON]) -> Figure:
    conditions = measured["conditions"]

    def draw(canvas: Canvas, ink: str) -> None:
        axes: Axes = canvas.subplots()
        plain_axes(axes, ink)
        axes.set(xscale="log", yscale="log", xlabel="condition number κ")
        axes.set_ylabel("steps to 1/1,000 of the distance")
        for (key, title), stroke in zip(_TITLES.items(), STROKES, strict=False):
            means = [row[0] for row in measured["steps"][key]]
            axes.plot(conditions, means, "o", color=stroke.color, label=title)
            theory = measured["theory"][key]
            axes.plot(conditions, theory, color=stroke.color, linestyle=stroke.dash)
        legend(canvas, axes)

    header = ["method", "κ", "steps", "low", "high", "starts", "theory"]
    rows = [
        (title, condition, *row, theory)
        for key, title in _TITLES.items()
        for condition, row, theory in zip(
            conditions, measured["steps"][key], measured["theory"][key], strict=True
        )
    ]
    formats: dict[str, str] = dict.fromkeys(header[1:], "{:,.0f}")
    return Figure(
        "steps-against-condition",
        "Steps to the target against the condition number. Points are means over "
        "starts; lines follow the asymptotic rate in theory. Tuned momentum has half "
        "the slope of SGD; with SGD's settled step, momentum lies on SGD's line.",
        draw,
        Table("Steps to the target", header, rows, formats),
        (6.4, 4.4),
    )
