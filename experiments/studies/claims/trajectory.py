"""Claim 1, "smoother trajectory": sign changes and path lengths across a ravine.

The ravine is ½(x²/κ + y²). The settled step is s = α/(1 − β). Since y has curvature 1,
SGD overshoots in y for s > 1 and diverges for s > 2. `trajectory_network` puts the same
question to a network.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float
from matplotlib.figure import Figure as Canvas

from experiments.records.config import JSON
from experiments.reporting.drawing import (
    STROKES,
    legend,
    panels,
    plain_axes,
    scientific,
)
from experiments.reporting.page import Figure, Section, Table
from experiments.studies.claims import trajectory_network, verdict
from experiments.studies.claims.budget import ClaimsBudget
from experiments.studies.claims.descent import descend
from experiments.studies.claims.verdict import (
    JudgedPrediction,
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
FAR = 100.0  # times the first distance: a path that ends beyond has diverged
# The range includes 10 · ZIGZAG, momentum's settled step at learning rate ZIGZAG.
SETTLED = tuple(sorted([CALM, *(ZIGZAG * 10 ** (k / 10) for k in range(-20, 13))]))

FIXED = {
    **{"beta": BETA, "condition": CONDITION, "noise": NOISE, "steps": STEPS},
    **{"far": FAR, "settled_steps": SETTLED, "network": trajectory_network.FIXED},
}
_NOISY, _RMS = "under gradient noise", "root mean square of y"
PREDICTIONS = (
    Prediction(
        "zigzag_sign_changes",
        f"sign changes of y a step, momentum − SGD, both with settled step {ZIGZAG}",
        "below",
        0,
    ),
    *(
        Prediction(key, f"{measure}, momentum / SGD, both with {shared}", "below", 1)
        for key, measure, shared in (
            ("zigzag_path", "path length", f"settled step {ZIGZAG}"),
            ("equal_rate_path", "path length", f"learning rate {ZIGZAG}"),
            ("calm_path", "path length", f"settled step {CALM}"),
            ("noisy_path", f"path length {_NOISY}", f"settled step {CALM}"),
            ("noisy_amplitude", f"{_RMS} {_NOISY}", f"settled step {CALM}"),
        )
    ),
    *trajectory_network.PREDICTIONS,
)

_ARMS = {"sgd": 0.0, "momentum": BETA}  # beta of each
_TITLES = {"sgd": "SGD", "momentum": "Momentum"}
_DRAWN_STEPS = 40

Steps = Float[np.ndarray, " steps"]  # settled steps
Noise = Float[np.ndarray, "starts time 2"]
Paths = Float[np.ndarray, "steps starts time 2"]
PerPath = Float[np.ndarray, "steps starts"]


class Shape(NamedTuple):
    """Measures of the shape of paths; NaN for a path that diverges."""

    sign_changes: PerPath  # of y, per step
    travel: PerPath  # total movement along y, relative to the first |y|
    length: PerPath  # of the path, relative to the first distance
    amplitude: PerPath  # root mean square of y in the second half


def measure(study: OpenStudy, budget: ClaimsBudget) -> dict[str, JSON]:
    """All measurements of the claim, as JSON values."""
    angles = np.random.default_rng(budget.seed).uniform(0, 2 * np.pi, budget.starts)
    starts = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    settled_steps = np.array(SETTLED)
    noise = draw_noise(budget.seed, budget.starts, STEPS)
    exact, noisy, deviations = {}, {}, []
    for arm, beta in _ARMS.items():
        visited = paths(settled_steps, beta, starts, noise * False)
        exact[arm] = shape(visited)
        deviations.append(deviation(visited, settled_steps, beta))
        noisy[arm] = shape(paths(settled_steps, beta, starts, noise))
    return {
        **_compare(exact, noisy),
        **trajectory_network.measure(study, budget),
        "settled": settled_steps.tolist(),
        "curves": {
            f"{arm}{suffix}": {
                name: np.mean(values, axis=1).tolist()
                for name, values in shapes[arm]._asdict().items()
            }
            for arm in _ARMS
            for suffix, shapes in (("", exact), (" noisy", noisy))
        },
        "deviation": max(deviations),
    }


def paths(
    settled_steps: Steps,
    beta: float,
    starts: Float[np.ndarray, "starts 2"],
    noise: Noise,
) -> Paths:
    """All points of all paths, in float64: from each start, one at each settled step.

    Starts are x, which is along the ravine, and y across it. Noise is of gradients.
    """
    with jax.enable_x64(True):
        visited = np.asarray(_paths(settled_steps, np.float64(beta), starts, noise))
    first = np.broadcast_to(starts[None, :, None], (*visited.shape[:2], 1, 2))
    return np.concatenate([first, visited], axis=2)


@jax.jit
@partial(jax.vmap, in_axes=(0, None, None, None))
@partial(jax.vmap, in_axes=(None, None, 0, 0))
def _paths(settled_step: Array, beta: Array, start: Array, noise: Array) -> Array:
    curvature = jnp.array([1 / CONDITION, 1.0], start.dtype)
    return descend(lambda x: curvature * x, settled_step, beta, start, noise)[1]


def draw_noise(seed: int, starts: int, steps: int) -> Noise:
    """The gradient noise of each start, which all arms share."""
    rng = np.random.default_rng([seed, 1])
    return NOISE * rng.normal(size=(starts, steps, 2))


def shape(visited: Paths) -> Shape:
    """The shape of paths that lead to (0, 0)."""
    first = np.linalg.norm(visited[:, :, 0], axis=-1)
    stays = np.abs(visited[:, :, -1]).max(axis=-1) < FAR * first
    visited = np.where(stays[..., None, None], visited, np.nan)
    y, moves = visited[..., 1], np.diff(visited, axis=2)
    second_half = y[..., y.shape[-1] // 2 :]
    measures = Shape(
        sign_changes=np.mean(y[..., 1:] * y[..., :-1] < 0, axis=-1),
        travel=np.sum(np.abs(moves[..., 1]), axis=-1) / np.abs(y[..., 0]),
        length=np.sum(np.linalg.norm(moves, axis=-1), axis=-1) / first,
        amplitude=np.sqrt(np.mean(second_half**2, axis=-1)),
    )
    return Shape(*(np.where(stays, values, np.nan) for values in measures))


def deviation(visited: Paths, settled_steps: Steps, beta: float) -> float:
    """The largest distance of y from theory, relative to the first |y|.

    Only settled steps at which theory is stable count.
    """
    steps = visited.shape[2] - 1
    worst = 0.0
    for path, step in zip(visited, settled_steps, strict=True):
        expected = closed_form(step, beta, 1.0, steps)
        if np.abs(expected).max() < FAR:
            y = path[..., 1] / path[:, :1, 1]
            worst = max(worst, float(np.abs(y - expected).max()))
    return worst


def closed_form(
    settled_step: float, beta: float, curvature: float, steps: int
) -> Float[np.ndarray, " time"]:
    """x after 0 to `steps` steps on curvature·x²/2 from 1, by roots of the recurrence.

        xₜ = [(1 − h − r₂)·r₁ᵗ + (r₁ − 1 + h)·r₂ᵗ]/(r₁ − r₂),   h = (1 − β)·s·λ

    where r₁, r₂ are the roots of z² − (1 + β − h)·z + β. The roots of a double root are
    moved apart by 1e-7, which changes xₜ by less than 1e-6·t².
    """
    h = (1 - beta) * settled_step * curvature
    first, second = np.roots([1, -(1 + beta - h), beta]).astype(complex)
    if abs(first - second) < 1e-7:
        first += 1e-7
    t = np.arange(steps + 1)
    x = (1 - h - second) * first**t + (first - 1 + h) * second**t
    return (x / (first - second)).real


def travel_in_theory(settled_steps: Steps, beta: float) -> Steps:
    """`Shape.travel` by the closed form; NaN where that diverges."""
    expected = [closed_form(step, beta, 1.0, STEPS) for step in settled_steps]
    return np.array(
        [np.abs(np.diff(y)).sum() if abs(y[-1]) < FAR else np.nan for y in expected]
    )


def _compare(exact: dict[str, Shape], noisy: dict[str, Shape]) -> dict[str, Measured]:
    """The measurements behind the predictions, without and with gradient noise."""

    def at(settled_step: float) -> int:
        return int(np.argmin(np.abs(np.array(SETTLED) - settled_step)))

    zigzag, calm, at_rate = at(ZIGZAG), at(CALM), at(ZIGZAG / (1 - BETA))
    compared = {  # the last two are settled steps of momentum and of SGD
        "zigzag_sign_changes": (difference, exact, "sign_changes", zigzag, zigzag),
        "zigzag_path": (ratio, exact, "length", zigzag, zigzag),
        "equal_rate_path": (ratio, exact, "length", at_rate, zigzag),
        "calm_path": (ratio, exact, "length", calm, calm),
        "noisy_path": (ratio, noisy, "length", calm, calm),
        "noisy_amplitude": (ratio, noisy, "amplitude", calm, calm),
    }
    return {
        key: compare(getattr(of["momentum"], name)[i], getattr(of["sgd"], name)[j])
        for key, (compare, of, name, i, j) in compared.items()
    }


def section(measured: dict[str, JSON], judged: Sequence[JudgedPrediction]) -> Section:
    """The claim's part of the page."""
    return Section(
        "Claim 1: momentum makes the trajectory smoother",
        (
            f"The ravine is ½(x²/{CONDITION:g} + y²). Both methods take {STEPS} steps "
            "from the same random points on the unit circle; momentum has "
            f"β = {BETA}. Without noise, y follows a closed form, the roots of the "
            "recurrence: measured paths differ from it by at most "
            f"{scientific(measured['deviation'])}. Gradient noise has standard "
            f"deviation {NOISE:g} in each coordinate.",
            "SGD zigzags only where its step is too large, above 1; there momentum "
            "damps the zigzag. With smaller steps it is momentum that swings to and "
            "fro, because its buffer still points ahead after the gradient has "
            "turned. Under noise, momentum averages gradients, and its path is the "
            "shorter one. All this holds at equal settled step; at equal learning "
            "rate, momentum's steps are ten times larger.",
        ),
        (
            _paths_figure(),
            _shapes_figure(measured),
            trajectory_network.walks_figure(measured["walks"]),
            trajectory_network.losses_figure(measured["walks"]),
        ),
        (verdict.table(judged),),
    )


