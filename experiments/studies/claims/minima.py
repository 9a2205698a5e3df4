"""Claim 3, "escapes local minima": from other basins into that of the global minimum.

The landscapes are a tilted double well and a function of many basins. Paths run without
noise and with noisy gradients; SGD and momentum are compared at equal learning rate, at
equal settled step, and each at its best settled step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float
from matplotlib.figure import Figure as Canvas

from experiments.records.config import JSON
from experiments.reporting.drawing import (
    BLUE,
    GREEN,
    STROKES,
    legend,
    panels,
    plain_axes,
)
from experiments.reporting.page import Figure, Section, Table
from experiments.studies.claims import verdict
from experiments.studies.claims.budget import ClaimsBudget
from experiments.studies.claims.descent import descend
from experiments.studies.claims.verdict import (
    JudgedPrediction,
    Measured,
    Prediction,
    difference,
)
from experiments.studies.lifecycle import OpenStudy

BETA = 0.9
ARMS = {"sgd": 0.0, "momentum": BETA}  # beta of each
STEPS = 500
SETTLING = 400  # steps without noise that show which basin a path has ended in
# Settled steps times the largest curvature at a minimum. From 2 on, SGD can't stay in
# such a minimum.
EQUAL = 0.4
SCALED = tuple(EQUAL * 10 ** (k / 5) for k in range(-5, 9))

_TITLES = {"sgd": "SGD", "momentum": "Momentum"}
_DRAWN_STEPS = 60

Points = Float[np.ndarray, "starts 2"]
Noise = Float[np.ndarray, "starts steps 2"]


class Landscape(NamedTuple):
    """A function of x and y, and the region in which paths start."""

    title: str
    formula: str
    value: Callable[[Any, Any], Any]  # of x and y: numbers or arrays
    curvature: float  # the largest at a minimum
    minimum: tuple[float, float]  # the global one
    low: tuple[float, float]  # starts are uniform between these corners
    high: tuple[float, float]
    noise: float  # standard deviation of each coordinate of a gradient


def _double_well(x: Any, y: Any) -> Any:
    return (x**2 - 1) ** 2 + 0.3 * x + 2 * y**2


def _many_basins(x: Any, y: Any) -> Any:
    along = 0.5 * x**2 + 0.5 * (1 - jnp.cos(2 * jnp.pi * x))
    return along + 0.5 * y**2 + 0.5 * (1 - jnp.cos(2 * jnp.pi * y))


LANDSCAPES = {
    "well": Landscape(
        "Tilted double well",
        "(x² − 1)² + 0.3x + 2y²",
        _double_well,
        8.87,
        (-1.03558, 0.0),
        (0.3, -1.0),
        (1.6, 1.0),
        3.0,
    ),
    "basins": Landscape(
        "Many basins",
        "½r² + ½(1 − cos 2πx) + ½(1 − cos 2πy)",
        _many_basins,
        20.7,
        (0.0, 0.0),
        (-3.5, -3.5),
        (3.5, 3.5),
        4.0,
    ),
}
_COMPARISONS = {
    "equal_rate": "equal learning rate",
    "equal_step": "equal settled step",
    "tuned": "each at its best settled step",
}
FIXED = {
    "betas": ARMS,
    "steps": STEPS,
    "scaled_steps": SCALED,
    "landscapes": {
        key: {name: v for name, v in landscape._asdict().items() if name != "value"}
        for key, landscape in LANDSCAPES.items()
    },
}
PREDICTIONS = tuple(
    Prediction(
        f"{key}_{noise}_{comparison}",
        f"{landscape.title.lower()}, {noise} noise: share that ends in the global "
        f"basin, momentum − SGD, {words}",
        "above",
        0,
    )
    for key, landscape in LANDSCAPES.items()
    for noise in ("no", "gradient")
    for comparison, words in _COMPARISONS.items()
)


def measure(study: OpenStudy, budget: ClaimsBudget) -> dict[str, JSON]:
    """All measurements of the claim, as JSON values."""
    del study
    measured: dict[str, JSON] = {"scaled": list(SCALED), "starts": budget.escapes}
    for number, (key, landscape) in enumerate(LANDSCAPES.items()):
        seed = [budget.seed, 3, number]
        starts = wrong_starts(landscape, budget.escapes, seed)
        for noise in ("no", "gradient"):
            drawn = draw_noise(landscape, len(starts), seed) * np.float32(noise != "no")
            escaped = {
                arm: escapes(landscape, b, starts, drawn) for arm, b in ARMS.items()
            }
            measured[f"{key} {noise}"] = {
                arm: paths.mean(axis=1).tolist() for arm, paths in escaped.items()
            }
            for comparison, gain in compare(escaped).items():
                measured[f"{key}_{noise}_{comparison}"] = gain
    return measured


def compare(
    escaped: dict[str, Bool[np.ndarray, "steps starts"]],
) -> dict[str, Measured]:
    """Differences of `escapes` between momentum and SGD, paired by start and noise.

    The even starts choose the best step of each arm, and the odd ones compare them.
    """
    sgd, momentum = escaped["sgd"], escaped["momentum"]
    at_step = int(np.argmin(np.abs(np.array(SCALED) - EQUAL)))
    at_rate = int(np.argmin(np.abs(np.array(SCALED) - EQUAL / (1 - BETA))))
    best_sgd, best_momentum = (
        int(np.argmax(paths[:, ::2].mean(axis=1))) for paths in (sgd, momentum)
    )
    return {
        "equal_rate": difference(momentum[at_rate], sgd[at_step]),
        "equal_step": difference(momentum[at_step], sgd[at_step]),
        "tuned": difference(momentum[best_momentum, 1::2], sgd[best_sgd, 1::2]),
    }


def escapes(
    landscape: Landscape, beta: float, starts: Points, noise: Noise
) -> Bool[np.ndarray, "steps starts"]:
    """Whether the path from each start, at each settled step, ends in the global basin.

    A point is in the global basin if small steps without noise lead from it to the
    minimum. A path that diverges has left every basin.
    """
    settled_steps = np.array(SCALED, np.float32) / np.float32(landscape.curvature)
    last = _last_points(
        landscape, settled_steps, np.float32(beta), np.float32(starts), noise
    )
    return _in_global_basin(landscape, last)


@partial(jax.jit, static_argnums=0)
def _last_points(
    landscape: Landscape,
    settled_steps: Float[Array, " steps"],
    beta: Float[Array, ""],
    starts: Float[Array, "starts 2"],
    noise: Float[Array, "starts steps 2"],
) -> Float[Array, "steps starts 2"]:
    def last(settled_step: Array, start: Array, noise: Array) -> Array:
        gradient = gradient_of(landscape)
        return descend(gradient, settled_step, beta, start, noise, lambda x: None)[0]

    over_starts = jax.vmap(last, (None, 0, 0))
    over_steps = jax.vmap(over_starts, (0, None, None))
    return over_steps(settled_steps, starts, noise)


def _in_global_basin(
    landscape: Landscape, points: ArrayLike
) -> Bool[np.ndarray, "..."]:
    """Whether small steps without noise lead from each point to the global minimum."""
    flat = jnp.asarray(points, jnp.float32).reshape(-1, 2)
    small = np.full(1, 0.2 / landscape.curvature, np.float32)
    no_noise = jnp.zeros((len(flat), SETTLING, 2), jnp.float32)
    bottoms = _last_points(landscape, small, np.float32(0), flat, no_noise)[0]
    distances = np.linalg.norm(np.asarray(bottoms) - landscape.minimum, axis=-1)
    return (distances < 0.1).reshape(np.shape(points)[:-1])


def gradient_of(
    landscape: Landscape,
) -> Callable[[Float[Array, " 2"]], Float[Array, " 2"]]:
    """The gradient as a function of a point [2]."""
    return jax.grad(lambda point: landscape.value(point[0], point[1]))


def wrong_starts(landscape: Landscape, count: int, seed: list[int]) -> Points:
    """Uniform random starts from which small steps miss the global minimum."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(landscape.low, landscape.high, (2 * count, 2))
    return drawn[~_in_global_basin(landscape, drawn)][:count]


