"""Intervals in words, and drawn: one row a subject, one mark a series."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from experiments.compare.report import points
from experiments.reporting.drawing import STROKES
from experiments.reporting.statistics import Interval

_MARKS = "osD^"


def in_points(difference: Interval) -> str:
    """+0.31 points (95% interval −0.10 to +0.72); the mean alone where n is 1."""
    mean, low, high = difference
    if low is None or high is None:
        return f"{points(mean)} points (one seed: no interval)"
    return f"{points(mean)} points (95% interval {points(low)} to {points(high)})"


def sign(difference: Interval) -> int:
    """1 or −1 where the whole interval is above or below 0, else 0."""
    return int((difference.low or 0) > 0) - int((difference.high or 0) < 0)


def draw_intervals(
    axes: Axes,
    rows: Sequence[str],
    series: Mapping[str, Sequence[Interval | None]],
    *,
    scale: float = 100,
) -> None:
    """Marks the means, times `scale`, and draws a line from each low to each high.

    Args:
      axes: where to draw; the first row is the uppermost.
      rows: a name each.
      series: by label, an interval a row or None for no mark.
      scale: what the values are multiplied by: 100 makes percent of shares.
    """
    height = 0.7 / len(series)
    for place, (label, intervals) in enumerate(series.items()):
        offset = (place - (len(series) - 1) / 2) * height
        for row, interval in enumerate(intervals):
            if interval is None:
                continue
            mean, low, high = (np.nan if x is None else scale * x for x in interval)
            axes.errorbar(
                mean,
                row + offset,
                xerr=np.nan_to_num([[mean - low], [high - mean]]),
                fmt=_MARKS[place % len(_MARKS)],
                color=STROKES[place % len(STROKES)].colour,
                label=label,
                markersize=5,
                capsize=2.5,
            )
            label = "_"  # the legend names each series once
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
