"""Claim 1 as it is told: paths over contours, figures against the settled step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import (
    STROKES,
    draw_intervals,
    legend,
    panels,
    plain_axes,
    scientific,
)
from experiments.reporting.page import Figure, Section, Table
from experiments.reporting.statistics import ANY, mean_and_interval
from experiments.studies.claims import trajectory, verdict
from experiments.studies.claims.trajectory import (
    BETA,
    CALM,
    CONDITION,
    NOISE,
    STEPS,
    ZIGZAG,
)
from experiments.studies.claims.trajectory_network import TITLES
from experiments.studies.claims.verdict import Answer

_BETAS = {"SGD": 0.0, "Momentum": BETA}
_SHOWN = 40  # steps of a drawn path


def section(measured: dict[str, Any], answers: Sequence[Answer]) -> Section:
    """The claim's part of the page."""
    return Section(
        "Claim 1: momentum makes the trajectory smoother",
        (
            f"The ravine ½(x²/{CONDITION:g} + y²), {STEPS} steps from random points on "
            f"the unit circle, the same for all; momentum has β = {BETA}. Without "
            "noise y follows the roots of the recurrence: what was measured differs "
            f"from that closed form by at most {scientific(measured['deviation'])}. "
            f"Gradient noise has standard deviation {NOISE:g} in each coordinate.",
            "SGD zigzags only where its step is too large, from 1 on; there momentum "
            "damps it. With smaller steps it is momentum that swings to and fro, since "
            "its buffer goes on where the gradient has turned. Against noise it "
            "averages, and its path is the shorter. It does so at equal settled step; "
            "at equal learning rate its step is ten times larger.",
        ),
        (_paths(), _against_step(measured), *_network(measured)),
        (verdict.table(answers),),
    )


def _paths() -> Figure:
    """The same start under settled steps that tell the arms apart."""
    shown = {
        f"Settled step {ZIGZAG}": (ZIGZAG, False),
        f"Settled step {CALM}": (CALM, False),
        f"Settled step {CALM}, noisy": (CALM, True),
    }
    start = np.array([[-0.95, 0.31]])
    noise = trajectory.draw_noise(0, 1, _SHOWN)
    visited = {
        (title, arm): trajectory.paths(np.array([settled]), beta, start, noise * noisy)[
            0, 0
        ]
        for title, (settled, noisy) in shown.items()
        for arm, beta in _BETAS.items()
    }

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(shown), 2.6)
        x, y = np.meshgrid(np.linspace(-1.05, 0.35, 80), np.linspace(-0.45, 0.45, 80))
        for axes, title in zip(places, shown, strict=True):
            axes.contour(
                x, y, x**2 / CONDITION + y**2, 12, colors=ink, alpha=0.2, linewidths=0.6
            )
            for arm, stroke in zip(_BETAS, STROKES, strict=False):
                path = visited[title, arm].T
                axes.plot(*path, ".-", color=stroke.color, label=arm, linewidth=1)
            axes.set(title=title, xlabel="x", ylabel="y")
            plain_axes(axes, ink)
        legend(canvas, places[0])

    rows = [
        (title, arm, step, *map(float, point))
        for (title, arm), path in visited.items()
        for step, point in enumerate(path)
    ]
    return Figure(
        "ravine-paths",
        f"Paths of {_SHOWN} steps over the contours of the ravine, from one start. "
        "Where SGD zigzags, momentum swings in wider, slower waves; where SGD does "
        "not, momentum still swings; under noise its path is the smoother.",
        draw,
        Table(
            "Points of the paths",
            ("panel", "method", "step", "x", "y"),
            rows,
            dict.fromkeys(("x", "y"), "{:.4f}"),
        ),
        (8.7, 3.2),
    )