def _paths_figure() -> Figure:
    """Paths from one start, at settled steps where the methods differ most."""
    drawn = {
        f"Settled step {ZIGZAG}": (ZIGZAG, False),
        f"Settled step {CALM}": (CALM, False),
        f"Settled step {CALM}, noisy": (CALM, True),
    }
    start = np.array([[-0.95, 0.31]])
    noise = draw_noise(0, 1, _DRAWN_STEPS)
    visited = {
        (title, arm): paths(np.array([step]), beta, start, noise * noisy)[0, 0]
        for title, (step, noisy) in drawn.items()
        for arm, beta in _ARMS.items()
    }

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(drawn), 2.6)
        x, y = np.meshgrid(np.linspace(-1.05, 0.35, 80), np.linspace(-0.45, 0.45, 80))
        values = x**2 / CONDITION + y**2
        for axes, title in zip(places, drawn, strict=True):
            axes.contour(x, y, values, 12, colors=ink, alpha=0.2, linewidths=0.6)
            for (arm, label), stroke in zip(_TITLES.items(), STROKES, strict=False):
                path = visited[title, arm].T
                axes.plot(*path, ".-", color=stroke.color, label=label, linewidth=1)
            axes.set(title=title, xlabel="x", ylabel="y")
            plain_axes(axes, ink)
        legend(canvas, places[0])

    header = ("panel", "method", "step", "x", "y")
    rows = [
        (title, _TITLES[arm], step, *map(float, point))
        for (title, arm), path in visited.items()
        for step, point in enumerate(path)
    ]
    return Figure(
        "ravine-paths",
        f"Paths of {_DRAWN_STEPS} steps from one start, over the contours of the "
        "ravine. Where SGD zigzags, momentum swings in wider, slower waves; where SGD "
        "does not, momentum still swings; under noise, its path is the smoother one.",
        draw,
        Table("Points of the paths", header, rows, dict.fromkeys("xy", "{:.4f}")),
        (8.7, 3.2),
    )


