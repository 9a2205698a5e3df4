"""One sentence says what a comparison taught, and no more than its seeds can show."""

import math
from dataclasses import replace
from typing import Any

import pytest
from support.measures import RMSE, by_error
from support.synthetic import TITLES, diverged, synthetic_comparison

from experiments.compare.learned import learned
from experiments.records.metric import ACCURACY
from experiments.reporting.statistics import PAIRS, against_first, compare_runs

# As on CIFAR-10: the step matters, momentum doesn't.
STEP = {
    "sgd": [0.30, 0.31, 0.32],
    "ema": [0.302, 0.306, 0.322],
    "sgd_large_step": [0.63, 0.64, 0.65],
    "keras": [0.634, 0.634, 0.652],
}


def sentence(
    accuracies, titles=TITLES, lost=(), metric=ACCURACY, factor=10.0, **settings
):
    pairs = against_first([*titles]) if settings.get("code") else PAIRS
    runs = [
        diverged(run) if (run.config.arm, run.config.seed) in lost else run
        for run in synthetic_comparison(accuracies, **settings)
    ]
    if metric != ACCURACY:
        runs = [by_error(run, factor) for run in runs]
    arms = {arm: [r for r in runs if r.config.arm == arm] for arm in accuracies}
    return learned(arms, titles, compare_runs(runs, metric, pairs), metric)


def test_effects_that_are_the_same_everywhere_are_said_once():
    assert sentence(STEP) == (
        "A step ten times larger gained 33 points; momentum itself gained nothing that "
        "three seeds can show."
    )


def test_effects_that_differ_are_said_where_they_are():
    momentum = {**STEP, "keras": [0.60, 0.61, 0.62], "ema": [0.304, 0.314, 0.324]}
    assert sentence(momentum, beta=0.75) == (
        "A step four times larger gained 33 points without momentum and gained 30 "
        "points with momentum; momentum itself gained 0.4 points at the smaller step "
        "and lost 3 points at the larger step."
    )


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "One seed bounds nothing; --seeds 3 is the least."),
        (2, "Two seeds bound nothing; --seeds 3 is the least."),
    ],
)
def test_one_or_two_seeds_bound_nothing(count, words):
    assert sentence({arm: values[:count] for arm, values in STEP.items()}) == words


def test_an_interval_that_ends_at_0_is_too_close_to_call():
    close = {**STEP, "sgd_large_step": [0.64, 0.64, 0.64]}
    # Mean 0.02, half of the interval's width 2.484·0.008 = 0.0199.
    close["keras"] = [0.652, 0.660, 0.668]
    assert "gained 2 points, too close to call, at the larger" not in sentence(STEP)
    assert sentence(close).endswith(
        "can show at the smaller step and gained 2 points, too close to call, at the "
        "larger step."
    )


def test_diverged_runs_are_left_out_and_named():
    words = sentence(STEP, lost={("keras", 1), ("keras", 2)})
    assert words == (
        "A step ten times larger gained 33 points without momentum; momentum itself "
        "gained nothing that three seeds can show at the smaller step; Title of keras "
        "diverged in 2 of 3 runs."
    )
    every = {(arm, seed) for arm in STEP for seed in range(3)}
    assert sentence(STEP, lost=every).startswith("No comparison has a result; Plain")


def test_a_result_that_is_not_a_number_teaches_nothing():
    runs = [replace(r, test_metric=math.nan) for r in synthetic_comparison(STEP)]
    arms = {arm: [r for r in runs if r.config.arm == arm] for arm in STEP}
    words = learned(arms, TITLES, compare_runs(runs, ACCURACY), ACCURACY)
    assert words == "No comparison has a result."


def test_without_momentum_nothing_is_said_of_it():
    assert sentence(STEP, beta=0.0) == (
        "With β = 0 all of these optimizers are plain SGD."
    )


def test_optimizers_of_a_user_are_compared_with_the_first():
    users = {"mine": [0.5, 0.52, 0.51], "sgd": [0.7, 0.71, 0.72]}
    users |= {"ema": [0.52, 0.51, 0.515], "adam": [0.4, 0.43, 0.41]}
    own: dict[str, Any] = {"code": "fedcba9876543210"}
    assert sentence(users, dict.fromkeys(users, "") | {n: n for n in users}, **own) == (
        "Compared with mine, sgd gained 20 points, ema gained nothing that three seeds "
        "can show, adam lost 9.7 points."
    )
    alone = {"mine": [0.5, 0.52, 0.51]}
    assert sentence(alone, {"mine": "mine"}, **own) == (
        "One optimizer alone shows no difference."
    )


def test_many_optimizers_of_a_user_are_counted():
    users = {"first": [0.5, 0.51, 0.52]}
    users |= {
        f"n{k}": [0.6 + k / 100, 0.61 + k / 100, 0.62 + k / 100] for k in range(6)
    }
    titles = {name: name for name in users}
    assert sentence(users, titles, code="fedcba9876543210") == (
        "Compared with first, n5 gained 15 points, n4 gained 14 points, n3 gained 13 "
        "points and 3 more."
    )


def test_formats_of_a_buffer_are_compared_with_float32():
    stored = {"keras": [0.6, 0.61, 0.62], "keras_bfloat16": [0.61, 0.60, 0.62]}
    stored["keras_int8"] = [0.595, 0.606, 0.615]
    titles = {arm: arm for arm in stored}
    assert sentence(stored, titles) == (
        "Compared with float32, bfloat16 gained nothing that three seeds can show, 8 "
        "bits lost 0.47 points."
    )


def test_an_error_is_improved_where_it_falls():
    words = {**STEP, "keras": [0.60, 0.61, 0.62], "ema": [0.304, 0.314, 0.324]}
    assert sentence(words, metric=RMSE) == (
        "A step ten times larger improved the RMSE by 3.3 without momentum and "
        "improved the RMSE by 3 with momentum; momentum itself improved the RMSE by "
        "0.04 at the smaller step and worsened the RMSE by 0.3 at the larger step."
    )
    close = {**STEP, "sgd_large_step": [0.64, 0.64, 0.64]}
    close["keras"] = [0.652, 0.660, 0.668]
    assert "and improved the RMSE by 0.2, too close to call, at the larger" in sentence(
        close, metric=RMSE
    )


def test_errors_of_a_users_optimizers_are_compared_with_the_first():
    users = {"mine": [0.5, 0.52, 0.51], "sgd": [0.7, 0.71, 0.72]}
    users |= {"ema": [0.52, 0.51, 0.515], "adam": [0.4, 0.43, 0.41]}
    titles = {name: name for name in users}
    words = sentence(users, titles, metric=RMSE, factor=1e5, code="fedcba9876543210")
    assert words == (
        "Compared with mine, sgd improved the RMSE by 20,000, ema improved nothing "
        "that three seeds can show, adam worsened the RMSE by 9,667."
    )
