"""`lr-decay`: the chosen rates, the comparisons, the page, and the drop of a rate."""

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas
from support.measures import ROWS, by_error
from support.synthetic import diverged
from support.validated_runs import validated

from experiments.records.runs import Run
from experiments.reporting import html
from experiments.studies.lr_decay import plan
from experiments.studies.lr_decay.page import page
from experiments.studies.lr_decay.plan import LrDecayCell, LrDecayResults
from experiments.studies.lr_decay.rate_drop import Drop, by_equation, measured
from experiments.studies.validation import of_classes

RATES = [0.13, 0.26, 0.52]
SCHEDULES = ("constant", "step")
MEASURE = of_classes(10)
PLAN = {"dataset": "digits", "beta": 0.87}


def tuning(chosen: dict[tuple[str, str], float]) -> dict[LrDecayCell, list[Run]]:
    """Trials whose best rates are those given, and 0.26 elsewhere."""
    return {
        cell: [validated(0.9 - abs(cell.rate - chosen.get(cell[:2], 0.26)))] * 2
        for cell in plan.tuning_cells(SCHEDULES, RATES)
    }


def results(accuracies: dict[str, list[float]], chosen=None) -> LrDecayResults:
    """A study of given test accuracies by arm.

    At a constant rate inside has the accuracies of outside. Under the steps, "inside"
    has its own rate and "moved" has that of outside.
    """
    trials = tuning(chosen or {("step", "inside"): 0.13})
    cells = plan.compared_cells(plan.best(trials, MEASURE))
    names = {
        LrDecayCell("constant", "inside", 0.26): "outside",
        LrDecayCell("step", "inside", 0.26): "moved",
    }
    compared = {}
    for cell in cells:
        values = accuracies[names.get(cell, cell.arm)]
        compared[cell] = [
            validated(0.9, arm=cell.arm, seed=seed, test_accuracy=value, test=True)
            for seed, value in enumerate(values)
        ]
    return LrDecayResults(PLAN, trials, compared, MEASURE)


ACCURACIES = {
    "sgd": [0.90, 0.91, 0.92],
    "inside": [0.94, 0.95, 0.96],
    "moved": [0.80, 0.95, 0.97],
    "outside": [0.95, 0.96, 0.968],
    "corrected": [0.95, 0.96, 0.967],
}


def test_every_schedule_and_arm_has_the_same_trials():
    cells = plan.tuning_cells(SCHEDULES, RATES)
    assert len(cells) == len(set(cells)) == 2 * 3 * 3
    for schedule in SCHEDULES:
        for arm in ("sgd", "inside", "outside"):
            assert [c.rate for c in cells if c[:2] == (schedule, arm)] == RATES


def test_best_rate_is_the_lower_of_equals_and_never_a_diverged_one():
    trials = tuning({("step", "outside"): 0.52})
    lost = LrDecayCell("constant", "inside", 0.26)
    trials[lost] = [diverged(run) for run in trials[lost]]
    chosen = {cell[:2]: cell.rate for cell in plan.best(trials, MEASURE)}
    assert len(chosen) == 6
    assert chosen["step", "outside"] == 0.52
    assert chosen["constant", "sgd"] == 0.26
    trials = {
        cell: [validated(0.7)] for cell in reversed(plan.tuning_cells(SCHEDULES, RATES))
    }
    assert {cell.rate for cell in plan.best(trials, MEASURE)} == {0.13}


def test_rate_with_a_diverged_seed_loses_to_a_worse_one_without():
    trials = {
        LrDecayCell("step", "sgd", 0.1): [validated(0.6), validated(0.6)],
        LrDecayCell("step", "sgd", 0.2): [validated(0.99), diverged(validated(0.99))],
    }
    assert [cell.rate for cell in plan.best(trials, MEASURE)] == [0.1]


