"""Measures of problems, and runs that are judged by an error."""

import math
from dataclasses import replace

from experiments.records.metric import Metric
from experiments.records.runs import Run
from experiments.studies.validation import Measure

RMSE = Metric("squared_error", "RMSE", False, math.sqrt)
# A table of rows, of which predicting the mean has the loss 9 and the RMSE 3.
ROWS = Measure(RMSE, 9.0, 3.0, "row", "predicting the mean")


def by_error(run: Run, factor: float = 10.0) -> Run:
    """The run with its accuracies as errors, `factor` times what they lack to 100%."""
    epochs = [
        epoch._replace(
            train_metric=factor * (1 - epoch.train_metric),
            validation_metric=factor * (1 - epoch.validation_metric),
        )
        for epoch in run.epochs
    ]
    test = factor * (1 - run.test_metric)
    return replace(run, epochs=tuple(epochs), test_metric=test, metric="rmse")
