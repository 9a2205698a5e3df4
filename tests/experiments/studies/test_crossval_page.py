"""The page of a cross-validation, from synthetic runs."""

import math
from dataclasses import replace

import pytest
from matplotlib.figure import Figure as Canvas
from support.measures import ROWS, by_error
from support.synthetic import synthetic_comparison
from support.validated_runs import on_folds

from experiments.reporting import html
from experiments.studies.crossval.choice import CrossvalResults, FoldEstimate
from experiments.studies.crossval.page import betas_table, in_words, page
from experiments.studies.settings import Setting
from experiments.studies.validation import best, of_classes

MEASURE = of_classes(10)
PLAN = {
    "dataset": "invented <b>",
    "folds": 3,
    "epochs": 3,
    "batch_size": 64,
    "betas": [0.5, 0.8, 0.9],
    "effective_rates": [0.1, 0.25, 0.5],
}
ACCURACY = {0.0: 0.6, 0.5: 0.71, 0.8: 0.8, 0.9: 0.73}
GAINS = {0.1: 0.0, 0.25: 0.1, 0.5: 0.05}


def example(momentum=0.9, sgd=0.8, **changes) -> CrossvalResults:
    """Results for the settings of `PLAN`; the chosen ones have these accuracies."""
    trials = {
        Setting(beta, rate): on_folds([accuracy + gain + i / 100 for i in range(3)])
        for beta, accuracy in ACCURACY.items()
        for rate, gain in GAINS.items()
    }
    by_arm = {
        "sgd": {s: runs for s, runs in trials.items() if not s.beta},
        "momentum": {s: runs for s, runs in trials.items() if s.beta},
    }
    tests = {
        arm: synthetic_comparison({"keras": [accuracy + s / 1000 for s in range(4)]})
        for arm, accuracy in (("sgd", sgd), ("momentum", momentum))
    }
    tests["sgd"][0] = replace(tests["sgd"][0], test_metric=sgd + 0.002)
    chosen = {arm: best(trials, MEASURE) for arm, trials in by_arm.items()}
    none = {"sgd": [], "momentum": []}
    return CrossvalResults(by_arm, chosen, none, tests, MEASURE)._replace(**changes)


def written(results: CrossvalResults):
    """The page, and all its words."""
    groups = [*results.all_trials.values(), *results.tests.values()]
    ran = [run for group in groups for run in group]
    made = page(results, PLAN, ran, "python -m experiments crossval")
    words = [text for section in made.sections for text in section.paragraphs]
    return made, " ".join([made.summary, *words])


def rows(made, name):
    (figure,) = (f for s in made.sections for f in s.figures if f.name == name)
    return figure.table.rows


def test_the_summary_names_the_choice_and_the_paired_difference():
    made, words = written(example())
    assert (
        "chose beta 0.8 at learning rate 0.05 (effective rate 0.05/(1 − 0.8) = 0.25), "
        "which classifies 91.00%"
    ) in made.summary
    assert "momentum is better." in made.summary and "n = 4 paired" in made.summary
    assert "difference of +9.95 points" in made.summary
    assert "under-tuned" not in words and "may lie beyond" not in words


def test_momentum_that_loses_to_sgd_is_called_under_tuned():
    made, _ = written(example(momentum=0.7, sgd=0.9))
    assert "it is under-tuned, and this is no evidence for SGD." in made.summary


def test_a_smoke_run_concludes_nothing():
    made, words = written(example()._replace(smoke=True))
    assert made.summary.endswith("no verdict: a smoke run concludes nothing.")
    assert "momentum is better" not in words and "no difference is" not in words


def test_the_page_says_why_tune_may_find_another_verdict():
    _, words = written(example())
    assert "This is about batch size 64 and a constant learning rate." in words


def test_the_page_warns_of_a_choice_at_an_end_of_its_list():
    momentum, sgd = Setting(0.9, 0.5), Setting(0.0, 0.1)
    _, words = written(example(chosen={"momentum": momentum, "sgd": sgd}))
    assert "The chosen beta, 0.9, is the largest that was tried" in words
    assert "Momentum's effective rate, 0.5, is the largest that was tried" in words
    assert "SGD's effective rate, 0.1, is the smallest that was tried" in words


def test_a_curve_at_equal_learning_rate_has_all_settings_that_share_it():
    made, words = written(example())
    curve = [(row[0], *row[4:]) for row in rows(made, "equal-learning-rate")]
    assert curve == [(0.5, 0.1, 0.05), (0.8, 0.25, 0.05), (0.9, 0.5, 0.05)]
    assert len(rows(made, "equal-effective-rate")) == 4 * 3
    assert "No three of these settings" not in words


def test_without_a_shared_learning_rate_the_page_says_so():
    results = example()
    momentum = results.trials["momentum"].items()
    fewer = {setting: runs for setting, runs in momentum if setting.rate != 0.1}
    trials = {**results.trials, "momentum": fewer}
    _, words = written(results._replace(trials=trials))
    assert "No three of these settings share a learning rate" in words