def _shapes_figure(measured: dict[str, JSON]) -> Figure:
    settled_steps = np.array(measured["settled"])
    drawn = {
        "sign_changes": "Sign changes of y per step",
        "travel": "Travel along y, over first |y|",
        "length": "Path length, over first distance",
        "length noisy": "Path length, gradient noise",
    }

    def curve(arm: str, name: str) -> np.ndarray:
        name, *noisy = name.split()
        return np.array(measured["curves"][" ".join([arm, *noisy])][name], float)

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(drawn), 2.5)
        for axes, (name, title) in zip(places, drawn.items(), strict=True):
            for (arm, beta), stroke in zip(_ARMS.items(), STROKES, strict=False):
                color = stroke.color
                means = curve(arm, name)
                axes.plot(settled_steps, means, ".", color=color, label=_TITLES[arm])
                if name == "travel":
                    theory = travel_in_theory(settled_steps, beta)
                    axes.plot(settled_steps, theory, color=color, linewidth=1)
            axes.set(title=title, xlabel="Settled step × curvature", xscale="log")
            if name != "sign_changes":
                axes.set_yscale("log")
            plain_axes(axes, ink)
        legend(canvas, places[0])

    columns = {
        f"{name}, {_TITLES[arm]}": curve(arm, name) for name in drawn for arm in _ARMS
    }
    header = ["settled step", *columns]
    rows = np.column_stack([settled_steps, *columns.values()]).tolist()
    return Figure(
        "ravine-against-step",
        "Smoothness of the paths against the settled step. Points are means over "
        "starts, lines are theory; a curve ends where its method diverges. To compare "
        "at equal settled step, read points that lie above each other; at equal "
        "learning rate, momentum's point is ten times further right.",
        draw,
        Table("Means over starts", header, rows, dict.fromkeys(header, "{:.3g}")),
        (6.4, 5.4),
    )
