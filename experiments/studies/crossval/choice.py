"""Which beta the folds choose, and what that choice is worth where it didn't look."""

from collections.abc import Mapping
from statistics import stdev
from typing import NamedTuple

from experiments.studies.settings import Setting, Trials
from experiments.studies.validation import best, mean_score, score


class Estimate(NamedTuple):
    """What one outer fold says of the whole procedure."""

    fold: str
    chosen: Setting  # by the inner folds
    accuracy: float  # of the chosen setting on the outer fold's own images


def best_of_betas(trials: Trials, classes: int) -> list[Setting]:
    """Each beta at the best of its own rates, the smallest beta first."""
    betas = sorted({setting.beta for setting in trials})
    own = ({s: trials[s] for s in trials if s.beta == beta} for beta in betas)
    return [best(of_beta, classes) for of_beta in own]


def least_within_one_error(trials: Trials, classes: int) -> Setting:
    """The smallest beta whose mean accuracy is the best's to within a standard error.

    The error is s/√k, of the best setting's accuracies on its k folds. Each beta is
    judged at the best of its own rates.

    References:
      Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, 7.10.
    """
    accuracies = [score(run, classes).accuracy for run in trials[best(trials, classes)]]
    error = stdev(accuracies) / len(accuracies) ** 0.5
    bests = best_of_betas(trials, classes)
    means = [mean_score(trials[setting], classes).accuracy for setting in bests]
    return bests[[mean >= max(means) - error for mean in means].index(True)]


def estimates(
    outer: Trials, inner: Mapping[str, Trials], classes: int
) -> list[Estimate]:
    """The accuracy, on each outer fold, of the setting that its inner folds chose.

    Args:
      outer: the runs of every setting, one an outer fold.
      inner: by outer fold, the runs of every setting, one an inner fold.
      classes: of the data set.
    """
    found = []
    for fold, trials in inner.items():
        choice = best(trials, classes)
        (run,) = [each for each in outer[choice] if each.config.fold == fold]
        found.append(Estimate(fold, choice, score(run, classes).accuracy))
    return found
