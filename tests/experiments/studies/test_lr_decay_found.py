"""`lr-decay`: what is chosen, extended, compared and said."""

from dataclasses import replace

import pytest
from support.synthetic import diverged, synthetic_run

from experiments.records.runs import Run
from experiments.reporting import html
from experiments.studies.lr_decay.cells import (
    Cell,
    best,
    every,
    extended,
    to_report,
)
from experiments.studies.lr_decay.found import (
    CORRECTED,
    INSIDE_GAINS,
    SAME_RATE,
    TUNED_APART,
    Found,
    comparisons,
)
from experiments.studies.lr_decay.page import page

RATES = [0.13, 0.26, 0.52]
SCHEDULES = ("constant", "step")
PLAN = {"dataset": "digits", "beta": 0.87}


def tried(accuracy: float, loss: float = 0.3) -> Run:
    """A tuning run with that validation accuracy at its end."""
    made = synthetic_run("sgd", 1000, test=False)
    last = made.epochs[-1]._replace(
        train_loss=0.2, validation_accuracy=accuracy, validation_loss=loss
    )
    return replace(made, epochs=(*made.epochs[:-1], last))


def tuning(chosen: dict[tuple[str, str], float]) -> dict[Cell, list[Run]]:
    """Trials of which the rates given are the best, and 0.26 elsewhere."""
    return {
        cell: [tried(0.9 - abs(cell.rate - chosen.get(cell[:2], 0.26)))] * 2
        for cell in every(SCHEDULES, RATES)
    }


def found(accuracies: dict[str, list[float]], chosen=None) -> Found:
    """A study of given test accuracies by arm.

    At a constant rate inside does as outside; under the steps "inside" is at its own
    rate, and "moved" at that of outside.
    """
    trials = tuning(chosen or {("step", "inside"): 0.13})
    cells = to_report(best(trials, 10))
    names = {
        Cell("constant", "inside", 0.26): "outside",
        Cell("step", "inside", 0.26): "moved",
    }
    compared = {}
    for cell in cells:
        values = accuracies[names.get(cell, cell.arm)]
        compared[cell] = [
            with_curve(synthetic_run(cell.arm, seed, test_accuracy=value))
            for seed, value in enumerate(values)
        ]
    return Found(PLAN, trials, compared, 10)


def with_curve(run: Run) -> Run:
    last = run.epochs[-1]._replace(train_loss=0.2)
    return replace(run, epochs=(*run.epochs[:-1], last))


ACCURACIES = {
    "sgd": [0.90, 0.91, 0.92],
    "inside": [0.94, 0.95, 0.96],
    "moved": [0.80, 0.95, 0.97],
    "outside": [0.95, 0.96, 0.968],
    "corrected": [0.95, 0.96, 0.967],
}


def test_every_schedule_and_arm_has_the_same_trials():
    cells = every(SCHEDULES, RATES)
    assert len(cells) == len(set(cells)) == 2 * 3 * 3
    for schedule in SCHEDULES:
        for arm in ("sgd", "inside", "outside"):
            assert [c.rate for c in cells if c[:2] == (schedule, arm)] == RATES


def test_best_rate_is_the_lower_of_equals_and_no_diverged_one():
    trials = tuning({("step", "outside"): 0.52})
    lost = Cell("constant", "inside", 0.26)
    trials[lost] = [diverged(run) for run in trials[lost]]
    chosen = {cell[:2]: cell.rate for cell in best(trials, 10)}
    assert len(chosen) == 6
    assert chosen["step", "outside"] == 0.52
    assert chosen["constant", "sgd"] == 0.26
    trials = {cell: [tried(0.7)] for cell in reversed(every(SCHEDULES, RATES))}
    assert {cell.rate for cell in best(trials, 10)} == {0.13}


def test_one_diverged_seed_loses_to_a_worse_rate_without():
    trials = {
        Cell("step", "sgd", 0.1): [tried(0.6), tried(0.6)],
        Cell("step", "sgd", 0.2): [tried(0.99), diverged(tried(0.99))],
    }
    assert [cell.rate for cell in best(trials, 10)] == [0.1]


