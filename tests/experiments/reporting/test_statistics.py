"""Intervals are Student's, pairs are paired by seed, and doubt has no winner."""

import math

import numpy as np
import pytest
from scipy import stats
from support.measures import RMSE

from experiments.optimizers.arms import ARMS, STORAGES
from experiments.records.metric import ACCURACY
from experiments.reporting.statistics import (
    PAIRS,
    Interval,
    against_first,
    compare,
    comparisons,
    counted,
    difference_in_words,
    direction,
    mean_and_interval,
    sign,
    too_close,
    value_in_words,
    verdict,
    winner,
)


def test_interval_is_students_of_scipy():
    values = np.random.default_rng(3).normal(0.02, 0.05, size=7)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    mean, low, high, n = mean_and_interval(values.tolist())
    assert n == 7
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_interval_of_two_values_by_hand():
    # Mean 3, s = √2, t(0.975, 1) = 12.7062: half the width is 12.7062·√2/√2.
    expected = 3.0, -9.70620, 15.70620, 2
    assert mean_and_interval([2.0, 4.0]) == pytest.approx(expected)


def test_interval_of_one_value_is_none():
    assert mean_and_interval([0.25]) == (0.25, None, None, 1)


def test_interval_of_equal_values_is_a_point():
    mean, low, high, _ = mean_and_interval([0.1, 0.1, 0.1])
    assert low == mean == high


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_interval_with_what_is_not_finite_is_nan(lost):
    assert np.isnan(np.array(mean_and_interval([0.1, lost])[:3])).all()
    assert math.isnan(mean_and_interval([lost]).mean)


def test_compare_pairs_by_seed_and_ignores_seeds_of_one_arm():
    values = {"a": {3: 0.5, 1: 0.75, 8: 0.0}, "b": {1: 0.25, 3: 0.375, 9: 1.0}}
    compared = compare("a", "b", "a cause", values, ACCURACY)
    assert compared.seeds == (1, 3)
    assert compared.differences == (0.5, 0.125)
    assert compared.mean == 0.3125


@pytest.mark.parametrize(
    ("differences", "winning"),
    [
        ([0.02, 0.03, 0.04], "a"),
        ([-0.02, -0.03, -0.04], "b"),
        ([0.02, 0.03, -0.01], None),
        ([0.5], None),
        ([0.0, 0.0, 0.0], None),
        ([0.25, 0.25], None),  # two seeds bound nothing
        ([0.25, 0.25, 0.25], "a"),
        ([0.25, math.nan, 0.25], None),
    ],
)
def test_compare_names_a_winner_only_off_the_interval(differences, winning):
    values = {"a": dict(enumerate(differences)), "b": dict.fromkeys(range(3), 0.0)}
    assert compare("a", "b", "a cause", values, ACCURACY).winner == winning


def test_compare_refuses_arms_without_a_common_seed():
    with pytest.raises(ValueError, match="no seed was run with both a and b"):
        compare("a", "b", "a cause", {"a": {1: 0.5}, "b": {2: 0.5}}, ACCURACY)


def test_comparisons_isolate_momentum_twice_and_step_size_twice():
    compared = comparisons({arm: {0: 0.5, 1: 0.25} for arm in ARMS}, ACCURACY)
    assert [(each.first, each.second) for each in compared] == [
        ("ema", "sgd"),
        ("keras", "sgd_large_step"),
        ("sgd_large_step", "sgd"),
        ("keras", "ema"),
    ]
    causes = [each.isolates.split(",")[0] for each in compared]
    assert causes == ["momentum", "momentum", "step size", "step size"]


def test_comparisons_leave_out_pairs_that_were_not_run():
    values = {"sgd": {0: 0.5}, "ema": {0: 0.75}, "keras": {4: 0.5}}
    (compared,) = comparisons(values, ACCURACY)
    assert (compared.first, compared.second) == ("ema", "sgd")


def test_optimizers_known_by_name_only_are_compared_with_the_first():
    values = {"b": {0: 0.5, 1: 0.25}, "a": {0: 0.625, 1: 0.5}, "sgd": {1: 0.125}}
    compared = comparisons(values, ACCURACY, against_first(["b", "a", "sgd"]))
    assert [each[:5] for each in compared] == [
        ("a", "b", "optimizer: a instead of b", (0, 1), (0.125, 0.25)),
        ("sgd", "b", "optimizer: sgd instead of b", (1,), (-0.125,)),
    ]
    assert against_first(["alone"]) == ()


def test_pairs_are_arms():
    arms = {arm for pair in PAIRS for arm in (pair.first, pair.second)}
    assert arms == {*ARMS, *STORAGES}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.0, 0.9222], "46.11% (n = 2: no useful interval)"),  # −539.85 to 632.08
        ([0.1, 0.6, 0.6], "43.33% (95% interval 0.00 to 100.00)"),  # −28.37 to 115.04
        ([0.90, 0.99, 0.99], "96.00% (95% interval 83.09 to 100.00)"),  # to 108.91
        ([0.90, 0.91, 0.92], "91.00% (95% interval 88.52 to 93.48)"),
        ([0.5], "50.00% (n = 1: no interval)"),
    ],
)
def test_accuracies_in_words_stay_within_0_and_100_percent(values, words):
    assert value_in_words(mean_and_interval(values), ACCURACY) == words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.01, 0.03], "+2.00 points (n = 2: no useful interval)"),
        ([0.9, -0.5, 0.9], "+43.33 points (95% interval −100.00 to +100.00)"),
        ([-0.9, -0.2, -0.8], "−63.33 points (95% interval −100.00 to +30.71)"),
        ([0.01, 0.02, 0.03], "+2.00 points (95% interval −0.48 to +4.48)"),
        ([-0.02], "−2.00 points (n = 1: no interval)"),
    ],
)
def test_differences_in_words_stay_within_100_points(values, words):
    assert difference_in_words(mean_and_interval(values), ACCURACY) == words


