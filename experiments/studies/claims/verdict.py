"""How a claim is decided: predictions that are stated before the run, and one rule."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments.records.config import JSON
from experiments.reporting.page import Table
from experiments.reporting.statistics import mean_and_interval

# The rule and the quantities of all predictions are part of the plan: with other words
# the plan has another hash, and directories of earlier runs don't resume.
RULE = (
    "A prediction is met if its whole 95% interval lies on the predicted side of the "
    "bound, contradicted if the whole interval lies on the other side, and open "
    "otherwise. A claim holds if all its predictions are met, holds partly if some "
    "are, and does not hold if none is, be it for want of evidence."
)
MEASURED_FORMATS: dict[str, str] = dict.fromkeys(("measured", "low", "high"), "{:.3g}")

Verdict = Literal["holds", "holds partly", "does not hold"]
Outcome = Literal["met", "contradicted", "open"]


class Prediction(NamedTuple):
    """The side of a bound on which a claim expects a quantity to lie."""

    key: str  # of the measured quantity in `claims.jsonl`
    quantity: str  # in words
    side: Literal["below", "above"]
    bound: float


class Measured(NamedTuple):
    """The mean of n independent values, with its 95% interval."""

    mean: float
    low: float | None  # None where n is 1: one value has no interval
    high: float | None
    n: int


class JudgedPrediction(NamedTuple):
    """A prediction, the measurement that tests it, and the outcome."""

    prediction: Prediction
    measured: Measured
    outcome: Outcome


def mean(values: ArrayLike) -> Measured:
    """The mean of independent values."""
    values = np.asarray(values, float)
    return Measured(*mean_and_interval(values.tolist()))


def difference(first: ArrayLike, second: ArrayLike) -> Measured:
    """The mean of first − second, pair by pair."""
    return mean(np.asarray(first, float) - np.asarray(second, float))


def ratio(first: ArrayLike, second: ArrayLike) -> Measured:
    """The geometric mean of first / second, pair by pair, of positive values."""
    log, low, high, n = difference(np.log(first), np.log(second))
    if low is None or high is None:
        return Measured(math.exp(log), None, None, n)
    return Measured(math.exp(log), math.exp(low), math.exp(high), n)


def judge(prediction: Prediction, measured: Measured) -> JudgedPrediction:
    """Applies `RULE` to a prediction; NaN, or a single pair, leaves it open."""
    _, low, high, _ = measured
    outcome: Outcome = "open"
    if low is not None and high is not None:
        below, above = high < prediction.bound, low > prediction.bound
        if below or above:
            predicted = below == (prediction.side == "below")
            outcome = "met" if predicted else "contradicted"
    return JudgedPrediction(prediction, measured, outcome)


def judge_all(
    predictions: Sequence[Prediction], measured: Mapping[str, Sequence[JSON]]
) -> tuple[JudgedPrediction, ...]:
    """Judges all predictions of a claim by the recorded quantities, found by key."""
    return tuple(judge(p, _from_json(measured[p.key])) for p in predictions)


def verdict(judged: Sequence[JudgedPrediction]) -> Verdict:
    """Applies `RULE` to a claim with all its predictions judged."""
    met = count(judged, "met")
    if met == 0:
        return "does not hold"
    return "holds" if met == len(judged) else "holds partly"


def count(judged: Sequence[JudgedPrediction], outcome: Outcome) -> int:
    """The number of predictions with this outcome."""
    return sum(each.outcome == outcome for each in judged)


def table(judged: Sequence[JudgedPrediction]) -> Table:
    """All predictions of a claim, with their measurements and outcomes."""
    return Table(
        "Predictions, stated before the run, and the measurements that test them",
        ("quantity", "predicted", "measured", "low", "high", "n", "outcome"),
        [
            (p.quantity, f"{p.side} {p.bound:g}", *measured, outcome)
            for p, measured, outcome in judged
        ],
        MEASURED_FORMATS,
    )


def _from_json(values: Sequence[JSON]) -> Measured:
    """The inverse of recording, which writes NaN as null; a mean is never missing."""
    average, low, high, n = values
    return Measured(math.nan if average is None else average, low, high, n)
