"""Which beta the folds choose, and how good that choice is on examples it never saw."""

from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import NamedTuple

from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, mean_and_interval
from experiments.studies.settings import Setting, Trials
from experiments.studies.validation import (
    Measure,
    best,
    mean_score,
    score,
    validated,
)


class FoldEstimate(NamedTuple):
    """The metric, on one outer fold, of the setting that its inner folds chose."""

    fold: str
    chosen: Setting
    value: float


class CrossvalResults(NamedTuple):
    """All results of a cross-validation; the keys are "sgd" and "momentum"."""

    trials: Mapping[str, Trials]  # the runs of each setting, one a fold
    chosen: Mapping[str, Setting]
    estimates: Mapping[str, Sequence[FoldEstimate]]  # empty without inner folds
    tests: Mapping[str, Sequence[Run]]  # of the chosen settings, one run a seed
    measure: Measure
    smoke: bool = False  # whether it trained too little for any conclusion

    @property
    def all_trials(self) -> Trials:
        """The runs of every setting, SGD's first."""
        return {**self.trials["sgd"], **self.trials["momentum"]}

    def value(self, setting: Setting) -> Interval:
        """The metric on the validation splits: its mean over the folds."""
        runs = self.all_trials[setting]
        return mean_and_interval([validated(run, self.measure) for run in runs])


def best_of_betas(trials: Trials, measure: Measure) -> list[Setting]:
    """The best setting of each beta, the smallest beta first."""
    betas = sorted({setting.beta for setting in trials})
    by_beta = ({s: trials[s] for s in trials if s.beta == beta} for beta in betas)
    return [best(of_beta, measure) for of_beta in by_beta]


def least_within_one_error(trials: Trials, measure: Measure) -> Setting:
    """The smallest beta whose mean metric is within a standard error of the best.

    The error is s/√k, from the metrics of the best setting on its k folds. Each beta
    is represented by its best setting.

    References:
      Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, 7.10.
    """
    values = [score(run, measure).goodness for run in trials[best(trials, measure)]]
    error = stdev(values) / len(values) ** 0.5
    candidates = best_of_betas(trials, measure)
    means = [mean_score(trials[setting], measure).goodness for setting in candidates]
    return candidates[[mean >= max(means) - error for mean in means].index(True)]


def estimate(
    outer: Trials, inner: Mapping[str, Trials], measure: Measure
) -> list[FoldEstimate]:
    """Scores, on each outer fold, the setting that its inner folds chose.

    The runs of every setting are one for each outer fold, and one for each inner fold.
    """
    estimates = []
    for fold, trials in inner.items():
        chosen = best(trials, measure)
        (run,) = [run for run in outer[chosen] if run.config.fold == fold]
        estimates.append(FoldEstimate(fold, chosen, validated(run, measure)))
    return estimates
