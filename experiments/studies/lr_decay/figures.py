"""The drawings of `lr-decay`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import (
    STROKES,
    draw_intervals,
    legend,
    panels,
    plain_axes,
    strokes,
)
from experiments.reporting.page import Figure, Table
from experiments.reporting.statistics import ACCURACIES, DIFFERENCES
from experiments.studies.lr_decay.cells import ARMS, TUNED, Results
from experiments.studies.lr_decay.found import (
    CORRECTED,
    SAME_RATE,
    TUNED_APART,
    Found,
    accuracy,
    chosen,
)
from experiments.studies.lr_decay.rate_drop import Drop, by_equation, measured
from experiments.studies.validation import mean_score


def schedules(found: Found, table: Table) -> Figure:
    """Test accuracies by schedule and method."""
    tuned = chosen(found)
    rows = list(dict.fromkeys(schedule for schedule, _ in tuned))
    series = {
        ARMS[arm].title: [accuracy(found, tuned[row, arm]) for row in rows]
        for arm in TUNED
    }
    return _intervals(
        "schedules",
        "Test accuracy by schedule and method, each at its own tuned rate: means and "
        "95% intervals over seeds.",
        rows,
        series,
        "Test accuracy, %",
        table,
    )


def differences(parts: Mapping[str, Sequence[Any]], table: Table) -> Figure:
    """Differences between the conventions, by schedule."""
    shown = (TUNED_APART, SAME_RATE, CORRECTED)
    return _intervals(
        "differences",
        "Paired differences of test accuracy by schedule: means and 95% intervals. "
        "Those that hold 0 can't be told from nothing.",
        [part.schedule for part in parts[TUNED_APART]],
        {question: [part.difference for part in parts[question]] for question in shown},
        "Difference, points",
        table,
        zero=True,
    )


def sensitivity(tuning: Results, classes: int, table: Table) -> Figure:
    """Validation accuracy over the rates, a panel a schedule."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for cell, runs in tuning.items():
        point = cell.rate, 100 * mean_score(runs, classes).accuracy
        curves.setdefault(cell.schedule, {}).setdefault(cell.arm, []).append(point)

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(curves), 2.4)
        for axes, (schedule, arms) in zip(places, curves.items(), strict=True):
            for arm, stroke in strokes(TUNED).items():
                rates, accuracies = zip(*sorted(arms[arm]), strict=True)
                axes.plot(
                    rates,
                    accuracies,
                    label=ARMS[arm].title,
                    color=stroke.color,
                    linestyle=stroke.dash,
                    marker="o",
                    markersize=3.5,
                )
            axes.set(title=schedule, xscale="log", ylim=(0, 102))
            axes.set(xlabel="Effective learning rate", ylabel="Validation, %")
            plain_axes(axes, ink)
        legend(canvas, places[0])

    caption = "Validation accuracy of the trials over the effective learning rate."
    return Figure("tuning", caption, draw, table, (8.7, 5.0))


def reaction() -> Figure:
    """A drop of the rate on a quadratic, without noise."""
    drop = Drop()
    equations = {inside: by_equation(drop, inside) for inside in (True, False)}
    courses = {inside: measured(drop, inside) for inside in (True, False)}
    error = max(abs(equations[i] - courses[i]).max() for i in (True, False))
    header = ("Step", "Inside", "Outside", "Inside, measured", "Outside, measured")
    columns = np.stack([*equations.values(), *courses.values()], axis=1)
    rows = [(step, *row) for step, row in enumerate(columns.tolist())]
    table = Table(
        f"θ by its equation and as the library computes it, in float32: they differ by "
        f"at most {error:.1e}.",
        header,
        rows,
        dict.fromkeys(header[1:], "{:.6f}"),
    )
    caption = (
        f"The rate falls from {drop.learning_rate:g} to "
        f"{drop.factor * drop.learning_rate:g} at step {drop.at}, on ½θ² without "
        f"noise, β = {drop.beta:g}: lines by equation, marks as measured. Inside goes "
        "on at its old speed and overshoots; outside slows down at once."
    )

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, 2)
        for inside, stroke in zip((True, False), STROKES, strict=False):
            label = ARMS["inside" if inside else "outside"].title
            style: dict[str, Any] = {"color": stroke.color, "linestyle": stroke.dash}
            marks: dict[str, Any] = {"color": stroke.color, "linestyle": "none"}
            for axes, of in zip(places, (np.diff, np.asarray), strict=True):
                axes.plot(of(equations[inside]), label=label, **style)
                axes.plot(of(courses[inside]), marker=".", markevery=3, **marks)
        for axes, ylabel in zip(places, ("Step θₜ₊₁ − θₜ", "Parameter θ"), strict=True):
            axes.axvline(drop.at, color=ink, linewidth=0.8, linestyle="dotted")
            axes.set(xlabel="Step", ylabel=ylabel)
            plain_axes(axes, ink)
        legend(canvas, places[0])

    return Figure("reaction", caption, draw, table, (8.0, 3.2))


def _intervals(
    name: str,
    caption: str,
    rows: Sequence[str],
    series: Mapping[str, Sequence[Any]],
    xlabel: str,
    table: Table,
    zero: bool = False,
) -> Figure:
    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        possible = DIFFERENCES if zero else ACCURACIES
        draw_intervals(axes, rows, series, possible=possible)
        if zero:
            axes.axvline(0, color=ink, linewidth=0.8)
        axes.set(xlabel=xlabel)
        plain_axes(axes, ink)
        legend(canvas, axes)

    height = 1.0 + 0.55 * len(rows)
    return Figure(name, caption, draw, table, (6.4, height))