def test_rates_grow_only_beyond_a_chosen_end():
    inner = Cell("step", "sgd", 0.26)
    assert extended(RATES, [inner]) == RATES
    assert extended(RATES, [inner, inner._replace(rate=0.13)]) == pytest.approx(
        [0.065, *RATES]
    )
    both = [inner._replace(rate=rate) for rate in (0.13, 0.52)]
    assert extended(RATES, both) == pytest.approx([0.065, *RATES, 1.04])
    uneven = [0.1, 0.2, 0.8]
    assert extended(uneven, [inner._replace(rate=0.8)]) == pytest.approx([*uneven, 3.2])


def test_changed_conventions_are_reported_at_the_rate_of_outside():
    chosen = [
        Cell("step", "sgd", 0.52),
        Cell("step", "inside", 0.13),
        Cell("step", "outside", 0.26),
    ]
    assert to_report(chosen) == [
        *chosen,
        Cell("step", "inside", 0.26),
        Cell("step", "corrected", 0.26),
    ]
    chosen[1] = Cell("step", "inside", 0.26)
    assert len(to_report(chosen)) == 4


def test_comparisons_are_paired_and_of_the_right_cells():
    parts = comparisons(found(ACCURACIES))
    step = {question: own[1] for question, own in parts.items()}
    assert step[TUNED_APART].first == Cell("step", "inside", 0.13)
    assert step[SAME_RATE].first == Cell("step", "inside", 0.26)
    assert step[CORRECTED].second == Cell("step", "outside", 0.26)
    assert step[TUNED_APART].difference.mean == pytest.approx(-0.028 / 3)
    assert step[SAME_RATE].difference.mean == pytest.approx(-0.158 / 3)
    assert step[INSIDE_GAINS].difference == pytest.approx((0.04, 0.04, 0.04))


def test_page_says_where_conventions_differ_and_where_not():
    told = page(found(ACCURACIES), "python -m experiments lr-decay")
    assert "n = 3 paired seeds" in told.summary
    assert "SGD did best under the constant schedule, 91.00%" in told.summary
    assert "not to be told from 0" in told.summary
    assert (
        "each at its own tuned rate, differs from 0 under step: −0.93 points (95% "
        "interval −1.22 to −0.65)."
    ) in told.summary
    assert "for outside, differ under no changing schedule." in told.summary
    assert "one method, and differ by +0.00 points (95% interval" in told.summary
    assert ", by rounding alone: a smaller difference" in told.summary
    assert "Under-tuned" not in told.summary
    html.html(told)


def test_page_tells_the_luck_of_tuning_from_a_difference_of_conventions():
    worse = {**ACCURACIES, "outside": [0.85, 0.86, 0.868]}
    chosen = {("step", "inside"): 0.13, ("constant", "inside"): 0.13}
    told = page(found(worse, chosen), "python -m experiments lr-decay")
    assert "by the luck of tuning, which chose 0.13 and 0.26" in told.summary
    assert "differs from 0 under step: +9.07 points" in told.summary


def test_page_admits_what_is_under_tuned_or_at_an_edge_or_diverged():
    worse = {**ACCURACIES, "inside": [0.8, 0.81, 0.82]}
    result = found(worse)
    outside = Cell("step", "outside", 0.26)
    first, *others = result.compared[outside]
    compared = {**result.compared, outside: [diverged(first), *others]}
    result = result._replace(compared=compared)
    told = page(result, "python -m experiments lr-decay")
    assert "Under-tuned: Rate inside under step lost to SGD" in told.summary
    tuned = told.sections[-1].paragraphs[0]
    assert "Still at an edge of them: inside under step." in tuned
    table = told.sections[0].figures[0].table
    lost = {(row[0], row[1]): row[7] for row in table.rows if row[7]}
    assert lost == {("step", "Rate outside"): 1}


def test_page_of_one_seed_has_no_interval():
    single = {arm: values[:1] for arm, values in ACCURACIES.items()}
    told = page(found(single), "python -m experiments lr-decay")
    assert "each at its own tuned rate, differ: one seed can't tell." in told.summary
    assert told.sections[0].figures[0].table.rows[0][5:7] == (None, None)
    html.html(told)
