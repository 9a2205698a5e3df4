"""What tuning selects by: how well a run does on images that it didn't train on."""

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple, TypeVar

from experiments.records.runs import Run

Key = TypeVar("Key", bound=Hashable)


class Score(NamedTuple):
    """Larger is better: compares the accuracies, and if they are equal the losses."""

    accuracy: float
    negative_loss: float


def diverged(run: Run, classes: int) -> bool:
    """Whether the last epoch was no better than guessing, or not even finite.

    Guessing has the loss ln(classes). A run diverged only if both of its losses are at
    least that: overconfidence alone can raise the validation loss above it, and the
    training loss is a mean over the epoch, so in a short run it includes steps from
    before the network had learned anything.
    """
    last = run.epochs[-1]
    losses = last.train_loss, last.validation_loss
    return not (all(map(math.isfinite, losses)) and min(losses) < math.log(classes))


def count_diverged(runs: Sequence[Run], classes: int) -> int:
    """How many of the runs diverged."""
    return sum(diverged(run, classes) for run in runs)


def score(run: Run, classes: int) -> Score:
    """The validation score after the last epoch; the worst score if it diverged."""
    if diverged(run, classes):
        return Score(0.0, -math.inf)
    return Score(run.epochs[-1].validation_accuracy, -run.epochs[-1].validation_loss)


def mean_score(runs: Sequence[Run], classes: int) -> Score:
    """The mean accuracy and the mean loss of the runs' scores."""
    scores = [score(run, classes) for run in runs]
    return Score(*map(fmean, zip(*scores, strict=True)))


def best(trials: Mapping[Key, Sequence[Run]], classes: int) -> Key:
    """The key with the best mean score; the first of equals.

    All keys must have runs of the same folds or seeds.
    """
    return max(trials, key=lambda key: mean_score(trials[key], classes))
