"""The page of a sweep: what it claims, and what it concedes."""

import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import ScalarFormatter
from support.measures import ROWS, by_error
from support.reports import Reader
from support.synthetic import diverged, synthetic_run
from support.validated_runs import validated

from experiments.reporting import html
from experiments.reporting.page import Page
from experiments.studies.sweep import plan
from experiments.studies.sweep.options import BUDGETS
from experiments.studies.sweep.page import page
from experiments.studies.sweep.plan import first_round
from experiments.studies.sweep.results import SweepResults, result
from experiments.studies.sweep.space import Side, Space, Trial
from experiments.studies.validation import of_classes

BUDGET = BUDGETS["default"]._replace(
    epochs=3,
    seeds=3,
    methods=("sgd", "momentum", "qhm"),
    batch_sizes=(16,),
    effective_rate=(0.02, 2.0),
    one_minus_beta=(0.004, 0.5),
    sampler="grid",
    trials=16,
)
SGD = [0.90, 0.91, 0.92]
TEN = of_classes(10)


def score(trial: Trial, space: Space) -> float:
    """Best in the middle of the space."""
    rate = space.effective_rate.share(trial.effective_rate) - 0.45
    other = 0.0
    if trial.one_minus_beta < 1:
        other = space.one_minus_beta.share(trial.one_minus_beta) - 0.4
    return 0.95 - rate**2 - other**2 / 2


def swept(
    momentum=SGD,
    budget=BUDGET,
    rounds=None,
    center=None,
    lost=(2, 20),
    measure=TEN,
) -> SweepResults:
    """A sweep whose final accuracies are given; two of its trials diverged."""
    rounds = rounds or [first_round(budget)]
    results = []
    for number, trial in enumerate(plan.trials(budget, rounds)):
        run = validated(
            score(trial, center or rounds[0].space),
            arm=trial.method,
            seed=1000,
            test_accuracy=math.nan,
            learning_rate=trial.effective_rate * trial.one_minus_beta,
            beta=trial.beta,
        )
        run = diverged(run) if number in lost else run
        run = run if measure == TEN else by_error(run)
        results.append(result(trial, [run], measure))
    values = {"sgd": SGD, "momentum": momentum, "qhm": [0.93, 0.91, 0.98]}
    final = {
        method: [synthetic_run(method, seed, test_accuracy=x) for seed, x in pairs]
        for method, accuracies in values.items()
        if (pairs := list(enumerate(accuracies)))
    }
    if measure != TEN:
        final = {method: list(map(by_error, runs)) for method, runs in final.items()}
    return SweepResults(budget, rounds, results, final, measure)


def written(of: SweepResults) -> Page:
    return page(of, {"dataset": "digits", "seeds": 3}, "python -m experiments sweep")


def table(of: Page, caption: str) -> list[dict]:
    """The rows of the table whose caption begins so, by heading."""
    tables = [
        t for s in of.sections for t in [*s.tables, *(f.table for f in s.figures)]
    ]
    (chosen,) = [t for t in tables if t.caption.startswith(caption)]
    return [dict(zip(chosen.header, row, strict=True)) for row in chosen.rows]


def test_momentum_that_loses_to_sgd_is_under_tuned():
    made = written(swept(momentum=[0.80, 0.82, 0.81]))
    assert "it is under-tuned, and this is no evidence for SGD" in made.summary
    (row, _) = table(made, "Paired differences")
    assert row["points"] == pytest.approx(-10) and "under-tuned" in row["verdict"]


def test_interval_that_contains_zero_names_no_winner():
    made = written(swept(momentum=[0.91, 0.90, 0.93]))
    assert "under-tuned" not in made.summary
    assert "Momentum (α = 0.00275175, β = 0.97554, batch size 16)" in made.summary
    (row, _) = table(made, "Paired differences")
    assert row["verdict"] == "no difference is shown, as the interval contains 0"
    assert row["from"] < 0 < row["to"] and row["n"] == 3


