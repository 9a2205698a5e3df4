"""Claim 1, "smoother trajectory": sign changes and path lengths across a ravine.

The ravine is ½(x²/κ + y²). The settled step is s = η/(1 − β), so that s is also η times
curvature for SGD in y, which overshoots from 1 on and diverges from 2 on.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.studies.claims import trajectory_network
from experiments.studies.claims.descent import descend
from experiments.studies.claims.verdict import (
    Measured,
    Prediction,
    difference,
    ratio,
)
from experiments.studies.lifecycle import OpenStudy

BETA = 0.9
CONDITION = 50.0
ZIGZAG, CALM = 1.8, 0.5  # settled steps: SGD overshoots at the first, not at the second
NOISE = 0.1  # standard deviation, per coordinate; gradients at the start are about 1
STEPS = 200
FAR = 100.0  # times the first distance: what ends beyond it has diverged
# Momentum at the learning rate ZIGZAG settles at 10 times its step.
SETTLED = tuple(sorted([CALM, *(ZIGZAG * 10 ** (k / 10) for k in range(-20, 13))]))

FIXED = {
    "beta": BETA,
    "condition": CONDITION,
    "noise": NOISE,
    "steps": STEPS,
    "far": FAR,
    "settled_steps": SETTLED,
    "network": trajectory_network.FIXED,
}
PREDICTIONS = (
    Prediction(
        "zigzag_sign_changes",
        f"sign changes of y a step, momentum − SGD, both with settled step {ZIGZAG}",
        "below",
        0,
    ),
    Prediction(
        "zigzag_path",
        f"path length, momentum / SGD, both with settled step {ZIGZAG}",
        "below",
        1,
    ),
    Prediction(
        "equal_rate_path",
        f"path length, momentum / SGD, both with learning rate {ZIGZAG}",
        "below",
        1,
    ),
    Prediction(
        "calm_path",
        f"path length, momentum / SGD, both with settled step {CALM}",
        "below",
        1,
    ),
    Prediction(
        "noisy_path",
        f"path length under gradient noise, momentum / SGD, both with settled step "
        f"{CALM}",
        "below",
        1,
    ),
    Prediction(
        "noisy_amplitude",
        f"root mean square of y under gradient noise, momentum / SGD, both with "
        f"settled step {CALM}",
        "below",
        1,
    ),
    *trajectory_network.PREDICTIONS,
)


class Shape(NamedTuple):
    """The shape of paths, arrays [settled steps, starts]; NaN where they diverge."""

    sign_changes: np.ndarray  # of y, a step
    travel: np.ndarray  # along y, over the first |y|
    length: np.ndarray  # of the path, over the first distance
    amplitude: np.ndarray  # root mean square of y in the second half


def measure(study: OpenStudy, budget: Any) -> dict[str, Any]:
    """All figures of the claim, as JSON values."""
    angles = np.random.default_rng(budget.seed).uniform(0, 2 * np.pi, budget.starts)
    starts = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    settled = np.array(SETTLED)
    shapes = {}
    for noisy in (False, True):
        for arm, beta in (("sgd", 0.0), ("momentum", BETA)):
            noise = draw_noise(budget.seed, budget.starts, STEPS) * noisy
            visited = paths(settled, beta, starts, noise)
            shapes[arm, noisy] = shape(visited)
            if not noisy:
                shapes[f"{arm} deviation"] = deviation(visited, settled, beta)
    network = trajectory_network.measure(study, budget)
    return {
        **_tests(shapes),
        **network,
        "settled": settled.tolist(),
        "curves": {
            f"{arm}{' noisy' * noisy}": {
                name: np.mean(values, axis=1).tolist()
                for name, values in shapes[arm, noisy]._asdict().items()
            }
            for arm in ("sgd", "momentum")
            for noisy in (False, True)
        },
        "deviation": max(shapes[f"{arm} deviation"] for arm in ("sgd", "momentum")),
    }


def paths(
    settled: np.ndarray, beta: float, starts: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """All points of all paths in float64, [settled, starts, 1 + steps, 2].

    Args:
      settled: settled steps.
      beta: of the momentum.
      starts: [starts, 2]: x, which is along the ravine, and y across it.
      noise: of the gradients, [starts, steps, 2]: the same at all settled steps.
    """
    with jax.enable_x64(True):
        visited = np.asarray(_paths(settled, np.float64(beta), starts, noise))
    first = np.broadcast_to(starts[None, :, None], (*visited.shape[:2], 1, 2))
    return np.concatenate([first, visited], axis=2)


@jax.jit
@partial(jax.vmap, in_axes=(0, None, None, None))
@partial(jax.vmap, in_axes=(None, None, 0, 0))
def _paths(settled: Array, beta: Array, start: Array, noise: Array) -> Array:
    curvature = jnp.array([1 / CONDITION, 1.0])
    return descend(lambda x: curvature * x, settled, beta, start, noise)[1]


def draw_noise(seed: int, starts: int, steps: int) -> np.ndarray:
    """The gradients' noise of every start, which all arms share."""
    rng = np.random.default_rng([seed, 1])
    return NOISE * rng.normal(size=(starts, steps, 2))


