"""The page of the study of batch sizes, from invented runs."""

import math

import pytest
from support.synthetic import synthetic_run
from support.validated_runs import validated

from experiments.reporting import html
from experiments.studies.batch_size.page import gains, page
from experiments.studies.batch_size.rules import Cell, series
from experiments.studies.batch_size.tables import Found, chosen
from experiments.studies.settings import Setting
from experiments.studies.validation import best

PLAN = {
    "dataset": "invented <b>",
    "epochs": 3,
    "seeds": 4,
    "tuning_seeds": 1,
    "effective_rates": [0.1, 0.3, 0.9],
    "extensions": 2,
    "beta": 0.8,
    "anchor": 16,
}
WAYS = series(0.8, 16)
TUNED = {0.1: 0.7, 0.3: 0.9, 0.9: math.nan}  # validation accuracies by rate


def tuning(accuracy, cell, **settings):
    if math.isnan(accuracy):
        return validated(
            0.1, accuracy, accuracy, batch_size=cell.batch_size, **settings
        )
    return validated(accuracy, batch_size=cell.batch_size, **settings)


def found(momentum, held=(0.0, 0.0, 0.0), tuned=TUNED) -> Found:
    """What both momenta gain at batch sizes 8, 16 and 32; every seed a bit more."""
    extra = {"sgd": (0.0, 0.0, 0.0), "momentum": momentum, "held": held}
    cells = [(Cell(size, key), key) for size in (8, 16, 32) for key in WAYS]
    trials, compared = {}, {}
    for cell, key in cells:
        beta = WAYS[key].beta(cell.batch_size)
        trials[cell] = {
            Setting(beta, rate): [tuning(accuracy, cell, beta=beta)]
            for rate, accuracy in tuned.items()
        }
        gain = extra[key][(8, 16, 32).index(cell.batch_size)]
        compared[cell] = [
            synthetic_run(
                "keras",
                seed,
                test_accuracy=0.5 + gain + seed / 100 + (seed % 2) * abs(gain) / 50,
                batch_size=cell.batch_size,
                beta=beta,
            )
            for seed in range(4)
        ]
    choice = {cell: best(own, 10) for cell, own in trials.items()}
    return Found(WAYS, trials, choice, compared, [64], 10)


def told(of: Found):
    ran = [run for own in of.compared.values() for run in own]
    made = page(of, PLAN, ran, "python -m experiments batch-size")
    words = [each for section in made.sections for each in section.paragraphs]
    return made, " ".join([made.summary, *words])


def test_gains_are_paired_by_seed():
    got = gains(found((0.0, 0.1, 0.2)), "momentum")
    assert list(got) == [8, 16, 32]
    assert got[16].mean == pytest.approx(0.101)
    assert got[16].low == pytest.approx(0.101 - 3.182446 * 0.001 * (4 / 3) ** 0.5 / 2)
    assert got[8] == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("momentum", "words"),
    [
        ((0.0, 0.1, 0.2), "begins to matter at batch size 16, and does from there on."),
        ((0.1, 0.1, 0.2), "is better than SGD at every batch size."),
        ((0.1, 0.0, 0.2), "is better than SGD at the largest batch size alone, 32."),
        ((0.1, 0.1, 0.0), "shows no gain over SGD at the largest batch size, 32."),
    ],
)
def test_summary_says_from_where_on_momentum_matters(momentum, words):
    made, _ = told(found(momentum))
    assert f"momentum with beta 0.8 {words}" in made.summary
    assert made.summary.endswith(
        "shows no gain over SGD at the largest batch size, 32."
    )
    assert "under-tuned" not in made.summary


def test_batch_sizes_at_which_momentum_lost_are_flagged_as_under_tuned():
    made, _ = told(found((-0.1, 0.0, -0.2)))
    assert "At 8, 32 tuned momentum lost to SGD, which it contains as" in made.summary


def test_best_rate_inside_its_range_is_told_and_one_at_an_end_too():
    _, words = told(found((0.0, 0.1, 0.2)))
    assert "at most 2 times. Every best one lies between others." in words
    _, words = told(found((0.0, 0.1, 0.2), tuned={0.1: 0.9, 0.3: 0.8, 0.9: 0.7}))
    assert (
        "The best is at an end for SGD at batch size 8; Momentum, beta 0.8 at" in words
    )


def test_largest_stable_rate_is_that_at_which_no_run_diverged():
    of = found((0.0, 0.1, 0.2))
    assert {row[-1] for row in chosen(of).rows} == {0.3}
    lost = {
        cell: {setting: own for setting, own in trials.items() if setting.rate == 0.9}
        for cell, trials in of.tuned.items()
    }
    assert {row[-1] for row in chosen(of._replace(tuned=lost)).rows} == {None}


def test_page_is_written_with_names_escaped(tmp_path):
    made, words = told(found((0.0, 0.1, math.nan)))
    assert "Left out, for there are fewer images to train on: 64." in words
    html.write(tmp_path, made)
    text = (tmp_path / "report.html").read_text()
    assert "invented &lt;b&gt;" in text and "<b>" not in text