def test_a_smoke_run_concludes_nothing():
    made = written(swept(momentum=[0.912, 0.921, 0.930])._replace(smoke=True))
    (row, _) = table(made, "Paired differences")
    assert row["verdict"] == "no verdict: a smoke run concludes nothing"
    assert "momentum is better" not in made.summary


def test_difference_is_taken_seed_by_seed():
    made = written(swept(momentum=[0.912, 0.921, 0.930]))
    (row, _) = table(made, "Paired differences")
    assert row["points"] == pytest.approx(1.1)
    assert row["verdict"] == "momentum is better"
    assert row["to"] - row["from"] == pytest.approx(2 * 4.3027 * 0.1 / 3**0.5, rel=1e-3)


def test_divergence_is_stated_as_a_share_of_the_trials():
    made = written(swept())
    assert "Trials that diverged: 6% of SGD, 6% of Momentum, 0% of" in made.summary
    rows = table(made, "Divergence")
    assert [(r["trials"], r["diverged"], r["share"]) for r in rows] == [
        (16, 1, 1 / 16),
        (16, 1, 1 / 16),
        (16, 0, 0.0),
    ]
    assert rows[2]["lowest rate that diverged"] is None


def test_best_trials_inside_the_space_are_reported_as_inside():
    made = written(swept())
    assert "still at an edge" not in made.summary
    paragraphs = " ".join(made.sections[1].paragraphs)
    assert "Momentum: the best trial lies inside." in paragraphs


def test_best_trial_at_an_edge_is_reported_with_the_reason():
    shifted = BUDGET.space._replace(
        effective_rate=BUDGET.space.effective_rate._replace(low=20.0, high=2000.0)
    )
    rounds = [first_round(BUDGET)]
    best = {"sgd": Trial("sgd", 1.9, 1.0, 16)}
    following = plan.next_round(BUDGET, rounds, best)
    assert following is not None and following.side == Side("effective_rate", True)
    made = written(swept(rounds=[*rounds, following], center=shifted))
    assert "is still at an edge of the space" in made.summary
    paragraphs = " ".join(made.sections[1].paragraphs)
    assert (
        "SGD: the best trial is at the upper end of the effective learning rate, and "
        "the plan allows no more extensions." in paragraphs
    )
    first, second = table(made, "Rounds of trials")
    assert first["why"] == "as declared" and second["trials of each method"] == 8
    assert second["effective learning rate α/(1 − β)"] == "0.02 to 20"


def test_momentum_at_the_edge_of_sgd_is_reported_as_such():
    budget = BUDGET._replace(one_minus_beta=(0.1, 1.0))
    shifted = BUDGET.space._replace(
        one_minus_beta=BUDGET.space.one_minus_beta._replace(low=1.0, high=10.0)
    )
    rounds: list[plan.Round] = [first_round(budget)]
    made = written(swept(budget=budget, rounds=rounds, center=shifted))
    paragraphs = " ".join(made.sections[1].paragraphs)
    assert (
        "Momentum: the best trial is at the upper end of 1 − β, and the space can't "
        "grow there, as β = 0 is SGD itself." in paragraphs
    )


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", "sobol"])
def test_page_is_written_with_every_figure_and_its_table(sampler, tmp_path):
    made = written(swept(budget=BUDGET._replace(sampler=sampler)))
    assert html.write(tmp_path, made) == tmp_path / "report.html"
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    maps = {"map-momentum-16", "map-qhm-16"}
    assert names == {"final", "rate", "beta", "budget", *maps}
    written_page = (tmp_path / "report.html").read_text()
    # A raster would leave the page, or be barred from it.
    assert "<image" not in written_page
    json.loads((tmp_path / "summary.json").read_text())


def test_every_number_traces_to_a_run():
    results = swept()
    rows = table(written(results), "Trials, in the order")
    assert [row["run"] for row in rows] == [
        each.runs[0].config_hash for each in results.results
    ]
    finals = table(written(results), "Final runs.")
    assert {row["run"] for row in finals} == {
        run.config_hash for runs in results.final.values() for run in runs
    }


