"""The report of a comparison: `summary.json`, `curves.png` and `report.html`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from markupsafe import Markup

from experiments.compare import plots
from experiments.records.plan import digest, shared
from experiments.records.runs import Run, provenance, to_json, write_atomically
from experiments.reporting.cells import FILTERS
from experiments.reporting.page import Table
from experiments.reporting.rendering import render, script
from experiments.reporting.statistics import (
    PAIRS,
    Comparison,
    against_first,
    comparisons,
)

METRICS = (
    "test_accuracy",
    "test_loss",
    "validation_accuracy",
    "validation_loss",
    "seconds",
    "seconds_with_compilation",
    "images_per_second",
)


class Setting(NamedTuple):
    """What the report tells besides the runs; the order of the arms is `titles`'s."""

    titles: Mapping[str, str]  # by arm
    equations: Mapping[str, str]  # by arm
    train_images: int
    validation_images: int
    test_images: int
    command: str  # that repeats the comparison


def write(output: Path, runs: Sequence[Run], setting: Setting) -> Path:
    """Writes the three files, each atomically, and returns the path of the page.

    Args:
      output: an existing directory.
      runs: of one plan, at least one, in any order.
      setting: what the report tells besides them.

    Raises:
      UsageError: a file can't be written.
    """
    path = output / "report.html"
    summarized = to_json(summary(runs, setting.titles), indent=2)
    write_atomically(output / "summary.json", f"{summarized}\n".encode())
    write_atomically(output / "curves.png", plots.curves_png(runs, setting.titles))
    write_atomically(path, page(runs, setting).encode())
    return path


def summary(runs: Sequence[Run], titles: Mapping[str, str]) -> dict[str, Any]:
    """The figures of the report, for programs: all values by arm, and the comparisons.

    Every list of values is in the order of the arm's `seeds` and `config_hashes`.

    Args:
      runs: of one plan, at least one, in any order.
      titles: the title of each arm, by key.
    """
    arms = {}
    for arm, own in _by_arm(runs, titles).items():
        arms[arm] = {
            "title": titles[arm],
            "seeds": [run.config.seed for run in own],
            "config_hashes": [run.config_hash for run in own],
        }
        for metric in METRICS:
            values = [_metric(run, metric) for run in own]
            arms[arm][metric] = {"mean": fmean(values), "values": values}
    plan = shared(runs[0].config)
    return {
        "dataset": plan["dataset"],
        "plan": {"hash": digest(plan), **plan},
        "arms": arms,
        "comparisons": [each._asdict() for each in compared(runs, titles)],
    }


def page(runs: Sequence[Run], setting: Setting) -> str:
    """The report as one HTML page that needs nothing else; arguments as for `write`."""
    arms = _by_arm(runs, setting.titles)
    pairs = compared(runs, setting.titles)
    values = {
        "setting": setting,
        "plan": shared(runs[0].config),
        "plan_hash": digest(shared(runs[0].config)),
        "factor": 1 / (1 - runs[0].config.beta),
        "arms": arms,
        "seeds": sorted({run.config.seed for run in runs}),
        "strokes": plots.strokes(setting.titles),
        # Our own drawing, with every name in it escaped: the only text let through.
        "curves": [Markup(svg) for svg in plots.curves_svg(runs, setting.titles)],
        "comparisons": pairs,
        "accuracy_axis": _axis(run.test_accuracy for run in runs),
        "difference_axis": _difference_axis(pairs),
        "every_run": _every_run(arms),
        "provenance": provenance(runs),
        "mean": fmean,
        "deviation": stdev,
        **script(),
    }
    return render(
        "report.html.jinja",
        values,
        percent="{:.2%}".format,
        points=points,
        value=value,
        verdict=verdict,
        **FILTERS,
    )


def _by_arm(runs: Sequence[Run], titles: Mapping[str, str]) -> dict[str, list[Run]]:
    """The runs of each arm that has any, in the order of their seeds."""
    ordered = sorted(runs, key=lambda run: run.config.seed)
    arms = {arm: [run for run in ordered if run.config.arm == arm] for arm in titles}
    return {arm: own for arm, own in arms.items() if own}


def _every_run(arms: Mapping[str, Sequence[Run]]) -> Table:
    return Table(
        "Every run, as recorded under its config hash in runs.jsonl. Seconds are of "
        "training, validation and test, without and with compilation.",
        (
            *("Arm", "Seed", "Test accuracy", "Test loss"),
            *("Seconds", "Compiling too", "Config hash"),
        ),
        [
            (
                arm,
                run.config.seed,
                run.test_accuracy,
                run.test_loss,
                run.seconds,
                run.seconds_with_compilation,
                run.config_hash,
            )
            for arm, own in arms.items()
            for run in own
        ],
        {
            "Test accuracy": "{:.2%}",
            "Test loss": "{:.3f}",
            "Seconds": "{:.1f}",
            "Compiling too": "{:.1f}",
        },
    )


def compared(runs: Sequence[Run], titles: Mapping[str, str]) -> tuple[Comparison, ...]:
    """The comparisons of the arms' test accuracies, seed by seed.

    Arms of a user's own are compared with the first, even where they have the names
    of others; the order is that of `titles`.
    """
    accuracies: dict[str, dict[int, float]] = {}
    for run in runs:
        accuracies.setdefault(run.config.arm, {})[run.config.seed] = run.test_accuracy
    users_own = runs[0].config.code
    return comparisons(accuracies, against_first([*titles]) if users_own else PAIRS)


def _metric(run: Run, metric: str) -> float:
    if metric.startswith("validation"):
        return getattr(run.epochs[-1], metric)
    return getattr(run, metric)


class _Axis(NamedTuple):
    """A horizontal axis of a drawing: `low` is at 3% of its width, `high` at 97%."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Where the value lies, as SVG writes it; what lies beyond is at the edge."""
        span = self.high - self.low or 1.0
        return f"{min(max(3 + 94 * (value - self.low) / span, 0), 100):.2f}%"


def _axis(values: Iterable[float]) -> _Axis:
    known = [value for value in values if math.isfinite(value)] or [0.0]
    return _Axis(min(known), max(known))


def _difference_axis(compared: Sequence[Comparison]) -> _Axis:
    """Holds 0, all differences, and as much of the intervals as leaves those apart."""
    low, high = _axis([0.0, *(d for each in compared for d in each.differences)])
    span = high - low
    bounds = (x for each in compared for x in (each.low, each.high) if x is not None)
    lowest, highest = _axis([low, high, *bounds])
    return _Axis(max(lowest, low - span), min(highest, high + span))


def points(difference: float) -> str:
    """A difference of accuracies in percentage points, always with its sign."""
    return f"{100 * difference:+.2f}".replace("-", "−")


def value(values: Sequence[float]) -> str:
    """The mean in words for a table: how many runs diverged, if any did."""
    diverged = sum(math.isnan(value) for value in values)
    if diverged:
        return f"diverged in {diverged} of {len(values)}"
    return f"{fmean(values):.3f}"


def verdict(comparison: Comparison, titles: Mapping[str, str]) -> str:
    """Who won, or why nobody did."""
    if comparison.low is None:
        return "one seed: no interval, no winner"
    if math.isnan(comparison.mean):
        return "no winner: a run has no result"
    if comparison.winner is None:
        return "no winner: the interval contains 0"
    return f"winner: {titles[comparison.winner]}"
