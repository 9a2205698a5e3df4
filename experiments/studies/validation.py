"""What tuning goes by: how well runs did on images that they didn't train on."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple, TypeVar

from experiments.records.runs import Run

Setting = TypeVar("Setting")


class Score(NamedTuple):
    """Larger is better: the accuracy, or where it is equal, the loss."""

    accuracy: float
    negative_loss: float


def diverged(run: Run, classes: int) -> bool:
    """Whether the last epoch was no better than guessing, or not even finite.

    Both losses tell. The one on the images that it didn't train on may exceed
    guessing's, ln(classes), by undue certainty alone; the one on the others is a mean
    over the epoch, at whose beginning a short run has not learnt anything.
    """
    last = run.epochs[-1]
    losses = last.train_loss, last.validation_loss
    return not (all(map(math.isfinite, losses)) and min(losses) < math.log(classes))


def score(run: Run, classes: int) -> Score:
    """On the validation images, after the last epoch; the worst, where it diverged."""
    if diverged(run, classes):
        return Score(0.0, -math.inf)
    return Score(run.epochs[-1].validation_accuracy, -run.epochs[-1].validation_loss)


def mean_score(runs: Sequence[Run], classes: int) -> Score:
    """The means of the scores."""
    scores = [score(run, classes) for run in runs]
    return Score(*map(fmean, zip(*scores, strict=True)))


def best(trials: Mapping[Setting, Sequence[Run]], classes: int) -> Setting:
    """The setting of the best mean score; of equals, the first.

    Args:
      trials: the runs of each setting: the same folds or seeds of all.
      classes: of the data set.
    """
    return max(trials, key=lambda setting: mean_score(trials[setting], classes))
