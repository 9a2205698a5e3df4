"""What decides a claim: predictions that are stated before the run, and one rule."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.reporting.page import Table
from experiments.reporting.statistics import mean_and_interval

RULE = (
    "A prediction is met if its whole 95% interval lies on the predicted side of the "
    "bound, contradicted if the whole interval lies on the other side, and open "
    "otherwise. A claim holds if all its predictions are met, holds partly if some "
    "are, and does not hold if none is, be it for want of evidence."
)

Verdict = Literal["holds", "holds partly", "does not hold"]


class Prediction(NamedTuple):
    """What a claim says of one measured figure, before it is measured."""

    key: str
    says: str  # which figure it is
    side: Literal["below", "above"]
    bound: float


class Measured(NamedTuple):
    """The mean of n independent pairs, and its 95% interval."""

    mean: float
    low: float | None  # None: one pair has no interval
    high: float | None
    n: int


class Answer(NamedTuple):
    """A prediction and what came of it."""

    prediction: Prediction
    measured: Measured
    outcome: Literal["met", "contradicted", "open"]


def difference(first: ArrayLike, second: ArrayLike) -> Measured:
    """The mean of first − second, pair by pair."""
    differences = np.asarray(first, float) - np.asarray(second, float)
    return Measured(*mean_and_interval(differences.tolist()))


def ratio(first: ArrayLike, second: ArrayLike) -> Measured:
    """The geometric mean of first / second, pair by pair, of positive figures."""
    logs = difference(np.log(first), np.log(second))
    bounds = (None if x is None else math.exp(x) for x in logs[:3])
    mean, low, high = bounds
    assert mean is not None
    return Measured(mean, low, high, logs.n)


def answer(prediction: Prediction, measured: Measured) -> Answer:
    """Whether a prediction is met, by `RULE`; NaN, or one pair, leaves it open."""
    _, low, high, _ = measured
    outcome = "open"
    if low is not None and high is not None:
        below, above = high < prediction.bound, low > prediction.bound
        predicted = prediction.side == "below"
        if below or above:
            outcome = "met" if below == predicted else "contradicted"
    return Answer(prediction, measured, outcome)


def answers(
    predictions: Sequence[Prediction], measured: Mapping[str, Sequence[Any]]
) -> tuple[Answer, ...]:
    """The answers to all predictions of a claim, from figures by their keys."""
    return tuple(
        answer(each, Measured(*_numbers(measured[each.key]))) for each in predictions
    )


def verdict(answers: Sequence[Answer]) -> Verdict:
    """What `RULE` makes of the answers to all predictions of a claim."""
    met = sum(each.outcome == "met" for each in answers)
    if met == 0:
        return "does not hold"
    return "holds" if met == len(answers) else "holds partly"


def counted(answers: Sequence[Answer]) -> str:
    """How many of all predictions are met, in words."""
    met = sum(each.outcome == "met" for each in answers)
    return f"{met} of {len(answers)} predictions met"


def table(answers: Sequence[Answer]) -> Table:
    """All predictions of a claim, with their figures and outcomes."""
    return Table(
        "Predictions, stated before the run, and what was measured",
        ("prediction", "predicted", "measured", "low", "high", "n", "outcome"),
        [
            (
                each.prediction.says,
                f"{each.prediction.side} {each.prediction.bound:g}",
                *each.measured,
                each.outcome,
            )
            for each in answers
        ],
        dict.fromkeys(("measured", "low", "high"), "{:.3g}"),
    )


def _numbers(record: Sequence[Any]) -> list[Any]:
    """A `Measured` from JSON, which has no NaN: its mean is never absent."""
    mean, low, high, n = record
    return [math.nan if mean is None else mean, low, high, n]
