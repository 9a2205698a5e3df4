"""Momentum against SGD, paired by seed: accuracies, differences and their wording."""

import math
from dataclasses import replace

import pytest
from support.measures import ROWS, by_error
from support.synthetic import diverged, synthetic_run

from experiments.records.metric import ACCURACY
from experiments.reporting.statistics import (
    Interval,
    value_in_words,
    verdict,
    wall_time,
)
from experiments.studies import paired
from experiments.studies.paired import difference
from experiments.studies.validation import of_classes

NAN = math.nan
TEN = of_classes(10)


def test_difference_is_paired_by_seed_and_counts_a_diverged_run_as_0():
    first = [synthetic_run("keras", seed, test_accuracy=0.9) for seed in range(3)]
    second = [synthetic_run("sgd", s, test_accuracy=0.8 + s / 50) for s in range(3)]
    gain = difference(first, second, TEN)
    assert gain.mean == pytest.approx(0.08)
    assert gain.low == pytest.approx(0.08 - 4.302653 * 0.02 / 3**0.5)
    broken = [*first[:2], diverged(first[2])]
    assert paired.tested(broken, TEN) == [0.9, 0.9, 0.0]
    with pytest.raises(ValueError, match="not paired by seed"):
        difference(first, second[::-1], TEN)


def test_errors_are_paired_and_a_diverged_run_counts_as_the_worst():
    first = [by_error(synthetic_run("keras", s, test_accuracy=0.9)) for s in range(3)]
    second = [by_error(synthetic_run("sgd", s, test_accuracy=0.8)) for s in range(3)]
    assert difference(first, second, ROWS).mean == pytest.approx(-1.0)
    # Its losses are those of accuracies, all below the 9 of predicting the mean.
    broken = [*first[:2], diverged(first[2])]
    assert paired.tested(broken, ROWS) == pytest.approx([1.0, 1.0, 3.0])
    assert difference(broken, second, ROWS).mean == pytest.approx(-1 / 3)


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
    assert words in verdict(gain, ACCURACY)


def test_percent_of_one_seed_has_no_interval():
    one = value_in_words(Interval(0.5, None, None, 1), ACCURACY)
    assert one == "50.00% (n = 1: no interval)"


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
