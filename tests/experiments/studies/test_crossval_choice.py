"""Which beta the folds choose, by the best mean and by the one-standard-error rule."""

import math
from dataclasses import replace

import pytest
from support.synthetic import diverged as spoilt
from support.synthetic import synthetic_run
from support.validated_runs import on_folds

from experiments.reporting.statistics import Interval, percent, verdict, wall_time
from experiments.studies.crossval.choice import (
    Estimate,
    best_of_betas,
    estimates,
    least_within_one_error,
)
from experiments.studies.paired import accuracies, difference
from experiments.studies.settings import Setting, configured, learning_rate
from experiments.studies.validation import best

NAN = math.nan


def trials(table):
    """Runs on folds, from accuracies by beta and effective rate."""
    return {Setting(*key): on_folds(values) for key, values in table.items()}


def test_learning_rate_is_the_effective_one_times_one_minus_beta():
    assert learning_rate(Setting(0.98, 0.5)) == 0.01
    assert learning_rate(Setting(0.0, 0.37)) == 0.37


def test_config_of_beta_zero_is_that_of_sgd():
    base = synthetic_run().config
    sgd = configured(base, Setting(0.0, 0.3))
    assert (sgd.arm, sgd.beta, sgd.learning_rate) == ("sgd", 0.0, 0.3)
    momentum = configured(base, Setting(0.95, 0.3))
    assert (momentum.arm, momentum.beta) == ("momentum", 0.95)
    assert momentum.learning_rate == 0.015
    assert replace(momentum, arm="sgd", beta=0.0, learning_rate=0.3) == sgd


def test_each_beta_is_judged_at_the_best_of_its_rates():
    table = trials(
        {
            (0.9, 0.1): [0.5, 0.5, 0.5],
            (0.9, 0.2): [0.99, 0.99, NAN],  # two lucky folds don't save it
            (0.9, 0.4): [0.7, 0.7, 0.7],
            (0.5, 0.1): [0.6, 0.6, 0.6],
            (0.5, 0.2): [NAN, NAN, NAN],
        }
    )
    assert best_of_betas(table, 10) == [Setting(0.5, 0.1), Setting(0.9, 0.4)]
    assert best(table, 10) == Setting(0.9, 0.4)


@pytest.mark.parametrize(("accuracy", "least"), [(0.7775, 0.5), (0.7765, 0.9)])
def test_one_standard_error_prefers_the_least_beta_within_it(accuracy, least):
    # Of beta 0.9, with mean 0.8: s = 0.04·√(4/3), s/√4 = 0.0231, so from 0.7769 on.
    table = trials(
        {
            (0.99, 0.1): [0.79] * 4,
            (0.5, 0.1): [0.3] * 4,
            (0.5, 0.2): [accuracy] * 4,
            (0.9, 0.1): [0.76, 0.84, 0.76, 0.84],
        }
    )
    assert least_within_one_error(table, 10).beta == least


def test_one_standard_error_of_equal_folds_is_the_best_itself():
    table = trials({(0.5, 0.1): [0.7, 0.7], (0.9, 0.1): [0.71, 0.71]})
    assert least_within_one_error(table, 10) == Setting(0.9, 0.1)


def test_one_standard_error_stands_when_every_run_diverged():
    table = trials({(0.9, 0.1): [NAN, NAN], (0.5, 0.1): [NAN, NAN]})
    assert least_within_one_error(table, 10) == Setting(0.5, 0.1)


def test_estimates_are_of_what_the_inner_folds_chose():
    a, b = Setting(0.5, 0.1), Setting(0.9, 0.1)
    outer = trials({a: [0.31, 0.32], b: [0.83, NAN]})
    inner = {
        "fold 1": trials({a: [0.9, 0.9], b: [0.1, 0.1]}),
        "fold 2": trials({a: [0.1, 0.1], b: [0.2, 0.2]}),
    }
    assert estimates(outer, inner, 10) == [
        Estimate("fold 1", a, 0.31),
        Estimate("fold 2", b, 0.0),
    ]


def test_difference_is_paired_by_seed_and_counts_divergence_as_nothing_right():
    first = [synthetic_run("keras", seed, test_accuracy=0.9) for seed in range(3)]
    second = [synthetic_run("sgd", s, test_accuracy=0.8 + s / 50) for s in range(3)]
    gain = difference(first, second, 10)
    assert gain.mean == pytest.approx(0.08)
    assert gain.low == pytest.approx(0.08 - 4.302653 * 0.02 / 3**0.5)
    broken = [*first[:2], spoilt(first[2])]
    assert accuracies(broken, 10) == [0.9, 0.9, 0.0]
    with pytest.raises(ValueError, match="not paired by seed"):
        difference(first, second[::-1], 10)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (Interval(0.02, 0.01, 0.03, 3), "momentum is better"),
        (
            Interval(-0.02, -0.03, -0.01, 3),
            "it is under-tuned, and this is no ev",
        ),
        (
            Interval(0.02, -0.01, 0.05, 3),
            "no difference is shown, as the interval con",
        ),
        (Interval(0.0, 0.0, 0.0, 3), "no difference is shown"),
        (Interval(0.02, None, None, 1), "one seed shows no difference"),
        (Interval(NAN, NAN, NAN, 3), "no difference is shown"),
    ],
)
def test_verdict_says_no_more_than_the_interval(gain, words):
    assert words in verdict(gain)


def test_accuracy_of_one_seed_has_no_interval():
    assert percent(Interval(0.5, None, None, 1)) == "50.00% (n = 1: no interval)"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1.7, "5.1 seconds"),
        (19.9, "59.7 seconds"),
        (21.0, "1.1 minutes"),
        (2399.0, "120.0 minutes"),
        (3000.0, "2.5 hours"),
    ],
)
def test_wall_time_is_told_in_the_unit_that_suits_it(seconds, words):
    runs = [replace(synthetic_run(seed=seed), seconds=seconds) for seed in range(3)]
    assert wall_time(runs) == words