def draw_noise(landscape: Landscape, starts: int, seed: list[int]) -> Noise:
    """The gradient noise of each start, which all arms share."""
    rng = np.random.default_rng([*seed, 1])
    drawn = rng.standard_normal((starts, STEPS, 2), np.float32)
    return np.float32(landscape.noise) * drawn


def section(measured: dict[str, JSON], judged: Sequence[JudgedPrediction]) -> Section:
    """The claim's part of the page."""
    well, basins = LANDSCAPES.values()
    return Section(
        "Claim 3: momentum escapes local minima",
        (
            f"Tilted double well: {well.formula}, with gradient noise of standard "
            f"deviation {well.noise:g} in each coordinate. Many basins: "
            f"{basins.formula}, with noise {basins.noise:g}. Paths take {STEPS} steps "
            f"with β = {BETA} from {measured['starts']:,} random starts outside the "
            "global basin. Both methods share starts and noise. A path has escaped if "
            "small steps without noise lead from its last point to the global minimum.",
            "Settled steps are given in units of 1/(largest curvature at a minimum): "
            f"{EQUAL} where they are equal; at SGD's learning rate, momentum's is ten "
            "times that. From 2 on, SGD can't stay in such a minimum. It hops about, "
            "and only its position at the end counts. Half of the starts choose the "
            "best settled step of each method; the other half compare the methods.",
        ),
        (_paths_figure(), _shares_figure(measured)),
        (verdict.table(judged),),
    )


