"""The drawings of `tune`."""

import math

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import heat_map, legend, panels, plain_axes, strokes
from experiments.reporting.page import Figure, Table
from experiments.studies.methods import METHODS
from experiments.studies.paired import accuracies
from experiments.studies.tune.plan import Found
from experiments.studies.validation import mean_score


def seeds(found: Found) -> Figure:
    """Test accuracy of both methods, seed by seed."""
    values = {
        METHODS[method].arm.title: accuracies(own, found.classes)
        for method, own in found.reported.items()
    }
    first, second = values.values()
    gains = [b - a for a, b in zip(first, second, strict=True)]
    used = [run.config.seed for run in next(iter(found.reported.values()))]
    header = ("Seed", *values, "Difference")
    formats = {**dict.fromkeys(values, "{:.2%}"), "Difference": "{:+.2%}"}
    rows = list(zip(used, first, second, gains, strict=True))
    caption = "Test accuracy by seed: runs of one seed are paired."

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        pairs = np.array([first, second]) * 100
        axes.vlines(used, *pairs, color=ink, linewidth=0.8, alpha=0.5)
        drawn = strokes(values)
        for (label, stroke), mark, own in zip(drawn.items(), "os", pairs, strict=True):
            axes.plot(used, own, mark, color=stroke.color, label=label)
        axes.set(xlabel="Seed", ylabel="Test accuracy, %", xticks=used)
        plain_axes(axes, ink)
        legend(canvas, axes)

    return Figure("seeds", caption, draw, Table(caption, header, rows, formats))


def settings(found: Found, table: Table) -> Figure:
    """The best validation accuracy at each batch size and schedule, by method."""
    sizes = sorted(found.budget.batch_sizes)
    schedules = found.budget.schedules
    tiles = {}
    for method, results in found.settled.items():
        values = np.full((len(schedules), len(sizes)), math.nan)
        for candidate, runs in results.items():
            place = (
                schedules.index(candidate.schedule),
                sizes.index(candidate.trial.batch_size),
            )
            accuracy = mean_score(runs, found.classes).accuracy
            values[place] = np.fmax(values[place], accuracy or math.nan)
        tiles[METHODS[method].arm.title] = values
    known = np.concatenate([values.ravel() for values in tiles.values()])
    known = known[np.isfinite(known)]
    limits = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    caption = (
        "Validation accuracy at each batch size and schedule: the best of the rates "
        "and betas tried there; framed, the best of all, and a cross is where all runs "
        "diverged."
    )

    def draw(canvas: Canvas, ink: str) -> None:
        labels = [str(size) for size in sizes]
        for axes, (name, values) in zip(
            panels(canvas, len(tiles), 2.6), tiles.items(), strict=True
        ):
            heat_map(axes, values, labels, schedules, ink, "{:.2%}", limits=limits)
            axes.set(title=name, xlabel="Batch size")

    return Figure("settings", caption, draw, table, (8.0, 2.8))
