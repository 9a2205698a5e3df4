"""Which beta the folds choose: by best mean, and by the one-standard-error rule."""

import math

import pytest
from support.validated_runs import on_folds

from experiments.studies.crossval import choice
from experiments.studies.settings import Setting
from experiments.studies.validation import best, of_classes

NAN = math.nan
MEASURE = of_classes(10)


def trials(table):
    """Runs on folds, from the accuracies of each (beta, effective rate)."""
    return {Setting(*key): on_folds(values) for key, values in table.items()}


def test_each_beta_is_represented_by_the_best_of_its_rates():
    table = trials(
        {
            (0.9, 0.1): [0.5, 0.5, 0.5],
            (0.9, 0.2): [0.99, 0.99, NAN],  # diverged on the last fold
            (0.9, 0.4): [0.7, 0.7, 0.7],
            (0.5, 0.1): [0.6, 0.6, 0.6],
            (0.5, 0.2): [NAN, NAN, NAN],
        }
    )
    assert choice.best_of_betas(table, MEASURE) == [
        Setting(0.5, 0.1),
        Setting(0.9, 0.4),
    ]
    assert best(table, MEASURE) == Setting(0.9, 0.4)


@pytest.mark.parametrize(("accuracy", "least"), [(0.7775, 0.5), (0.7765, 0.9)])
def test_the_smallest_beta_within_one_standard_error_is_preferred(accuracy, least):
    # Beta 0.9 has mean 0.8 and s = 0.04·√(4/3): 0.8 − s/√4 = 0.7769.
    table = trials(
        {
            (0.99, 0.1): [0.79] * 4,
            (0.5, 0.1): [0.3] * 4,
            (0.5, 0.2): [accuracy] * 4,
            (0.9, 0.1): [0.76, 0.84, 0.76, 0.84],
        }
    )
    assert choice.least_within_one_error(table, MEASURE).beta == least


def test_equal_folds_have_no_standard_error_so_the_best_is_chosen():
    table = trials({(0.5, 0.1): [0.7, 0.7], (0.9, 0.1): [0.71, 0.71]})
    assert choice.least_within_one_error(table, MEASURE) == Setting(0.9, 0.1)


def test_the_smallest_beta_is_chosen_if_every_run_diverged():
    table = trials({(0.9, 0.1): [NAN, NAN], (0.5, 0.1): [NAN, NAN]})
    assert choice.least_within_one_error(table, MEASURE) == Setting(0.5, 0.1)


def test_outer_folds_score_what_their_inner_folds_chose():
    a, b = Setting(0.5, 0.1), Setting(0.9, 0.1)
    outer = trials({a: [0.31, 0.32], b: [0.83, NAN]})
    inner = {
        "fold 1": trials({a: [0.9, 0.9], b: [0.1, 0.1]}),
        "fold 2": trials({a: [0.1, 0.1], b: [0.2, 0.2]}),
    }
    assert choice.estimate(outer, inner, MEASURE) == [
        choice.FoldEstimate("fold 1", a, 0.31),
        choice.FoldEstimate("fold 2", b, 0.0),
    ]