def test_where_lower_is_better_the_lower_one_wins():
    values = {"a": {0: 1.25, 1: 1.0, 2: 1.5}, "b": {0: 3.5, 1: 3.0, 2: 3.75}}
    compared = compare("a", "b", "a cause", values, RMSE)
    assert compared.differences == (-2.25, -2.0, -2.25)
    assert compared.winner == "a"
    assert (sign(compared.interval), direction(compared.interval, RMSE)) == (-1, 1)
    assert verdict(compared.interval, RMSE) == "momentum is better"
    worse = Interval(0.25, 0.2, 0.3, 5)
    assert verdict(worse, RMSE).startswith("momentum is worse, although β = 0")


def test_values_of_other_metrics_are_in_their_own_unit_and_not_cut():
    words = "−2.167 (95% interval −2.525 to −1.808)"
    difference = mean_and_interval([-2.25, -2.0, -2.25])
    assert difference_in_words(difference, RMSE) == words
    value = mean_and_interval([51_000.0, 53_000.0, 52_500.0])
    words = "52,167 (95% interval 49,581 to 54,752)"
    assert value_in_words(value, RMSE) == words
    assert value_in_words(mean_and_interval([0.125]), RMSE).startswith("0.125 (n = 1")


def test_interval_is_shown_cut_and_only_for_three_values():
    assert Interval(0.9, 0.75, 1.05, 3).shown(ACCURACY.possible) == (0.9, 0.75, 1.0)
    assert Interval(0.1, -1.5, 1.7, 3).shown((-1.0, 1.0)) == (0.1, -1.0, 1.0)
    assert Interval(7.0, -1.5, 15.5, 3).shown() == (7.0, -1.5, 15.5)
    assert Interval(0.9, 0.85, 0.95, 2).shown(ACCURACY.possible) == (0.9, None, None)
    assert Interval(0.9, None, None, 1).shown(ACCURACY.possible) == (0.9, None, None)


def test_conclusions_are_drawn_from_the_whole_interval():
    assert sign(mean_and_interval([0.9, -0.5, 0.9])) == 0
    three = {"a": dict.fromkeys(range(3), 0.25), "b": dict.fromkeys(range(3), 0.0)}
    clear = compare("a", "b", "a cause", three, ACCURACY)
    assert clear.winner == "a" and clear.interval == (0.25, 0.25, 0.25, 3)
    assert winner(clear, {"a": "Title"}) == (
        "winner: Title; every seed shows the same difference"
    )
    assert verdict(clear.interval, ACCURACY) == "momentum is better"


def test_two_seeds_bound_nothing_and_a_smoke_run_concludes_nothing():
    two = {"a": {0: 0.25, 1: 0.25}, "b": {0: 0, 1: 0}}
    compared = compare("a", "b", "a cause", two, ACCURACY)
    assert winner(compared, {}) == "no winner: two seeds bound nothing"
    assert verdict(compared.interval, ACCURACY) == (
        "no difference is shown, as two seeds bound nothing"
    )
    clear = Interval(0.25, 0.2, 0.3, 5)
    smoke = verdict(clear, ACCURACY, smoke=True)
    assert smoke == "no verdict: a smoke run concludes nothing"
    assert "smoke" in winner(compared, {}, smoke=True)


@pytest.mark.parametrize(
    ("low", "high", "bound", "close", "side"),
    [
        # A tenth of half the width is 0.05·(high − low).
        (0.011, 0.2, 0.0, False, 1),
        (0.009, 0.2, 0.0, True, 0),
        (-0.009, 0.2, 0.0, True, 0),
        (-0.011, 0.2, 0.0, False, 0),
        (-0.2, -0.009, 0.0, True, 0),
        (-0.2, -0.011, 0.0, False, -1),
        (0.76, 0.94, 0.75, False, 1),
        (0.758, 0.94, 0.75, True, 0),
        (0.0, 0.0, 0.0, False, 0),
        (0.25, 0.25, 0.0, False, 1),
    ],
)
def test_what_hangs_on_rounding_is_too_close_to_call(low, high, bound, close, side):
    interval = Interval((low + high) / 2, low, high, 9)
    assert too_close(interval, bound) == close
    assert sign(interval, bound) == side
    if close and not bound:
        assert verdict(interval, ACCURACY).endswith("ends too close to 0 to call")


def test_rounding_of_another_machine_does_not_turn_a_verdict_round():
    values = np.random.default_rng(8).normal(size=8)
    mean, low, _, _ = mean_and_interval(values.tolist())
    assert low is not None
    edge, half = values - low, mean - low  # the interval of `edge` ends at 0
    for nudge in (-0.09, -0.01, 0.01, 0.09):
        assert sign(mean_and_interval((edge + nudge * half).tolist())) == 0
    assert sign(mean_and_interval((edge + 0.11 * half).tolist())) == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (2000, "2,000 epochs")],
)
def test_one_is_singular(number, words):
    assert counted(number, "epoch") == words
