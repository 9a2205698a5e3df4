"""The metric on the test split, of runs paired by seed."""

from collections.abc import Sequence

from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, mean_and_interval
from experiments.studies.validation import Measure, diverged


def tested(runs: Sequence[Run], measure: Measure) -> list[float]:
    """The metric on the test split; the worst value for a run that diverged."""
    return [
        measure.worst if diverged(run, measure) else run.test_metric for run in runs
    ]


def difference(
    first: Sequence[Run], second: Sequence[Run], measure: Measure
) -> Interval:
    """The first runs minus the second in the metric on the test split, seed by seed.

    Raises:
      ValueError: their seeds are not the same, in the same order.
    """
    if [run.config.seed for run in first] != [run.config.seed for run in second]:
        raise ValueError("difference: the runs are not paired by seed.")
    ours, theirs = tested(first, measure), tested(second, measure)
    return mean_and_interval([a - b for a, b in zip(ours, theirs, strict=True)])
