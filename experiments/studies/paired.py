"""Momentum against SGD on the test images, seed by seed, in numbers and in words."""

from collections.abc import Sequence

from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, mean_and_interval
from experiments.studies.intervals import sign
from experiments.studies.validation import diverged


def accuracies(runs: Sequence[Run], classes: int) -> list[float]:
    """Of the test images; 0, the worst, for a run that diverged."""
    return [0.0 if diverged(run, classes) else run.test_accuracy for run in runs]


def difference(first: Sequence[Run], second: Sequence[Run], classes: int) -> Interval:
    """What the first runs gain over the second in accuracy, of equal seeds each.

    Raises:
      ValueError: their seeds are not the same, in one order.
    """
    if [run.config.seed for run in first] != [run.config.seed for run in second]:
        raise ValueError("difference: the runs are not paired by seed.")
    ours, theirs = accuracies(first, classes), accuracies(second, classes)
    return mean_and_interval([a - b for a, b in zip(ours, theirs, strict=True)])


def verdict(gain: Interval) -> str:
    """What an interval of momentum's gain over SGD says, and no more."""
    if gain.low is None:
        return "one seed shows no difference: it has no interval"
    if sign(gain) > 0:
        return "momentum is better"
    if sign(gain) < 0:
        return (
            "momentum is worse, though it contains SGD as beta 0: it is under-tuned, "
            "and this is no evidence for SGD"
        )
    return "no difference is shown, as the interval contains 0"


def percent(interval: Interval) -> str:
    """An accuracy with its interval.

    >>> percent(Interval(0.9125, 0.9, 0.925))
    '91.25% (95% interval 90.00 to 92.50)'
    """
    mean = f"{interval.mean:.2%}"
    if interval.low is None or interval.high is None:
        return f"{mean} (no interval)"
    return (
        f"{mean} (95% interval {100 * interval.low:.2f} to {100 * interval.high:.2f})"
    )


def wall_time(runs: Sequence[Run]) -> str:
    """How long the runs took together, as it is told."""
    seconds = sum(run.seconds for run in runs)
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    minutes = seconds / 60
    return f"{minutes:.1f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
