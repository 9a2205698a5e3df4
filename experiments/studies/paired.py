"""Test accuracies of runs, paired by seed."""

from collections.abc import Sequence

from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, mean_and_interval
from experiments.studies.validation import diverged


def accuracies(runs: Sequence[Run], classes: int) -> list[float]:
    """The test accuracies; 0, the worst, for a run that diverged."""
    return [0.0 if diverged(run, classes) else run.test_accuracy for run in runs]


def difference(first: Sequence[Run], second: Sequence[Run], classes: int) -> Interval:
    """What the first runs gain over the second in test accuracy, seed by seed.

    Raises:
      ValueError: their seeds are not the same, in the same order.
    """
    if [run.config.seed for run in first] != [run.config.seed for run in second]:
        raise ValueError("difference: the runs are not paired by seed.")
    ours, theirs = accuracies(first, classes), accuracies(second, classes)
    return mean_and_interval([a - b for a, b in zip(ours, theirs, strict=True)])