def _against_step(measured: dict[str, Any]) -> Figure:
    settled = np.array(measured["settled"])
    shown = {
        "sign_changes": "Sign changes of y a step",
        "travel": "Travel along y, over first |y|",
        "length": "Path length, over first distance",
        "length noisy": "Path length, gradient noise",
    }

    def curve(arm: str, name: str) -> np.ndarray:
        name, *noisy = name.split()
        return np.array(measured["curves"][" ".join([arm, *noisy])][name], float)

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(shown), 2.5)
        for axes, (name, title) in zip(places, shown.items(), strict=True):
            for (label, beta), stroke in zip(_BETAS.items(), STROKES, strict=False):
                measured_at = curve(label.lower(), name)
                axes.plot(settled, measured_at, ".", color=stroke.color, label=label)
                if name == "travel":
                    theory = trajectory.travel_in_theory(settled, beta)
                    axes.plot(settled, theory, color=stroke.color, linewidth=1)
            axes.set(title=title, xlabel="Settled step × curvature", xscale="log")
            if name != "sign_changes":
                axes.set_yscale("log")
            plain_axes(axes, ink)
        legend(canvas, places[0])

    header = ["settled step", *(f"{name}, {arm}" for name in shown for arm in _BETAS)]
    columns = [curve(arm.lower(), name) for name in shown for arm in _BETAS]
    rows = np.column_stack([settled, *columns]).tolist()
    return Figure(
        "ravine-against-step",
        "How smooth the paths are against the settled step: points are means over "
        "starts, lines theory. A curve ends where its method diverges. At one settled "
        "step compare the points above each other; at one learning rate, those of "
        "momentum are a factor of ten further right.",
        draw,
        Table("Means over starts", header, rows, dict.fromkeys(header, "{:.3g}")),
        (6.4, 5.4),
    )


def _network(measured: dict[str, Any]) -> tuple[Figure, Figure]:
    walks = measured["walks"]
    seen = {
        "straightness": "Path over distance",
        "cosine": "Cosine of steps",
        "rises": "Steps up the loss",
    }
    intervals = {
        name: [mean_and_interval(walks[arm][name]) for arm in TITLES] for name in seen
    }

    def draw(canvas: Canvas, ink: str) -> None:
        for axes, name in zip(panels(canvas, len(seen), 2.2), seen, strict=True):
            draw_intervals(
                axes,
                list(TITLES.values()),
                {"": intervals[name]},
                scale=1,
                possible=ANY,
            )
            axes.set(title=seen[name])
            axes.margins(x=0.15)
            plain_axes(axes, ink)

    rows = [
        (title, seen[name], *intervals[name][i].shown(), len(walks[arm][name]))
        for name in seen
        for i, (arm, title) in enumerate(TITLES.items())
    ]
    figure = Figure(
        "network-walk",
        "The network's training, by method and settled step: length of the path over "
        "the distance between its ends, cosine of successive steps, and share of steps "
        "that raise the loss on the same training images; means and 95% intervals over "
        "seeds.",
        draw,
        Table(
            "Paths of the network",
            ("arm", "figure", "mean", "low", "high", "n"),
            rows,
            dict.fromkeys(("mean", "low", "high"), "{:.3f}"),
        ),
        (8.7, 2.6),
    )
    return figure, _losses(walks)


def _losses(walks: dict[str, Any]) -> Figure:
    losses = {arm: np.array(walks[arm]["losses"], float) for arm in TITLES}

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        for (arm, title), stroke in zip(TITLES.items(), STROKES, strict=False):
            axes.plot(
                np.arange(1, 1 + len(losses[arm])),
                losses[arm],
                color=stroke.color,
                linestyle=stroke.dash,
                linewidth=1.2,
                label=title,
            )
        axes.set(xlabel="Step", ylabel="Training loss")
        plain_axes(axes, ink)
        legend(canvas, axes)

    rows = [
        (step, *row)
        for step, row in enumerate(zip(*losses.values(), strict=True), start=1)
    ]
    return Figure(
        "network-losses",
        "The loss on the same training images after every step of the first seed, by "
        "method and settled step.",
        draw,
        Table(
            "Training losses",
            ("step", *TITLES.values()),
            rows,
            dict.fromkeys(TITLES.values(), "{:.4f}"),
        ),
        (6.4, 3.6),
    )