def test_the_table_of_betas_marks_what_both_rules_choose():
    remarks = {row[0]: row[2] for row in betas_table(example()).rows}
    assert remarks[0.8] == "chosen, smallest beta within one standard error"
    assert remarks[0.0] == "SGD" and remarks[0.9] is None


def test_the_nested_estimate_is_shown_beside_the_best_mean():
    chosen = Setting(0.8, 0.25), Setting(0.0, 0.25)
    estimates = {
        arm: [FoldEstimate(f"fold {i}", setting, level + i / 50) for i in (1, 2, 3)]
        for arm, setting, level in zip(
            ("momentum", "sgd"), chosen, (0.8, 0.7), strict=True
        )
    }
    made, words = written(example(estimates=estimates))
    assert (
        "classifies 84.00% (95% interval 79.03 to 88.97) correctly, SGD 74.00%" in words
    )
    assert (
        "The best mean above, 91.00%, is +7.00 points from the unbiased one." in words
    )
    assert len(made.sections) == 4 and made.sections[2].tables[0].rows[1][0] == "fold 2"


@pytest.mark.parametrize("diverging", [False, True])
def test_the_page_is_written_even_if_runs_diverged(diverging, tmp_path):
    results = example()
    if diverging:
        lost = {s: on_folds([math.nan] * 3) for s in results.trials["momentum"]}
        results = results._replace(trials={**results.trials, "momentum": lost})
    made, _ = written(results)
    html.write(tmp_path, made)
    text = (tmp_path / "report.html").read_text()
    assert "invented &lt;b&gt;" in text and "<b>" not in text


def test_sgd_is_named_by_its_learning_rate_alone():
    assert in_words(Setting(0.0, 0.25)) == "learning rate 0.25"


def in_rows(results: CrossvalResults) -> CrossvalResults:
    """The results as those of a table, whose errors are the smaller the better."""
    trials = {
        arm: {setting: [*map(by_error, runs)] for setting, runs in of_arm.items()}
        for arm, of_arm in results.trials.items()
    }
    return results._replace(
        trials=trials,
        chosen={arm: best(of_arm, ROWS) for arm, of_arm in trials.items()},
        tests={arm: [*map(by_error, runs)] for arm, runs in results.tests.items()},
        measure=ROWS,
    )


def test_the_page_of_an_error_prefers_the_lower_one_in_its_own_unit(tmp_path):
    made, words = written(in_rows(example()))
    assert "chose beta 0.8 at learning rate 0.05" in made.summary
    # Errors of 0.8, 0.9 and 1.0; s/√3 times Student's 4.303 is 0.2484.
    assert (
        "which has the RMSE 0.9 (95% interval 0.6516 to 1.148) on the rows of a fold, "
        "where lower is better; the smallest beta within one standard error of it is "
        "0.8. On the test rows this choice reaches 0.985, and SGD"
    ) in made.summary
    assert "a difference of −0.995 (95% interval −1.011 to −0.9791)" in made.summary
    assert "momentum is better." in made.summary
    assert "Both trained on the training rows; each run read the test rows" in words
    assert "settings with equal RMSE" in words
    for absent in ("image", "accura", "points", "guess"):
        assert absent not in words
    figure, seeds = made.sections[0].figures[0], made.sections[1].figures[0]
    assert (
        "The axis ends three tenths of the way from the best to 3, the RMSE of pre"
        in (figure.caption)
    )
    assert list(figure.table.header[:4]) == ["Beta", "RMSE", "Lower", "Upper"]
    assert set(figure.table.formats.values()) == {"{:.4g}"}
    assert seeds.table.formats["Difference"] == "{:+.4g}"
    canvas = Canvas(layout="constrained")
    figure.draw(canvas, "black")
    (axes,) = canvas.axes
    assert axes.get_ylabel() == "Validation RMSE"
    low, high = axes.get_ylim()
    assert low < 0.9 and high == pytest.approx(0.9 + 0.3 * (3 - 0.9))
    assert "%" not in "".join(label.get_text() for label in axes.get_yticklabels())
    html.write(tmp_path, made)
    assert "cut at 0 and 100%" not in (tmp_path / "report.html").read_text()


def test_momentum_of_a_larger_error_is_called_under_tuned():
    made, _ = written(in_rows(example(momentum=0.7, sgd=0.9)))
    assert "a difference of +2.005" in made.summary and "under-tuned" in made.summary


def test_the_best_of_many_errors_is_biased_downward():
    chosen = Setting(0.8, 0.25), Setting(0.0, 0.25)
    estimates = {
        arm: [FoldEstimate(f"fold {i}", setting, level - i / 5) for i in (1, 2, 3)]
        for arm, setting, level in zip(
            ("momentum", "sgd"), chosen, (2.0, 3.0), strict=True
        )
    }
    made, words = written(in_rows(example())._replace(estimates=estimates))
    assert "The RMSE of the best of many settings is biased downward" in words
    assert "reaches 1.6 (95% interval 1.103 to 2.097), SGD 2.6" in words
    assert "The best mean above, 0.9, is −0.7 from the unbiased one." in words
    assert made.sections[2].heading.endswith("on rows that it never saw?")
