"""What a sweep found: the score of each trial, the best ones, and how it got there."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.records.config import UsageError
from experiments.records.runs import Run
from experiments.studies.sweep.plan import Budget, Round
from experiments.studies.sweep.space import Trial
from experiments.studies.validation import Score, diverged, mean_score


class Result(NamedTuple):
    """A trial and what came out, as the mean of its runs."""

    trial: Trial
    score: Score  # the worst where a run diverged
    diverged: int  # of its runs
    runs: Sequence[Run]

    @property
    def accuracy(self) -> float:
        """On the validation images; NaN where a run diverged."""
        return math.nan if self.diverged else self.score.accuracy


class Found(NamedTuple):
    """All that a sweep's page is written from."""

    budget: Budget
    rounds: Sequence[Round]
    results: Sequence[Result]  # of all trials, in their order
    final: Mapping[str, Sequence[Run]]  # by method: of its best trial, by seed
    classes: int

    def of(self, method: str) -> list[Result]:
        """The trials of a method."""
        return [each for each in self.results if each.trial.method == method]

    @property
    def resolved(self) -> tuple[float, float]:
        """The accuracies that figures tell apart: the first quartile, and the best."""
        known = [each.accuracy for each in self.results if not each.diverged]
        return float(np.quantile(known, 0.25)), max(known)

    @property
    def runs(self) -> list[Run]:
        """All of them, of tuning and final."""
        tuning = [run for each in self.results for run in each.runs]
        return tuning + [run for own in self.final.values() for run in own]


def result(trial: Trial, runs: Sequence[Run], classes: int) -> Result:
    """What came out of a trial, over its tuning seeds."""
    lost = sum(diverged(run, classes) for run in runs)
    return Result(trial, mean_score(runs, classes), lost, runs)


def best(results: Sequence[Result]) -> dict[str, Result]:
    """The best trial of each method: of equals, the one that was tried first.

    Raises:
      UsageError: no trial of a method has trained.
    """
    found: dict[str, Result] = {}
    for each in results:
        method = each.trial.method
        if method not in found or each.score > found[method].score:
            found[method] = each
    for method, own in found.items():
        if own.diverged:
            raise UsageError(
                f"every trial of {method} has a run no better than guessing: "
                "change --effective-rate, or take more --epochs."
            )
    return found


def best_so_far(values: Sequence[float], shares: Sequence[float]) -> np.ndarray:
    """Quantiles of the best of the first k trials, had they come in a random order.

    Exact, over all orders: P(best of k ≤ i-th smallest of n) = C(i, k) / C(n, k).

    Args:
      values: of the trials, larger is better; −inf is the worst.
      shares: of the orders, each in (0, 1].

    Returns:
      The smallest best that so many orders don't exceed; shape [shares, k = 1 … n].
    """
    ordered, n = sorted(values), len(values)
    rows = []
    for share in shares:
        row = []
        for k in range(1, n + 1):
            reached = (
                value
                for i, value in enumerate(ordered, start=1)
                if math.comb(i, k) / math.comb(n, k) >= share
            )
            row.append(next(reached))
        rows.append(row)
    return np.array(rows)


class Slice(NamedTuple):
    """The trials of a method in half a decade of an axis."""

    middle: float
    trials: int
    accuracy: float  # the best; NaN where all diverged


def slices(results: Sequence[Result], values: Sequence[float]) -> list[Slice]:
    """The best trial in each half decade of any axis, from its low end.

    Args:
      results: of one method.
      values: where each trial lies on the axis.
    """
    bins: dict[int, list[Result]] = {}
    for each, value in zip(results, values, strict=True):
        bins.setdefault(math.floor(2 * math.log10(value)), []).append(each)
    return [
        Slice(
            10 ** ((half + 0.5) / 2),
            len(own),
            max(own, key=lambda each: each.score).accuracy,
        )
        for half, own in sorted(bins.items())
    ]


def good_decades(results: Sequence[Result], within: float = 0.02) -> float:
    """Decades of effective rate from the lowest to the highest of the good trials.

    Args:
      results: of one method.
      within: how far below the best accuracy a trial is good.
    """
    top = max(each.score for each in results).accuracy
    good = [
        math.log10(each.trial.effective_rate)
        for each in results
        if each.accuracy >= top - within
    ]
    return max(good) - min(good)