def test_changed_conventions_are_compared_at_the_rate_of_outside():
    chosen = [
        LrDecayCell("step", "sgd", 0.52),
        LrDecayCell("step", "inside", 0.13),
        LrDecayCell("step", "outside", 0.26),
    ]
    assert plan.compared_cells(chosen) == [
        *chosen,
        LrDecayCell("step", "inside", 0.26),
        LrDecayCell("step", "corrected", 0.26),
    ]
    chosen[1] = LrDecayCell("step", "inside", 0.26)
    assert len(plan.compared_cells(chosen)) == 4


def test_comparisons_are_paired_and_of_the_right_cells():
    parts = plan.comparisons(results(ACCURACIES))
    step = {question: answer[1] for question, answer in parts.items()}
    assert step[plan.TUNED_APART].first == LrDecayCell("step", "inside", 0.13)
    assert step[plan.SAME_RATE].first == LrDecayCell("step", "inside", 0.26)
    assert step[plan.CORRECTED].second == LrDecayCell("step", "outside", 0.26)
    assert step[plan.TUNED_APART].difference.mean == pytest.approx(-0.028 / 3)
    assert step[plan.SAME_RATE].difference.mean == pytest.approx(-0.158 / 3)
    assert step[plan.INSIDE_GAINS].difference == pytest.approx((0.04, 0.04, 0.04, 3))


def test_page_states_where_conventions_differ_and_where_not():
    made = page(results(ACCURACIES), "python -m experiments lr-decay")
    assert "n = 3 paired seeds" in made.summary
    assert "SGD did best under the constant schedule, 91.00%" in made.summary
    assert "not significantly different from 0" in made.summary
    assert (
        "each at its own tuned rate, differs significantly from 0 under step: −0.93 "
        "points (95% interval −1.22 to −0.65)."
    ) in made.summary
    assert (
        "for outside, do not differ significantly under any changing schedule."
        in made.summary
    )
    assert "the same method, and differ by +0.00 points (95% interval" in made.summary
    assert ", by rounding alone: a smaller difference" in made.summary
    assert "Under-tuned" not in made.summary
    html.html(made)


def test_page_separates_the_luck_of_tuning_from_a_difference_of_conventions():
    worse = {**ACCURACIES, "outside": [0.85, 0.86, 0.868]}
    chosen = {("step", "inside"): 0.13, ("constant", "inside"): 0.13}
    made = page(results(worse, chosen), "python -m experiments lr-decay")
    assert "because tuning happened to choose 0.13 and 0.26" in made.summary
    assert "differs significantly from 0 under step: +9.07 points" in made.summary


def test_page_reports_what_is_under_tuned_or_at_an_edge_or_diverged():
    worse = {**ACCURACIES, "inside": [0.8, 0.81, 0.82]}
    result = results(worse)
    outside = LrDecayCell("step", "outside", 0.26)
    first, *others = result.compared[outside]
    compared = {**result.compared, outside: [diverged(first), *others]}
    result = result._replace(compared=compared)
    made = page(result, "python -m experiments lr-decay")
    assert "Under-tuned: Rate inside under step lost to SGD" in made.summary
    tuned = made.sections[-1].paragraphs[0]
    assert "Best rates at an end of this range: inside under step." in tuned
    table = made.sections[0].figures[0].table
    lost = {(row[0], row[1]): row[7] for row in table.rows if row[7]}
    assert lost == {("step", "Rate outside"): 1}


def test_a_smoke_run_concludes_nothing():
    made = page(results(ACCURACIES)._replace(smoke=True), "lr-decay")
    text = " ".join([made.summary, *made.sections[1].paragraphs])
    for words in ("differs significantly", "do not differ", "Under-tuned"):
        assert words not in text
    assert "SGD did best under the constant schedule, 91.00%" in made.summary


def test_page_of_one_seed_has_no_interval():
    single = {arm: values[:1] for arm, values in ACCURACIES.items()}
    made = page(results(single), "python -m experiments lr-decay")
    assert (
        "Whether inside and outside, each at its own tuned rate, differ is unknown, as "
        "one seed bounds nothing." in made.summary
    )
    assert made.sections[0].figures[0].table.rows[0][3:5] == (None, None)
    html.html(made)