def errors(sampler: str) -> Page:
    """The page of errors, the lower the better; momentum reaches the lowest."""
    budget = BUDGET._replace(sampler=sampler, methods=("sgd", "momentum"))
    results = swept(momentum=[0.932, 0.941, 0.950], budget=budget, measure=ROWS)
    del results.final["qhm"]  # pyright: ignore
    return written(results)


def test_page_of_errors_is_in_their_unit_and_the_lower_one_wins():
    made = errors("grid")
    assert (
        "test RMSE values (lower is better) over n = 3 paired seeds (runs of one seed "
        "start from the same parameters and see the rows in the same order): SGD (α = "
    ) in made.summary
    assert (
        "0.59 (95% interval 0.3664 to 0.8136), −0.31 (95% interval −0.3348 to −0.2852) "
        "against SGD: momentum is better."
    ) in made.summary
    (row,) = table(made, "Paired differences from SGD in test RMSE (lower is better),")
    assert row["difference"] == pytest.approx(-0.31)
    assert row["verdict"] == "momentum is better"
    rows = table(made, "Final runs: means")
    assert [each["test RMSE"] for each in rows] == pytest.approx([0.9, 0.59])
    trials = [row for row in table(made, "Trials,") if row["method"] == "Momentum"]
    best = min(trials, key=lambda row: row["validation RMSE"])
    (_, chosen) = rows
    assert chosen["α/(1 − β)"] == best["α/(1 − β)"]
    assert chosen["β"] == best["β"]
    stable = table(made, "Divergence over")[0]
    assert stable["decades within 2% of the best"] < 1
    text = Reader(html.html(made)).text
    assert "below that of predicting the mean, or one" in text
    assert "The best of more trials is lower" in text
    assert "that lie higher or diverged" in text
    assert "diverged counts as 3, the RMSE of predicting the mean." in text
    for of_images in ("accurac", "image", "point", "classes"):
        assert of_images not in text.split("Repeat")[0].replace("pointer", "")


@pytest.mark.parametrize("sampler", ["grid", "sobol"])
def test_figures_of_errors_name_their_axes_and_show_the_lowest(sampler):
    figures = {f.name: f for s in errors(sampler).sections for f in s.figures}

    def axes_of(name):
        canvas = Canvas()
        figures[name].draw(canvas, "black")
        return canvas.axes

    (final,) = axes_of("final")
    assert final.get_xlabel() == "test RMSE (lower is better)"
    assert isinstance(final.xaxis.get_major_formatter(), ScalarFormatter)
    (by_beta,) = axes_of("beta")
    assert by_beta.get_ylabel() == "validation RMSE (lower is better)"
    low, high = by_beta.get_ylim()
    trials = table(errors(sampler), "Trials,")
    values = {
        method: [row["validation RMSE"] for row in trials if row["method"] == method]
        for method in ("SGD", "Momentum")
    }
    trained = [x for of in values.values() for x in of if not math.isnan(x)]
    assert low < min(trained) and high == pytest.approx(np.quantile(trained, 0.75))
    (budget,) = axes_of("budget")
    assert budget.get_ylabel() == "best validation RMSE so far"
    for line in budget.lines:
        assert (np.diff(np.asarray(line.get_ydata())) <= 0).all()
    low, high = budget.get_ylim()
    assert low < min(trained) < high
    rows = table(errors(sampler), "The best validation RMSE (lower is better) after")
    assert all(row["10% of orders"] <= row["median"] <= row["90%"] for row in rows)
    tiles, *bar = axes_of("map-momentum-16")
    if sampler == "grid":
        words = [text.get_text() for text in tiles.texts]
        assert f"{np.nanmin(values['Momentum']):.3g}" in words and "×" in words
    else:
        assert bar[0].yaxis.get_major_formatter()(0.25) == "0.25"
