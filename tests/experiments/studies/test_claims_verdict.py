"""The rule that decides a claim, on numbers made by hand."""

import math

import numpy as np
import pytest

from experiments.studies.claims import verdict
from experiments.studies.claims.verdict import Measured, Prediction, difference, judge

BELOW = Prediction("cost", "cost, momentum / SGD", "below", 1.0)
ABOVE = Prediction("gain", "gain, momentum − SGD", "above", 0.0)


def judged(*outcomes) -> list[verdict.JudgedPrediction]:
    measured = Measured(0.7, 0.6, 0.8, 5)
    return [verdict.JudgedPrediction(BELOW, measured, outcome) for outcome in outcomes]


@pytest.mark.parametrize(
    ("prediction", "low", "high", "outcome"),
    [
        (BELOW, 0.7, 0.9, "met"),
        (BELOW, 1.1, 1.3, "contradicted"),
        (BELOW, 0.9, 1.1, "open"),
        (BELOW, 0.9, 1.0, "too close to call"),
        (BELOW, 0.9, 1.004, "too close to call"),
        (BELOW, 0.9, 0.996, "too close to call"),
        (BELOW, 0.9, 0.99, "met"),
        (BELOW, 1.003, 1.2, "too close to call"),
        (ABOVE, -0.2, 0.009, "too close to call"),
        (ABOVE, 0.02, 0.3, "met"),
        (ABOVE, -0.3, -0.02, "contradicted"),
        (ABOVE, -0.1, 0.2, "open"),
        (ABOVE, 0.0, 0.0, "open"),
        (ABOVE, math.nan, math.nan, "open"),
        (ABOVE, None, None, "open"),
    ],
)
def test_a_prediction_is_met_only_by_its_whole_interval(prediction, low, high, outcome):
    assert judge(prediction, Measured(0.5, low, high, 7)).outcome == outcome


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["met", "met", "met"], "holds"),
        (["met", "open", "met"], "holds partly"),
        (["contradicted", "met"], "holds partly"),
        (["contradicted", "open"], "does not hold"),
        (["open", "open"], "open"),
        (["open", "too close to call"], "open"),
        (["met", "too close to call"], "holds partly"),
        (["not judged"], "not judged"),
    ],
)
def test_the_verdict_follows_its_rule(outcomes, expected):
    assert verdict.verdict(judged(*outcomes)) == expected


def test_outcomes_are_counted():
    predictions = judged("met", "open", "contradicted", "open")
    assert [verdict.count(predictions, o) for o in ("met", "open")] == [1, 2]


def test_a_difference_is_paired():
    rng = np.random.default_rng(5)
    shared = 100 * rng.normal(size=40)  # what pairs have in common drops out
    first = shared + 0.3 + 0.01 * rng.normal(size=40)
    mean, low, high, n = difference(first, shared)
    assert n == 40 and low is not None and high is not None
    assert 0.29 < low < mean < high < 0.31
    unpaired = difference(rng.permutation(first), shared)
    assert unpaired.high is not None and unpaired.high > 1


def test_a_ratio_is_the_geometric_mean_of_its_pairs():
    mean, low, high, n = verdict.ratio([2.0, 8.0, 3.0], [1.0, 2.0, 3.0])
    assert (mean, n) == (pytest.approx(2.0), 3)
    assert low is not None and high is not None
    assert low * high == pytest.approx(4.0)  # even on a log axis


def test_intervals_are_judged_as_json_stores_them():
    measured = {"cost": [0.7, 0.6, 0.8, 9], "gain": [None, None, None, 1]}
    met, opened = verdict.judge_all((BELOW, ABOVE), measured)
    assert (met.outcome, opened.outcome) == ("met", "open")
    assert math.isnan(opened.measured.mean)
    rows = verdict.table((met, opened)).rows
    assert rows[0] == ("cost, momentum / SGD", "met", 0.7, 0.6, 0.8, "below 1", 9)


def test_two_pairs_and_a_smoke_run_decide_nothing():
    clear = Measured(0.5, 0.4, 0.6, 9)
    assert judge(ABOVE, clear).outcome == "met"
    assert judge(ABOVE, clear._replace(n=2)).outcome == "open"
    assert judge(ABOVE, clear, smoke=True).outcome == "not judged"


def test_predictions_too_close_to_call_are_counted_apart():
    assert verdict.tally(judged("met", "open", "contradicted")) == (
        "1 of 3 predictions met"
    )
    assert verdict.tally(judged("met", "too close to call")) == (
        "1 of 2 predictions met and 1 too close to call"
    )
