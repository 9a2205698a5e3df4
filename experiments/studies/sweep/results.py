"""The results of a sweep: the score of each trial, the best, and the best so far."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.records.config import UsageError
from experiments.records.runs import Run
from experiments.studies.sweep.plan import Round, SweepBudget
from experiments.studies.sweep.space import Trial
from experiments.studies.validation import Score, count_diverged, mean_score


class TrialResult(NamedTuple):
    """A trial and the mean score of its runs."""

    trial: Trial
    score: Score  # the worst score if a run diverged
    diverged: int  # how many of its runs did
    runs: Sequence[Run]

    @property
    def accuracy(self) -> float:
        """The validation accuracy; NaN if a run diverged."""
        return math.nan if self.diverged else self.score.accuracy


class SweepResults(NamedTuple):
    """Everything that the page of a sweep is written from."""

    budget: SweepBudget
    rounds: Sequence[Round]
    results: Sequence[TrialResult]  # of all trials, in the order of the plan
    final: Mapping[str, Sequence[Run]]  # by method: its best trial's, in order of seed
    classes: int
    smoke: bool = False  # whether it trained too little for any conclusion

    def trials_of(self, method: str) -> list[TrialResult]:
        """The results of a method's trials."""
        return [result for result in self.results if result.trial.method == method]

    @property
    def resolved(self) -> tuple[float, float]:
        """The range of accuracies that figures resolve: first quartile to best."""
        known = [result.accuracy for result in self.results if not result.diverged]
        return float(np.quantile(known, 0.25)), max(known)

    @property
    def runs(self) -> list[Run]:
        """All runs, first those of the tuning."""
        tuning = [run for result in self.results for run in result.runs]
        return tuning + [run for runs in self.final.values() for run in runs]


def result(trial: Trial, runs: Sequence[Run], classes: int) -> TrialResult:
    """The result of a trial over its tuning seeds."""
    lost = count_diverged(runs, classes)
    return TrialResult(trial, mean_score(runs, classes), lost, runs)


def best(results: Sequence[TrialResult]) -> dict[str, TrialResult]:
    """The best result of each method; the first of equals.

    Raises:
      UsageError: no trial of a method has trained.
    """
    tops: dict[str, TrialResult] = {}
    for result in results:
        method = result.trial.method
        if method not in tops or result.score > tops[method].score:
            tops[method] = result
    for method, top in tops.items():
        if top.diverged:
            raise UsageError(
                f"every trial of {method} has a run that is no better than guessing: "
                "change --effective-rate, or give more --epochs."
            )
    return tops


def best_so_far(
    values: Sequence[float], shares: Sequence[float]
) -> Float[np.ndarray, "shares trials"]:
    """Quantiles of the best of the first k trials over all orders of the trials.

    Exact: P(best of k ≤ i-th smallest of n) = C(i, k) / C(n, k), for k = 1 … n. Shares
    lie in (0, 1]. Larger values are better, and −inf is the worst.
    """
    ordered, n = sorted(values), len(values)

    def best_of(k: int, share: float) -> float:
        """The least value that the best of k reaches in this share of the orders."""
        reached = (math.comb(i, k) / math.comb(n, k) for i in range(1, n + 1))
        return next(v for v, s in zip(ordered, reached, strict=True) if s >= share)

    return np.array([[best_of(k, s) for k in range(1, n + 1)] for s in shares])


class Slice(NamedTuple):
    """The trials of a method in half a decade of an axis."""

    middle: float
    trials: int
    accuracy: float  # the best; NaN if all diverged


def slices(results: Sequence[TrialResult], values: Sequence[float]) -> list[Slice]:
    """The best trial of a method in each half decade of an axis, from its low end.

    Values are the positions of the trials on the axis.
    """
    bins: dict[int, list[TrialResult]] = {}
    for result, value in zip(results, values, strict=True):
        bins.setdefault(math.floor(2 * math.log10(value)), []).append(result)
    tops = {half: max(of, key=lambda result: result.score) for half, of in bins.items()}
    return [
        Slice(10 ** ((half + 0.5) / 2), len(bins[half]), tops[half].accuracy)
        for half in sorted(bins)
    ]


def good_decades(results: Sequence[TrialResult], within: float = 0.02) -> float:
    """Decades of effective rate between a method's lowest and highest good trial.

    Good ones have an accuracy at most `within` below the best.
    """
    top = max(result.score for result in results).accuracy
    good = [
        math.log10(result.trial.effective_rate)
        for result in results
        if result.accuracy >= top - within
    ]
    return max(good) - min(good)
