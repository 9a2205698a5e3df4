"""Synthetic tuning runs with given validation accuracies."""

import math
from collections.abc import Sequence
from dataclasses import replace

from support.synthetic import synthetic_run

from experiments.records.runs import Epoch, Run


def validated(accuracy: float, loss: float = 0.5, train_loss: float = 0.4, **settings):
    """A run that ends with these figures; `settings` are passed to `synthetic_run`."""
    run = synthetic_run(**{"arm": "keras", "test": False, **settings})
    last = Epoch(train_loss, 0.9, loss, accuracy)
    return replace(run, epochs=(*run.epochs[:-1], last))


def on_folds(accuracies: Sequence[float]) -> list[Run]:
    """One run for each fold; an accuracy of NaN means that the run diverged."""
    return [
        validated(0.1, math.nan, math.nan, fold=f"fold {place}")
        if math.isnan(accuracy)
        else validated(accuracy, fold=f"fold {place}")
        for place, accuracy in enumerate(accuracies, start=1)
    ]
