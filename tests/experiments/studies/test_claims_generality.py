"""Claim 4: fair tuning of both methods, and the small problems for it."""

from math import log2

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.data.examples import Examples, Splits
from experiments.records.metric import ACCURACY, Metric
from experiments.studies.claims import generality, linear, problems
from experiments.studies.claims.budget import BUDGETS
from experiments.studies.claims.generality import Candidate
from experiments.studies.claims.problems import Problem
from experiments.studies.claims.verdict import JudgedPrediction, Measured, Prediction
from experiments.studies.options import TUNING_SEED
from experiments.studies.validation import Measure, Score
from experiments.training.points import Point

BUDGET = BUDGETS["smoke"]._replace(
    low_octave=-4, high_octave=1, widenings=3, tuning_seeds=2, seeds=5
)


def settled_step(point) -> float:
    return point.learning_rate / (1 - point.beta)


def peaked(best, beta=0.9, validated=None) -> Problem:
    """A problem whose accuracy falls with distance from the best settled step.

    Every validated point is appended to `validated`.
    """

    def accuracy(point):
        off = abs(log2(settled_step(point) / best)) + (point.beta != beta) / 10
        return 0.9 - 0.05 * off + 0.001 * (point.seed % 7)

    def validate(points):
        if validated is not None:
            validated.extend(points)
        return [Score(accuracy(point), -1.0) for point in points]

    return Problem("peaked", validate, lambda points: [accuracy(p) for p in points])


def test_both_methods_get_as_many_trials_over_the_same_octaves():
    sgd, momentum = generality.sgd_space(-3, 2), generality.momentum_space(-3, 2)
    assert len(set(sgd)) == len(set(momentum)) == 15
    assert {candidate.beta for candidate in sgd} == {0.0}
    assert {candidate.beta for candidate in momentum} == set(generality.BETAS)
    for space in (sgd, momentum):
        steps = [candidate.settled_step for candidate in space]
        assert min(steps) == 2**-3 and 2 <= max(steps) < 2**2


def test_a_candidate_has_its_settled_step_whatever_its_beta():
    point = Candidate(0.3, 0.9).with_seed(17)
    assert point == (pytest.approx(0.03), 0.9, 17)


def test_the_best_candidate_is_chosen_with_tuning_seeds_alone():
    validated = []
    tuned = generality.tune(peaked(0.25, validated=validated), BUDGET)
    assert tuned["momentum"].best == Candidate(0.25, 0.9)
    assert tuned["sgd"].best == Candidate(0.25, 0.0)
    assert not any(result.at_edge for result in tuned.values())
    assert {point.seed for point in validated} == {TUNING_SEED, TUNING_SEED + 1}
    assert len(validated) == 2 * 2 * len(tuned["sgd"].trials) == 60


@pytest.mark.parametrize(("best", "added"), [(8.0, 4), (2.0**-6, 4)])
def test_a_best_step_at_an_end_widens_the_range_for_both(best, added):
    validated = []
    tuned = generality.tune(peaked(best, validated=validated), BUDGET)
    assert tuned["sgd"].best.settled_step == pytest.approx(best)
    assert tuned["momentum"].best.settled_step == pytest.approx(best)
    assert not any(result.at_edge for result in tuned.values())
    counts = {len(result.trials) for result in tuned.values()}
    assert counts == {3 * (5 + added)}
    assert len(validated) == 2 * 2 * counts.pop()  # no trial was run twice


def test_a_best_step_still_at_an_end_is_flagged():
    tuned = generality.tune(peaked(2.0**9), BUDGET)
    assert all(result.at_edge for result in tuned.values())
    assert len(tuned["sgd"].trials) == 3 * (5 + 3 * 2)


def test_a_trial_that_diverges_once_is_not_chosen():
    def validate(points):
        diverges = [settled_step(p) > 0.3 and p.seed == TUNING_SEED + 1 for p in points]
        return [
            Score(0.0, -np.inf) if bad else Score(0.5 + settled_step(p) / 9, -1.0)
            for bad, p in zip(diverges, points, strict=True)
        ]

    tuned = generality.tune(Problem("steep", validate, lambda points: []), BUDGET)
    assert all(result.best.settled_step < 0.3 for result in tuned.values())


