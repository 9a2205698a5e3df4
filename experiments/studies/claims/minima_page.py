"""Claim 3 as it is told: paths over the double well, shares against the step."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import STROKES, legend, panels, plain_axes
from experiments.reporting.page import Figure, Section, Table
from experiments.studies.claims import minima, verdict
from experiments.studies.claims.descent import descend
from experiments.studies.claims.minima import (
    ARMS,
    BETA,
    EQUAL,
    LANDSCAPES,
    STEPS,
)
from experiments.studies.claims.verdict import Answer

_TITLES = {"sgd": "SGD", "momentum": "Momentum"}
_SHOWN = 60  # steps of a drawn path


def section(measured: dict[str, Any], answers: Sequence[Answer]) -> Section:
    """The claim's part of the page."""
    return Section(
        "Claim 3: momentum escapes local minima",
        (
            f"Tilted double well: {LANDSCAPES['well'].formula}, noise of standard "
            f"deviation {LANDSCAPES['well'].noise:g} in each coordinate of the "
            f"gradient. Many basins: {LANDSCAPES['basins'].formula}, noise "
            f"{LANDSCAPES['basins'].noise:g}. {measured['starts']:,} random starts "
            f"outside the global basin, {STEPS} steps, β = {BETA}; starts and noise "
            "are shared by all arms. A path counts where small steps without noise "
            "lead from its last point to the global minimum.",
            f"Settled steps are told times the largest curvature at a minimum: {EQUAL} "
            "where they are equal, and for momentum at SGD's learning rate ten times "
            "that. From 2 on SGD can't stay in such a minimum: it hops about, and what "
            "counts is where it happens to be at the end. The best settled step of "
            "each is chosen with half of the starts and judged with the others.",
        ),
        (_paths(), _shares(measured)),
        (verdict.table(answers),),
    )


def _paths() -> Figure:
    """Two starts in the wrong well, at equal settled step and at equal rate."""
    landscape = LANDSCAPES["well"]
    shown = {
        "SGD": (EQUAL, 0.0),
        "Momentum, equal step": (EQUAL, BETA),
        "Momentum, equal rate": (EQUAL / (1 - BETA), BETA),
    }
    starts = jnp.array([[1.5, 0.8], [1.1, -0.9]])
    still = jnp.zeros((_SHOWN, 2))
    slope = minima.slope(landscape)
    visited = {}
    for title, (scaled, beta) in shown.items():
        settled = scaled / landscape.curvature
        for number, start in enumerate(starts):
            path = descend(slope, settled, beta, start, still)[1]
            visited[title, number] = np.vstack([start[None], path])

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(shown), 2.6)
        x, y = np.meshgrid(np.linspace(-1.7, 1.8, 90), np.linspace(-1.1, 1.1, 60))
        values = landscape.value(x, y)
        for axes, title in zip(places, shown, strict=True):
            levels = np.linspace(-0.3, 6, 22)
            axes.contour(x, y, values, levels, colors=ink, alpha=0.2, linewidths=0.6)
            for number, stroke in zip(range(len(starts)), STROKES, strict=False):
                path = visited[title, number].T
                axes.plot(*path, ".-", color=stroke.color, linewidth=1)
                axes.plot(*path[:, -1:], "*", color=ink, markersize=9, zorder=3)
            axes.set(title=title, xlabel="x", ylabel="y")
            plain_axes(axes, ink)

    header = ("panel", "path", "step", "x", "y")
    rows = [
        (title, number, step, *map(float, point))
        for (title, number), path in visited.items()
        for step, point in enumerate(path)
    ]
    return Figure(
        "double-well-paths",
        f"Two paths of {_SHOWN} steps without noise over the contours of the double "
        "well, whose left minimum is the global one; a star is where a path ends. "
        "Momentum of equal settled step stays; of equal learning rate, with steps ten "
        "times larger, it may cross the barrier.",
        draw,
        Table("Points of the paths", header, rows, {"x": "{:.4f}", "y": "{:.4f}"}),
        (8.7, 3.0),
    )


def _shares(measured: dict[str, Any]) -> Figure:
    scaled = measured["scaled"]
    shown = {
        f"{key} {noise}": f"{landscape.title}, {noise} noise"
        for key, landscape in LANDSCAPES.items()
        for noise in ("no", "gradient")
    }

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(shown), 2.5)
        for axes, (key, title) in zip(places, shown.items(), strict=True):
            for arm, stroke in zip(ARMS, STROKES, strict=False):
                shares = 100 * np.array(measured[key][arm])
                axes.plot(
                    scaled,
                    shares,
                    "o",
                    color=stroke.color,
                    linestyle=stroke.dash,
                    markersize=3.5,
                    label=_TITLES[arm],
                )
            axes.axvline(2, color=ink, linewidth=0.8, linestyle="dotted")
            axes.set(title=title, xscale="log", xlabel="Settled step × curvature")
            axes.set_ylabel("In the global basin, %")
            plain_axes(axes, ink)
        legend(canvas, places[0])

    rows = [
        (title, step, measured[key]["sgd"][i], measured[key]["momentum"][i])
        for key, title in shown.items()
        for i, step in enumerate(scaled)
    ]
    return Figure(
        "escapes",
        "Share of starts that end in the global basin against the settled step; right "
        "of the dotted line SGD can't stay in a minimum. At one learning rate, "
        "momentum's point is a factor of ten further right than SGD's.",
        draw,
        Table(
            "Shares that end in the global basin",
            ("landscape", "settled step × curvature", "SGD", "momentum"),
            rows,
            dict.fromkeys(("SGD", "momentum"), "{:.1%}"),
        ),
        (6.4, 5.4),
    )