def in_rows(of: LrDecayResults) -> LrDecayResults:
    """The results as those of a table, whose errors are the smaller the better."""
    tuning, compared = (
        {cell: [*map(by_error, runs)] for cell, runs in cells.items()}
        for cells in (of.tuning, of.compared)
    )
    return of._replace(tuning=tuning, compared=compared, measure=ROWS)


def test_page_of_an_error_prefers_the_lower_one_in_its_own_unit():
    made = page(in_rows(results(ACCURACIES)), "python -m experiments lr-decay")
    assert "β = 0.87, test RMSE values (lower is better) over n = 3" in made.summary
    assert "see the rows in the same order" in made.summary
    # 100% − 95.93% as an error, and 100% − 95%.
    assert (
        "Rate inside did best under the constant schedule, 0.4067, −0.09333 (95% "
        "interval −0.122 to −0.06465) against step."
    ) in made.summary
    assert "from 0 under step: +0.09333 (95% interval +0.06465" in made.summary
    assert "Under-tuned" not in made.summary
    text = " ".join(words for part in made.sections for words in part.paragraphs)
    for absent in ("image", "accura", "points", "guess"):
        assert absent not in made.summary + text
    schedules, differences, tuned = (
        made.sections[place].figures[0] for place in (0, 1, 3)
    )
    assert schedules.table.formats["Test RMSE"] == "{:.4g}"
    assert differences.table.formats["From"] == "{:+.4g}"
    assert "counts as 3, the RMSE of predicting the mean." in tuned.table.caption
    labels = "Test RMSE", "Difference, RMSE (lower is better)"
    for figure, label in zip((schedules, differences), labels, strict=True):
        canvas = Canvas(layout="constrained")
        figure.draw(canvas, "black")
        assert canvas.axes[0].get_xlabel() == label
    canvas = Canvas(layout="constrained")
    schedules.draw(canvas, "black")
    assert canvas.axes[0].get_xlim()[1] < 1.2  # not times 100
    canvas = Canvas(layout="constrained")
    tuned.draw(canvas, "black")
    # From the best of the trials, whose accuracy is 90%, to 3.
    assert canvas.axes[0].get_ylim() == pytest.approx((0.9, 3.1))
    html.html(made)


def test_page_reports_a_larger_error_than_that_of_sgd_as_under_tuned():
    worse = {**ACCURACIES, "inside": [0.8, 0.81, 0.82]}
    made = page(in_rows(results(worse)), "python -m experiments lr-decay")
    assert "Under-tuned: Rate inside under step lost to SGD" in made.summary


DROP = Drop(0.37, factor=0.23, beta=0.83, curvature=0.71, at=11, steps=47)


def by_loop(drop: Drop, inside: bool) -> list[float]:
    theta, buffer, path = 1.0, 0.0, [1.0]
    for step in range(drop.steps):
        rate = drop.learning_rate * (drop.factor if step >= drop.at else 1)
        gradient = drop.curvature * theta
        if inside:
            buffer = drop.beta * buffer - rate * gradient
            theta += buffer
        else:
            buffer = drop.beta * buffer + gradient
            theta -= rate * buffer
        path.append(theta)
    return path


@pytest.mark.parametrize("drop", [DROP, Drop()])
@pytest.mark.parametrize("inside", [True, False])
def test_drop_is_the_same_by_equation_by_loop_and_in_the_library(drop, inside):
    want = by_loop(drop, inside)
    np.testing.assert_allclose(by_equation(drop, inside), want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(measured(drop, inside), want, rtol=1e-4, atol=2e-6)


def test_conventions_differ_from_the_drop_on_and_not_before():
    inside, outside = by_equation(DROP, True), by_equation(DROP, False)
    np.testing.assert_array_equal(inside[: DROP.at + 1], outside[: DROP.at + 1])
    velocity = inside[DROP.at] - inside[DROP.at - 1]
    apart = inside[DROP.at + 1] - outside[DROP.at + 1]
    # Inside, old steps keep their size; outside, they are scaled by the factor.
    assert apart == pytest.approx(DROP.beta * (1 - DROP.factor) * velocity)