def shape(visited: np.ndarray) -> Shape:
    """The shape of paths [settled, starts, 1 + steps, 2] that lead to (0, 0)."""
    first = np.linalg.norm(visited[:, :, 0], axis=-1)
    stays = np.abs(visited[:, :, -1]).max(axis=-1) < FAR * first
    visited = np.where(stays[..., None, None], visited, np.nan)
    y, moves = visited[..., 1], np.diff(visited, axis=2)
    second_half = y[..., y.shape[-1] // 2 :]
    figures = (
        np.mean(y[..., 1:] * y[..., :-1] < 0, axis=-1),
        np.sum(np.abs(moves[..., 1]), axis=-1) / np.abs(y[..., 0]),
        np.sum(np.linalg.norm(moves, axis=-1), axis=-1) / first,
        np.sqrt(np.mean(second_half**2, axis=-1)),
    )
    return Shape(*(np.where(stays, each, np.nan) for each in figures))


def deviation(visited: np.ndarray, settled: np.ndarray, beta: float) -> float:
    """How far y strays from theory, over the first |y|, at any stable settled step."""
    steps = visited.shape[2] - 1
    worst = 0.0
    for path, step in zip(visited, settled, strict=True):
        expected = closed_form(step, beta, 1.0, steps)
        if np.abs(expected).max() < FAR:
            y = path[..., 1] / path[:, :1, 1]
            worst = max(worst, float(np.abs(y - expected).max()))
    return worst


def closed_form(
    settled: float, beta: float, curvature: float, steps: int
) -> np.ndarray:
    """x after 0 to `steps` steps on curvature·x²/2 from 1, by roots of the recurrence.

        xₜ = [(1 − h − r₂)·r₁ᵗ + (r₁ − 1 + h)·r₂ᵗ]/(r₁ − r₂),   h = (1 − β)·s·λ

    where r₁, r₂ are the roots of z² − (1 + β − h)·z + β. A double root is parted by
    1e-7, which changes xₜ by less than 1e-6·t².
    """
    h = (1 - beta) * settled * curvature
    first, second = np.roots([1, -(1 + beta - h), beta]).astype(complex)
    if abs(first - second) < 1e-7:
        first += 1e-7
    t = np.arange(steps + 1)
    x = (1 - h - second) * first**t + (first - 1 + h) * second**t
    return (x / (first - second)).real


def travel_in_theory(settled: np.ndarray, beta: float) -> np.ndarray:
    """`Shape.travel` by the closed form; NaN where that diverges."""
    expected = [closed_form(step, beta, 1.0, STEPS) for step in settled]
    return np.array(
        [np.abs(np.diff(y)).sum() if abs(y[-1]) < FAR else np.nan for y in expected]
    )


def _tests(shapes: Mapping[Any, Any]) -> dict[str, Measured]:
    def at(settled: float) -> int:
        return int(np.argmin(np.abs(np.array(SETTLED) - settled)))

    zigzag, calm, at_rate = at(ZIGZAG), at(CALM), at(ZIGZAG / (1 - BETA))
    sgd, own = shapes["sgd", False], shapes["momentum", False]
    noisy_sgd, noisy_own = shapes["sgd", True], shapes["momentum", True]
    return {
        "zigzag_sign_changes": difference(
            own.sign_changes[zigzag], sgd.sign_changes[zigzag]
        ),
        "zigzag_path": ratio(own.length[zigzag], sgd.length[zigzag]),
        "equal_rate_path": ratio(own.length[at_rate], sgd.length[zigzag]),
        "calm_path": ratio(own.length[calm], sgd.length[calm]),
        "noisy_path": ratio(noisy_own.length[calm], noisy_sgd.length[calm]),
        "noisy_amplitude": ratio(noisy_own.amplitude[calm], noisy_sgd.amplitude[calm]),
    }