def _paths_figure() -> Figure:
    """Two paths that start in the wrong well, at equal step and at equal rate."""
    landscape = LANDSCAPES["well"]
    drawn = {
        "SGD": (EQUAL, 0.0),
        "Momentum, equal step": (EQUAL, BETA),
        "Momentum, equal rate": (EQUAL / (1 - BETA), BETA),
    }
    starts = jnp.array([[1.5, 0.8], [1.1, -0.9]], jnp.float32)
    no_noise = jnp.zeros((_DRAWN_STEPS, 2), jnp.float32)
    gradient = gradient_of(landscape)
    paths = {}
    for title, (scaled, beta) in drawn.items():
        settled_step = scaled / landscape.curvature
        for number, start in enumerate(starts):
            path = descend(gradient, settled_step, beta, start, no_noise)[1]
            paths[title, number] = np.vstack([start[None], path])

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(drawn), 2.6)
        x, y = np.meshgrid(np.linspace(-1.7, 1.8, 90), np.linspace(-1.1, 1.1, 60))
        values = landscape.value(x, y)
        for axes, title in zip(places, drawn, strict=True):
            levels = np.linspace(-0.3, 6, 22)
            axes.contour(x, y, values, levels, colors=ink, alpha=0.2, linewidths=0.6)
            color = BLUE if title == "SGD" else GREEN
            for number, marker in enumerate(("o-", "x-")):
                path = paths[title, number].T
                axes.plot(*path, marker, color=color, linewidth=1, markersize=3)
                axes.plot(*path[:, -1:], "*", color=ink, markersize=9, zorder=3)
            axes.set(title=title, xlabel="x", ylabel="y")
            plain_axes(axes, ink)

    header = ("panel", "path", "step", "x", "y")
    rows = [
        (title, number, step, *map(float, point))
        for (title, number), path in paths.items()
        for step, point in enumerate(path)
    ]
    return Figure(
        "double-well-paths",
        f"Two paths of {_DRAWN_STEPS} steps without noise over the contours of the "
        "double well, whose left minimum is the global one: dots from one start, "
        "crosses from the other; a star marks the end of a path. At equal settled "
        "step, momentum stays in its well; at equal learning rate its steps are ten "
        "times larger, and it may cross the barrier.",
        draw,
        Table("Points of the paths", header, rows, {"x": "{:.4f}", "y": "{:.4f}"}),
        (8.7, 3.0),
    )


def _shares_figure(measured: dict[str, JSON]) -> Figure:
    scaled = measured["scaled"]
    drawn = {
        f"{key} {noise}": f"{landscape.title}, {noise} noise"
        for key, landscape in LANDSCAPES.items()
        for noise in ("no", "gradient")
    }

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(drawn), 2.5)
        for axes, (key, title) in zip(places, drawn.items(), strict=True):
            for arm, stroke in zip(ARMS, STROKES, strict=False):
                shares = 100 * np.array(measured[key][arm])
                axes.plot(
                    scaled,
                    shares,
                    "o",
                    ms=3.5,
                    label=_TITLES[arm],
                    color=stroke.color,
                    linestyle=stroke.dash,
                )
            axes.axvline(2, color=ink, linewidth=0.8, linestyle="dotted")
            axes.set(title=title, xscale="log", xlabel="Settled step × curvature")
            axes.set_ylabel("In the global basin, %")
            plain_axes(axes, ink)
        legend(canvas, places[0])

    header = ("landscape", "settled step × curvature", "SGD", "momentum")
    formats: dict[str, str] = dict.fromkeys(header[2:], "{:.1%}")
    rows = [
        (title, step, measured[key]["sgd"][i], measured[key]["momentum"][i])
        for key, title in drawn.items()
        for i, step in enumerate(scaled)
    ]
    return Figure(
        "escapes",
        "Share of starts whose path ends in the global basin, against the settled "
        "step; to the right of the dotted line SGD can't stay in a minimum. At equal "
        "learning rate, momentum's point is ten times further right than SGD's.",
        draw,
        Table("Shares that end in the global basin", header, rows, formats),
        (6.4, 5.4),
    )
