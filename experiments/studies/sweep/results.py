"""The results of a sweep: the score of each trial, the best, and the best so far."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.records.config import UsageError
from experiments.records.metric import Metric
from experiments.records.runs import Run
from experiments.studies.sweep.plan import Round, SweepBudget
from experiments.studies.sweep.space import Trial
from experiments.studies.validation import (
    Measure,
    Score,
    count_diverged,
    mean_score,
)


class TrialResult(NamedTuple):
    """A trial and the mean score of its runs."""

    trial: Trial
    score: Score  # the worst score if a run diverged
    diverged: int  # how many of its runs did
    runs: Sequence[Run]

    @property
    def value(self) -> float:
        """The metric on the validation split; NaN if a run diverged."""
        values = [run.epochs[-1].validation_metric for run in self.runs]
        return math.nan if self.diverged else fmean(values)


class SweepResults(NamedTuple):
    """Everything that the page of a sweep is written from."""

    budget: SweepBudget
    rounds: Sequence[Round]
    results: Sequence[TrialResult]  # of all trials, in the order of the plan
    final: Mapping[str, Sequence[Run]]  # by method: its best trial's, in order of seed
    measure: Measure
    smoke: bool = False  # whether it trained too little for any conclusion

    def trials_of(self, method: str) -> list[TrialResult]:
        """The results of a method's trials."""
        return [result for result in self.results if result.trial.method == method]

    @property
    def resolved(self) -> tuple[float, float]:
        """The range of values that figures resolve, from low to high.

        It reaches from the best one to the first quartile.
        """
        known = [result.value for result in self.results if not result.diverged]
        higher = self.measure.metric.higher_is_better
        quartile = float(np.quantile(known, 0.25 if higher else 0.75))
        return (quartile, max(known)) if higher else (min(known), quartile)

    @property
    def runs(self) -> list[Run]:
        """All runs, first those of the tuning."""
        tuning = [run for result in self.results for run in result.runs]
        return tuning + [run for runs in self.final.values() for run in runs]


def result(trial: Trial, runs: Sequence[Run], measure: Measure) -> TrialResult:
    """The result of a trial over its tuning seeds."""
    lost = count_diverged(runs, measure)
    return TrialResult(trial, mean_score(runs, measure), lost, runs)


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
    value: float  # the best; NaN if all diverged


def slices(results: Sequence[TrialResult], values: Sequence[float]) -> list[Slice]:
    """The best trial of a method in each half decade of an axis, from its low end.

    Values are the positions of the trials on the axis.
    """
    bins: dict[int, list[TrialResult]] = {}
    for result, value in zip(results, values, strict=True):
        bins.setdefault(math.floor(2 * math.log10(value)), []).append(result)
    tops = {half: max(of, key=lambda result: result.score) for half, of in bins.items()}
    return [
        Slice(10 ** ((half + 0.5) / 2), len(bins[half]), tops[half].value)
        for half in sorted(bins)
    ]


def good_decades(results: Sequence[TrialResult], metric: Metric) -> float:
    """Decades of effective rate between a method's lowest and highest good trial.

    Good ones are at most 2 percentage points worse than the best, or 2% of the best
    value if the metric is no share.
    """
    top = max(result.score for result in results).goodness
    within = 0.02 if metric.is_share else 0.02 * abs(top)
    good = [
        math.log10(result.trial.effective_rate)
        for result in results
        if not result.diverged and result.score.goodness >= top - within
    ]
    return max(good) - min(good)
