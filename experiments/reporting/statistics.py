"""Paired comparisons of arms: the mean difference over seeds and its 95% interval."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and the 95% interval around it, which needs at least two values."""

    mean: float
    low: float | None
    high: float | None


class Comparison(NamedTuple):
    """What the first arm gains over the second, seed by seed, in the values' unit."""

    first: str
    second: str
    isolates: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]  # first − second, one a seed
    mean: float
    low: float | None
    high: float | None
    winner: str | None  # None also where the interval contains 0


Pair = tuple[str, str, str]  # first arm, second arm, the one thing in which they differ

# Of the arms that are known; of others see `against_first`.
PAIRS: tuple[Pair, ...] = (
    ("ema", "sgd", "momentum, at the smaller settled step"),
    ("keras", "sgd_large_step", "momentum, at the larger settled step"),
    ("sgd_large_step", "sgd", "step size, without momentum"),
    ("keras", "ema", "step size, with momentum: the tutorial's code and its equation"),
    ("keras_bfloat16", "keras", "storage: bfloat16 instead of float32"),
    ("keras_int8", "keras", "storage: 8 bits instead of float32"),
)


def against_first(arms: Sequence[str]) -> tuple[Pair, ...]:
    """Each arm with the first: for optimizers of which no more is known."""
    baseline, *others = arms
    return tuple(
        (arm, baseline, f"optimizer: {arm} instead of {baseline}") for arm in others
    )


def mean_and_interval(values: Sequence[float]) -> Interval:
    """The mean and Student's 95% interval: mean ± t(0.975, n − 1)·s/√n.

    Equal values make the interval a point; a NaN among them makes all three NaN.

    Args:
      values: at least one, independent of each other.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    # Equal values have no spread, but the rounding of their mean can feign one.
    spread = 0.0 if len(set(values)) == 1 else float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * spread / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)


def compare(
    first: str,
    second: str,
    isolates: str,
    values: Mapping[str, Mapping[int, float]],
) -> Comparison:
    """Compares two arms over the seeds that both have run; larger values win.

    Args:
      first: the arm from whose values the other's are subtracted.
      second: the other arm.
      isolates: the one thing in which the arms differ.
      values: by arm, then by seed.

    Raises:
      ValueError: no seed has been run with both arms.
    """
    seeds = tuple(sorted(values[first].keys() & values[second].keys()))
    if not seeds:
        raise ValueError(f"compare: no seed was run with both {first} and {second}.")
    differences = tuple(values[first][seed] - values[second][seed] for seed in seeds)
    mean, low, high = mean_and_interval(differences)
    winner = None
    if low is not None and low > 0:
        winner = first
    if high is not None and high < 0:
        winner = second
    return Comparison(
        first, second, isolates, seeds, differences, mean, low, high, winner
    )


def comparisons(
    values: Mapping[str, Mapping[int, float]], pairs: Sequence[Pair] = PAIRS
) -> tuple[Comparison, ...]:
    """The comparisons of those pairs for which both arms have values of one seed.

    Args:
      values: test accuracies by arm, then by seed.
      pairs: which arms to compare.
    """
    return tuple(
        compare(first, second, isolates, values)
        for first, second, isolates in pairs
        if values.get(first, {}).keys() & values.get(second, {}).keys()
    )
