"""What tuning selects by: how well a run does on examples that it didn't train on."""

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple, TypeVar

from experiments.records.metric import ACCURACY, Metric
from experiments.records.runs import Run

Key = TypeVar("Key", bound=Hashable)


class Measure(NamedTuple):
    """By what the runs of a problem are judged."""

    metric: Metric
    guess: float  # the loss of guessing: a run that is no better diverged
    worst: float  # as which value of the metric a run that diverged counts
    noun: str = "image"  # what one example is called
    guessing: str = "guessing"  # what has the loss `guess`


def of_classes(classes: int) -> Measure:
    """Accuracy; guessing one of the classes has the loss ln(classes)."""
    return Measure(ACCURACY, math.log(classes), 0.0)


class Score(NamedTuple):
    """Larger is better: compares the metrics, and if they are equal the losses."""

    goodness: float  # `Metric.goodness`
    negative_loss: float


def diverged(run: Run, measure: Measure) -> bool:
    """Whether the last epoch was no better than guessing, or not even finite.

    A run diverged only if both of its losses are at least that of guessing:
    overconfidence alone can raise the validation loss above it, and the training loss
    is a mean over the epoch, so in a short run it includes steps from before the
    network had learned anything.
    """
    last = run.epochs[-1]
    losses = last.train_loss, last.validation_loss
    return not (all(map(math.isfinite, losses)) and min(losses) < measure.guess)


def count_diverged(runs: Sequence[Run], measure: Measure) -> int:
    """How many of the runs diverged."""
    return sum(diverged(run, measure) for run in runs)


def score(run: Run, measure: Measure) -> Score:
    """The validation score after the last epoch; the worst score if it diverged."""
    goodness = measure.metric.goodness(validated(run, measure))
    lost = diverged(run, measure)
    return Score(goodness, -math.inf if lost else -run.epochs[-1].validation_loss)


def validated(run: Run, measure: Measure) -> float:
    """The metric on the validation split; the worst value for a run that diverged."""
    lost = diverged(run, measure)
    return measure.worst if lost else run.epochs[-1].validation_metric


def mean_score(runs: Sequence[Run], measure: Measure) -> Score:
    """The mean metric and the mean loss of the runs' scores."""
    scores = [score(run, measure) for run in runs]
    return Score(*map(fmean, zip(*scores, strict=True)))


def best(trials: Mapping[Key, Sequence[Run]], measure: Measure) -> Key:
    """The key with the best mean score; the first of equals.

    All keys must have runs of the same folds or seeds.
    """
    return max(trials, key=lambda key: mean_score(trials[key], measure))
