"""The results of a sweep: the best trials, and the best after k trials."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from support.measures import RMSE, ROWS, by_error
from support.synthetic import diverged
from support.validated_runs import validated

from experiments.records.config import UsageError
from experiments.records.metric import ACCURACY
from experiments.records.runs import Run
from experiments.studies.sweep import results as sweep_results
from experiments.studies.sweep.options import BUDGETS
from experiments.studies.sweep.results import (
    SweepResults,
    TrialResult,
    best,
    best_so_far,
    result,
)
from experiments.studies.sweep.space import Trial
from experiments.studies.validation import Measure, of_classes

CLASSES = 10
TEN = of_classes(CLASSES)


def tried(
    *runs: Run,
    method: str = "sgd",
    rate: float = 0.1,
    measure: Measure = TEN,
) -> TrialResult:
    return result(Trial(method, rate, 1.0, 64), runs, measure)


def test_best_trial_has_the_best_mean_accuracy_then_loss():
    results = [
        tried(validated(0.9), validated(0.7), rate=0.1),
        tried(validated(0.8, 0.6), validated(0.84, 0.6), rate=0.2),
        tried(validated(0.84, 0.5), validated(0.8, 0.5), rate=0.3),
        tried(validated(0.8, 0.5), validated(0.84, 0.5), rate=0.4),
        tried(validated(0.75), method="momentum"),
    ]
    found = best(results)
    assert {m: each.trial.effective_rate for m, each in found.items()} == {
        "sgd": 0.3,  # of equals, the first
        "momentum": 0.1,
    }


def test_diverged_trial_is_never_the_best():
    lost, dead = diverged(validated(0.99)), validated(0.99)
    guessing = math.log(CLASSES) + 0.01
    stuck = dead.epochs[-1]._replace(train_loss=guessing, validation_loss=guessing)
    dead = replace(dead, epochs=(*dead.epochs[:-1], stuck))
    results = [tried(lost), tried(dead), tried(validated(0.2))]
    assert [each.diverged for each in results] == [1, 1, 0]
    assert [math.isnan(each.value) for each in results] == [True, True, False]
    assert best(results)["sgd"] is results[2]


def test_method_of_which_every_trial_diverged_is_refused_in_one_line():
    with pytest.raises(UsageError) as error:
        best(
            [tried(validated(0.5)), tried(diverged(validated(0.5)), method="nesterov")]
        )
    assert str(error.value) == (
        "every trial of nesterov has a run that is no better than guessing: change "
        "--effective-rate, or give more --epochs."
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_best_so_far_is_exact_over_all_orders(share):
    values = [0.31, -math.inf, 0.62, 0.31, 0.58]
    orders = np.array(list(itertools.permutations(values)))
    bests = np.maximum.accumulate(orders, axis=1)
    expected = np.quantile(bests, share, axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(best_so_far(values, [share])[0], expected)


def test_slice_is_half_a_decade_with_its_trials_and_their_best():
    results = [tried(validated(x)) for x in (0.5, 0.8, 0.7)] + [
        tried(diverged(validated(0.9)))
    ]
    cut = sweep_results.slices(results, [0.02, 0.03, 0.04, 0.5])
    assert [each.trials for each in cut] == [2, 1, 1]
    np.testing.assert_equal([each.value for each in cut], [0.8, 0.7, math.nan])
    assert [each.middle for each in cut] == pytest.approx(
        [10**-1.75, 10**-1.25, 10**-0.25]
    )


def test_good_range_spans_the_trials_within_two_points_of_the_best():
    rates = {0.01: 0.80, 0.05: 0.885, 0.2: 0.90, 0.8: 0.88001, 2.0: 0.87}
    results = [tried(validated(a), rate=rate) for rate, a in rates.items()]
    found = sweep_results.good_decades(results, ACCURACY)
    assert found == pytest.approx(math.log10(0.8 / 0.05))


def test_good_range_of_errors_spans_the_trials_within_2_percent_of_the_best():
    rates = {0.01: 2.05, 0.05: 2.039, 0.2: 2.0, 0.8: 2.0399, 2.0: 2.041}
    results = [
        tried(by_error(validated(1 - error / 10)), rate=rate, measure=ROWS)
        for rate, error in rates.items()
    ]
    found = sweep_results.good_decades(results, RMSE)
    assert found == pytest.approx(math.log10(0.8 / 0.05))


def test_trial_with_the_lowest_error_is_the_best_and_figures_resolve_from_it():
    results = [
        tried(by_error(validated(1 - error / 10)), rate=error, measure=ROWS)
        for error in (2.0, 1.0, 1.5, 2.5, 3.0)
    ]
    assert best(results)["sgd"].value == pytest.approx(1.0)
    cut = sweep_results.slices(results, [0.02, 0.03, 0.04, 0.5, 0.5])
    assert [each.value for each in cut] == pytest.approx([1.0, 1.5, 2.5])
    swept = SweepResults(BUDGETS["smoke"], [], results, {}, ROWS)
    assert swept.resolved == pytest.approx((1.0, 2.5))
