"""Momentum against SGD, paired by seed: accuracies, differences and their wording."""

import math
from dataclasses import replace

import pytest
from support.synthetic import diverged, synthetic_run

from experiments.reporting.statistics import Interval, percent, verdict, wall_time
from experiments.studies.paired import accuracies, difference

NAN = math.nan


def test_difference_is_paired_by_seed_and_counts_a_diverged_run_as_0():
    first = [synthetic_run("keras", seed, test_accuracy=0.9) for seed in range(3)]
    second = [synthetic_run("sgd", s, test_accuracy=0.8 + s / 50) for s in range(3)]
    gain = difference(first, second, 10)
    assert gain.mean == pytest.approx(0.08)
    assert gain.low == pytest.approx(0.08 - 4.302653 * 0.02 / 3**0.5)
    broken = [*first[:2], diverged(first[2])]
    assert accuracies(broken, 10) == [0.9, 0.9, 0.0]
    with pytest.raises(ValueError, match="not paired by seed"):
        difference(first, second[::-1], 10)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (Interval(0.02, 0.01, 0.03, 3), "momentum is better"),
        (Interval(-0.02, -0.03, -0.01, 3), "it is under-tuned, and this is no"),
        (Interval(0.02, -0.01, 0.05, 3), "no difference is shown, as the"),
        (Interval(0.0, 0.0, 0.0, 3), "no difference is shown"),
        (Interval(0.02, None, None, 1), "one seed bounds nothing"),
        (Interval(NAN, NAN, NAN, 3), "no difference is shown"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(gain, words):
    assert words in verdict(gain)


def test_percent_of_one_seed_has_no_interval():
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
def test_wall_time_uses_a_suitable_unit(seconds, words):
    runs = [replace(synthetic_run(seed=seed), seconds=seconds) for seed in range(3)]
    assert wall_time(runs) == words
