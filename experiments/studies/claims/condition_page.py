"""Claim 2 as it is told: steps against the condition number, beside theory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import STROKES, legend, plain_axes
from experiments.reporting.page import Figure, Section, Table
from experiments.studies.claims import verdict
from experiments.studies.claims.condition import DIMENSIONS, tunings
from experiments.studies.claims.verdict import Answer, Measured

_TITLES = {key: tuning.title for key, tuning in tunings(np.ones(1)).items()}


def section(measured: dict[str, Any], answers: Sequence[Answer]) -> Section:
    """The claim's part of the page."""
    slopes = {key: Measured(*each) for key, each in measured["slopes"].items()}
    told = "; ".join(
        f"{_TITLES[key]}: {each.mean:.3f} ({each.low:.3f} to {each.high:.3f})"
        for key, each in slopes.items()
    )
    return Section(
        "Claim 2: momentum converges faster",
        (
            f"Quadratics with {DIMENSIONS} curvatures from 1/κ to 1, evenly on a log "
            "axis. A path ends where its distance to the minimum is 1/1,000 of the "
            f"first; {slopes['sgd'].n} random starts, shared by all methods, float64.",
            f"Slopes of log steps in log κ, mean and 95% interval over starts: {told}. "
            "SGD is held back by the steepest direction, which bounds its learning "
            "rate; momentum bears a larger settled step. Where both take SGD's settled "
            "step, that advantage is gone, and so is the gain.",
        ),
        (_figure(measured),),
        (verdict.table(answers),),
    )


def _figure(measured: dict[str, Any]) -> Figure:
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
        "Steps to the target against the condition number: points are means over "
        "starts, lines the rate of the long run in theory. Tuned momentum has half "
        "the slope of SGD; with SGD's settled step momentum lies on SGD's line.",
        draw,
        Table("Steps to the target", header, rows, formats),
        (6.4, 4.4),
    )
