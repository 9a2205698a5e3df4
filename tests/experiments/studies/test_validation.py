"""What tuning selects by: accuracy, then loss; a run that diverged is the worst."""

import math

import pytest
from support.measures import ROWS, by_error
from support.validated_runs import validated

from experiments.studies import validation
from experiments.studies.validation import (
    Score,
    best,
    diverged,
    mean_score,
    of_classes,
    score,
)

TEN = of_classes(10)
GUESSING = math.log(10)


@pytest.mark.parametrize(
    ("train_loss", "loss", "lost"),
    [
        (0.4, 0.5, False),
        (GUESSING - 1e-3, 0.5, False),
        (GUESSING + 1e-3, 0.5, False),  # it learned late in its only epochs
        (GUESSING + 1e-3, GUESSING + 1e-3, True),
        (0.4, 7.0, False),  # it learned, and is overconfident
        (math.nan, math.nan, True),
        (0.4, math.nan, True),  # the last step broke it
        (math.inf, 0.5, True),
        (0.4, math.inf, True),
    ],
)
def test_run_diverged_if_it_is_no_better_than_guessing(train_loss, loss, lost):
    run = validated(0.7, loss, train_loss)
    assert diverged(run, TEN) == lost
    assert score(run, TEN) == (Score(0.0, -math.inf) if lost else Score(0.7, -loss))


def test_guessing_depends_on_the_number_of_classes():
    run = validated(0.7, 1.4, train_loss=1.5)
    assert diverged(run, of_classes(3)) and not diverged(run, TEN)


def test_mean_score_is_of_the_last_epoch_and_counts_divergence_as_the_worst():
    runs = [validated(0.75, 0.3), validated(0.5, 0.9)]
    assert mean_score(runs, TEN) == Score(0.625, -0.6)
    broken = validated(0.9, math.nan, math.nan)
    accuracy, negative_loss = mean_score([*runs, broken], TEN)
    assert accuracy == pytest.approx(1.25 / 3) and negative_loss == -math.inf


def test_best_has_the_highest_accuracy_then_the_lowest_loss_then_comes_first():
    trials = {
        "diverged": [validated(0.99, math.nan), validated(0.99)],
        "good": [validated(0.75, 0.7), validated(0.75, 0.7)],
        "surer": [validated(0.5, 0.2), validated(1.0, 0.4)],
        "twin": [validated(0.5, 0.4), validated(1.0, 0.2)],
        "poor": [validated(0.6, 0.1), validated(0.6, 0.1)],
    }
    assert best(trials, TEN) == "surer"
    del trials["surer"], trials["twin"]
    assert best(trials, TEN) == "good"


def test_best_of_runs_that_all_diverged_is_the_first():
    lost = [validated(0.1, math.nan, math.nan)]
    assert best({"one": lost, "two": lost}, TEN) == "one"


def test_the_lowest_error_is_the_best_and_divergence_counts_as_that_of_guessing():
    good, poor = by_error(validated(0.75)), by_error(validated(0.5))
    lost = by_error(validated(0.99, 9.5, train_loss=9.25))  # 9 is guessing
    values = [validation.validated(run, ROWS) for run in (good, poor, lost)]
    assert values == [2.5, 5.0, 3.0]
    assert score(good, ROWS) == Score(-2.5, -0.5)
    assert score(lost, ROWS) == Score(-3.0, -math.inf)
    assert best({"poor": [poor], "lost": [lost], "good": [good]}, ROWS) == "good"
    assert mean_score([good, poor], ROWS) == Score(-3.75, -0.5)
