"""Which beta the folds choose, and how good that choice is on images it never saw."""

from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import NamedTuple

from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, mean_and_interval
from experiments.studies.settings import Setting, Trials
from experiments.studies.validation import best, mean_score, score


class FoldEstimate(NamedTuple):
    """The accuracy, on one outer fold, of the setting that its inner folds chose."""

    fold: str
    chosen: Setting
    accuracy: float


class CrossvalResults(NamedTuple):
    """All results of a cross-validation; the keys are "sgd" and "momentum"."""

    trials: Mapping[str, Trials]  # the runs of each setting, one a fold
    chosen: Mapping[str, Setting]
    estimates: Mapping[str, Sequence[FoldEstimate]]  # empty without inner folds
    tests: Mapping[str, Sequence[Run]]  # of the chosen settings, one run a seed
    classes: int
    smoke: bool = False  # whether it trained too little for any conclusion

    @property
    def all_trials(self) -> Trials:
        """The runs of every setting, SGD's first."""
        return {**self.trials["sgd"], **self.trials["momentum"]}

    def accuracy(self, setting: Setting) -> Interval:
        """The validation accuracy of a setting: its mean over the folds."""
        runs = self.all_trials[setting]
        return mean_and_interval([score(run, self.classes).accuracy for run in runs])


def best_of_betas(trials: Trials, classes: int) -> list[Setting]:
    """The best setting of each beta, the smallest beta first."""
    betas = sorted({setting.beta for setting in trials})
    by_beta = ({s: trials[s] for s in trials if s.beta == beta} for beta in betas)
    return [best(of_beta, classes) for of_beta in by_beta]


def least_within_one_error(trials: Trials, classes: int) -> Setting:
    """The smallest beta whose mean accuracy is within a standard error of the best.

    The error is s/√k, from the accuracies of the best setting on its k folds. Each beta
    is represented by its best setting.

    References:
      Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, 7.10.
    """
    accuracies = [score(run, classes).accuracy for run in trials[best(trials, classes)]]
    error = stdev(accuracies) / len(accuracies) ** 0.5
    candidates = best_of_betas(trials, classes)
    means = [mean_score(trials[setting], classes).accuracy for setting in candidates]
    return candidates[[mean >= max(means) - error for mean in means].index(True)]


def estimate(
    outer: Trials, inner: Mapping[str, Trials], classes: int
) -> list[FoldEstimate]:
    """Scores, on each outer fold, the setting that its inner folds chose.

    The runs of every setting are one for each outer fold, and one for each inner fold.
    """
    estimates = []
    for fold, trials in inner.items():
        chosen = best(trials, classes)
        (run,) = [run for run in outer[chosen] if run.config.fold == fold]
        estimates.append(FoldEstimate(fold, chosen, score(run, classes).accuracy))
    return estimates
