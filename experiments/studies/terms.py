"""The terms of the studies, explained in the words that every page uses."""

from experiments.records.metric import Metric
from experiments.reporting.statistics import counted
from experiments.studies.validation import Measure

SMOKE = (
    "This is a smoke run: it shows that everything works and what the page looks like. "
    "It trains too little for any conclusion, so it draws none."
)
EFFECTIVE_RATE = (
    "The effective learning rate is α/(1 − β) for momentum, and α for SGD. Under a "
    "constant gradient g, the steps of every method settle at the effective learning "
    "rate times g, the settled step. At equal effective rates, methods therefore "
    "differ by what momentum does, and not by the length of their settled steps."
)


def paired_seeds(count: int, noun: str = "image") -> str:
    """The number of seeds with the meaning of their pairing, for examples of this name.

    >>> paired_seeds(3)[:19], paired_seeds(1)[:18]
    ('n = 3 paired seeds ', 'n = 1 paired seed ')
    """
    return (
        f"n = {counted(count, 'paired seed')} (runs of one seed start from the same "
        f"parameters and see the {noun}s in the same order)"
    )


def heading(metric: Metric) -> str:
    """The metric as the heading of a column: "Accuracy", "RMSE"."""
    return metric.title[:1].upper() + metric.title[1:]


def values_of(metric: Metric) -> str:
    """The metric in the plural: "accuracies", "RMSE values (lower is better)"."""
    plural = "accuracies" if metric.words == "accuracy" else f"{metric.words} values"
    return plural + _direction(metric)


def axis_label(split: str, metric: Metric) -> str:
    """The metric on a split, in the unit of `Metric.scale`: "Test accuracy, %"."""
    return f"{split} {metric.words}{', %' if metric.is_share else ''}"


def judged(metric: Metric) -> str:
    """The metric with its better direction: "accuracy", "RMSE (lower is better)"."""
    return metric.words + _direction(metric)


def _direction(metric: Metric) -> str:
    """Nothing for shares, of which everybody knows it."""
    return "" if metric.is_share else f" ({metric.better} is better)"


def worst(measure: Measure) -> str:
    """As what a run that diverged counts: "0", or a value and what has it."""
    if measure.metric.is_share and measure.worst == 0:
        return "0"
    metric = measure.metric
    return f"{metric.shown(measure.worst)}, the {metric.words} of {measure.guessing}"


def validation_examples(measure: Measure) -> str:
    """The examples by which settings are chosen."""
    if measure.noun == "image":
        return "the last 20% of the training images"
    return f"the validation {measure.noun}s"