def test_methods_are_compared_on_paired_seeds_that_no_tuning_used():
    tested = []

    def test(points):
        tested.append(list(points))
        gain = 0.07 if points[0].beta else 0.05
        return [gain + 0.1 * point.seed for point in points]

    compared = generality.compare(peaked(0.25)._replace(test=test), BUDGET)
    assert [[point.seed for point in points] for points in tested] == [[*range(5)]] * 2
    mean, low, high, n = compared["difference"]
    assert (mean, n) == (pytest.approx(0.02), 5)
    assert high - low < 1e-6  # what a seed does to both cancels
    assert compared["methods"]["momentum"]["settled"] == 0.25


def test_momentum_that_is_tuned_to_beta_0_gains_nothing_over_sgd():
    # Its coarser grid of steps misses the peak, yet the test prefers smaller steps.
    problem = peaked(2 ** (-4 / 3), beta=0.0)

    def test(points):
        return [0.5 - 0.1 * settled_step(point) for point in points]

    compared = generality.compare(problem._replace(test=test), BUDGET)
    assert generality.tune(problem, BUDGET)["momentum"].best == Candidate(0.5, 0.0)
    assert compared["difference"][:3] == (0, 0, 0)
    assert compared["methods"]["momentum"]["settled"] == pytest.approx(2 ** (-4 / 3))


def test_every_problem_has_a_prediction():
    budget = BUDGET._replace(
        models=("linear",), losses=("hinge",), tables=("digits", "table"), dataset="x"
    )
    stated = generality.predictions(budget, "network", ACCURACY)
    expected = ["linear, hinge, digits", "linear, hinge, table", "network"]
    assert [prediction.key for prediction in stated] == expected
    assert {(p.side, p.bound) for p in stated} == {("above", 0.0)}


def test_momentum_is_expected_to_lower_an_error():
    error = Metric("squared_error", "RMSE", False, np.sqrt)
    *small, own = generality.predictions(BUDGET, "diabetes", error)
    assert own == Prediction(
        "diabetes", "diabetes: test RMSE, tuned momentum − tuned SGD", "below", 0.0
    )
    assert {p.side for p in small} == {"above"}


def test_a_problem_judged_by_an_error_has_its_own_axis_and_unit():
    def problem(title, tested):
        return {title: {"methods": {m: result(v) for m, v in tested.items()}}}

    def result(values):
        result = {"settled": 0.5, "beta": 0.9, "trials": [0], "at_edge": False}
        return {**result, "accuracies": values}

    error = Metric("squared_error", "RMSE", False, np.sqrt)
    *_, last, own = generality.predictions(BUDGET, "diabetes", error)
    measured = {
        "problems": {
            **problem(last.key, {"sgd": [0.5, 0.0], "momentum": [0.5, 0.6]}),
            **problem("diabetes", {"sgd": [55.5, 77.0], "momentum": [54.0, 55.0]}),
        }
    }
    judged = [
        JudgedPrediction(last, Measured(0.3, None, None, 2), "open"),
        JudgedPrediction(own, Measured(-11.75, None, None, 2), "open"),
    ]
    judge = Measure(error, 1.0, 77.0, "row", "the initial parameters")
    section = generality.section(judge, measured, judged)
    assert [figure.name for figure in section.figures] == ["gains", "own-gains"]
    assert section.figures[1].table.header[-1] == "test RMSE"
    assert [row[-1] for row in section.figures[1].table.rows] == [55.5, 77, 54, 55]
    _, by_accuracy, by_error = section.tables
    assert by_accuracy.rows[0][-2:] == (0.25, 1)  # mean, and one run diverged
    assert by_error.rows == [
        ("diabetes", "sgd", 0.5, 0.9, 1, 66.25, 1),
        ("diabetes", "momentum", 0.5, 0.9, 1, 54.5, 0),
    ]
    assert by_error.formats["test RMSE"] == "{:.4g}"
    text = " ".join(section.paragraphs)
    assert "diabetes is judged by its RMSE, lower is better" in text
    assert "counts as 77" in text


def test_losses_follow_their_definitions():
    logits = jnp.array([[0.2, 1.5, -0.7], [2.0, -1.0, 0.3]])
    labels = jnp.array([1, 2])
    np.testing.assert_allclose(
        problems.hinge(logits, labels), [0.0, 1 + 2.0 - 0.3], atol=1e-6
    )
    expected = [(0.04 + 0.25 + 0.49) / 2, (4 + 1 + 0.49) / 2]
    np.testing.assert_allclose(problems.squared(logits, labels), expected, rtol=1e-6)
    close = problems.hinge(jnp.array([[0.2, 1.0, -0.7]]), jnp.array([1]))
    np.testing.assert_allclose(close, [0.2], rtol=1e-6)


def test_the_splits_of_a_table_share_no_row_and_depend_on_the_seed():
    splits = problems.table(3)
    assert [len(split.labels) for split in splits] == [1200, 400, 400]
    rows = np.concatenate([split.images.reshape(-1, 20) for split in splits])
    assert len(np.unique(rows, axis=0)) == 2000
    assert set(np.asarray(splits[0].labels).tolist()) == {0, 1, 2}
    train = np.asarray(splits[0].images)
    np.testing.assert_allclose(train.std(axis=0), 1, rtol=1e-3)
    assert (np.asarray(problems.table(4).train.images) != train).any()


def test_the_small_digits_have_their_original_size():
    splits = problems.digits()
    shapes = [split.images.shape for split in splits]
    assert shapes == [(1149, 8, 8, 1), (288, 8, 8, 1), (360, 8, 8, 1)]
    assert splits.train.images.max() == 1 and splits.train.labels.max() == 9


@pytest.mark.slow
def test_runs_of_a_small_problem_agree_with_plain_descent():
    few = Splits(*(Examples(*(x[:70] for x in each)) for each in problems.table(3)))
    problem = problems.small("linear", "squared", "table", few, epochs=2)
    points = [Point(0.02, 0.8, 5), Point(0.05, 0.0, 5), Point(1e9, 0.0, 6)]
    scores = problem.validate(points)
    for point, score in zip(points[:2], scores, strict=False):
        loss, accuracy = plain_descent(few, point)
        assert score.goodness == pytest.approx(accuracy, abs=1e-6)
        assert -score.negative_loss == pytest.approx(loss, rel=1e-5)
    assert scores[2] == Score(0.0, -np.inf)
    assert problem.test(points)[2] == 0.0


def plain_descent(splits, point):
    """Momentum in float64; returns the loss and accuracy on the validation split."""
    start, order = jax.random.split(jax.random.key(point.seed))
    layer = linear.init(start, (1, 20, 1), 3)["dense1"]
    weights = np.concatenate([layer["kernel"], layer["bias"][None]]).astype(float)
    x = np.asarray(splits.train.images, float).reshape(70, 20)
    x = np.concatenate([x, np.ones((70, 1))], axis=1)
    right = np.eye(3)[np.asarray(splits.train.labels)]
    velocity = np.zeros_like(weights)
    for key in jax.random.split(order, 2):
        shuffled = np.asarray(jax.random.permutation(key, 70))
        for rows in (shuffled[:64], shuffled[64:]):
            gradient = x[rows].T @ (x[rows] @ weights - right[rows]) / len(rows)
            velocity = point.beta * velocity - point.learning_rate * gradient
            weights = weights + velocity
    x = np.asarray(splits.validation.images).reshape(70, 20)
    logits = jnp.asarray(x @ weights[:-1] + weights[-1])
    losses = optax.squared_error(logits, jax.nn.one_hot(splits.validation.labels, 3))
    hits = jnp.argmax(logits, axis=1) == splits.validation.labels
    return float(losses.sum(axis=1).mean() / 2), float(hits.mean())
