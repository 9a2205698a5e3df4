"""`tune`: the candidates, which are equally many, the conclusions and the page."""

import math

import pytest
from matplotlib.figure import Figure as Canvas
from support.measures import ROWS, by_error
from support.synthetic import diverged
from support.validated_runs import validated

from experiments.records.runs import Run
from experiments.reporting import drawing, html
from experiments.studies.sweep import plan as sweep_plan
from experiments.studies.sweep import results as sweep_results
from experiments.studies.sweep.results import SweepResults, TrialResult
from experiments.studies.sweep.space import Trial
from experiments.studies.tune import plan
from experiments.studies.tune.options import BUDGETS, SCREENED
from experiments.studies.tune.page import page
from experiments.studies.tune.plan import Candidate, TuneResults
from experiments.studies.validation import of_classes

MEASURE = of_classes(10)
BUDGET = BUDGETS["smoke"]._replace(
    finalists=2, batch_sizes=(48, 12, 96), schedules=("constant", "step"), trials=4
)
PLAN = {"dataset": "digits"}, "python -m experiments tune"
CENTER = Candidate(Trial("nesterov", 0.2468, 0.135, 48), "step")


def run(accuracy: float, seed: int = 1000, arm: str = "sgd", **settings) -> Run:
    """A run with that accuracy on the validation and on the test images."""
    settings |= {"arm": arm, "seed": seed, "test": True}
    return validated(accuracy, test_accuracy=accuracy, **settings)


def screened(**accuracies: list[float]) -> list[TrialResult]:
    """Trials at rates 0.1, 0.2, … with these accuracies; NaN for one that diverged."""
    return [
        sweep_results.result(
            Trial(method, 0.1 * place, 1.0 if method == "sgd" else 0.2, 48),
            [diverged(run(0.9)) if math.isnan(value) else run(value)],
            MEASURE,
        )
        for method, values in accuracies.items()
        for place, value in enumerate(values, start=1)
    ]


TRIALS = screened(
    sgd=[0.7, 0.8, 0.6, math.nan],
    momentum=[0.7, math.nan, 0.85, 0.2],
    nesterov=[0.86, 0.5, 0.86, 0.1],
)


def tuned(sgd: list[float], momentum: list[float], best: float = 0.2468) -> TuneResults:
    """A study whose final accuracies are given; the best rate of momentum is `best`."""
    centers = {"sgd": center_of("sgd"), "nesterov": CENTER}
    settled = {}
    for method, center in centers.items():
        tried = [center, *plan.rungs(center, 2.0), *plan.rungs(center, 4.0)]
        settled[method] = {
            each: [run(0.9 - 0.1 * abs(math.log(each.trial.effective_rate / best)))]
            for each in tried
        }
    reported = {
        method: [
            run(value, seed, method, schedule="step", batch_size=48)
            for seed, value in enumerate(values)
        ]
        for method, values in (("sgd", sgd), ("nesterov", momentum))
    }
    first = sweep_plan.first_round(BUDGET.screening)
    results = [
        sweep_results.result(trial, [run(0.5 + 0.01 * place)], MEASURE)
        for place, trial in enumerate(sweep_plan.trials(BUDGET.screening, [first]))
    ]
    none = {method: [] for method in SCREENED}
    screening = SweepResults(BUDGET.screening, [first], results, none, MEASURE)
    return TuneResults(
        BUDGET, screening, settled, centers, 4.0, reported, 777, MEASURE, 0.11, 400
    )


def center_of(method: str) -> Candidate:
    trial = CENTER.trial._replace(method=method, one_minus_beta=1.0)
    return CENTER._replace(trial=trial)


def test_better_momentum_is_chosen_beside_sgd():
    assert plan.chosen_methods(TRIALS) == ("sgd", "nesterov")
    worse = screened(sgd=[0.95], momentum=[0.9], nesterov=[0.8])
    assert plan.chosen_methods(worse) == ("sgd", "momentum")


def test_finalists_get_every_batch_size_and_schedule_at_proportional_rates():
    tried = plan.candidates(BUDGET, TRIALS, "nesterov")
    assert len(tried) == len(set(tried)) == 2 * 3 * 2
    assert {each.trial.one_minus_beta for each in tried} == {0.2}
    # The third trial is as good as the first, and comes after it.
    assert [
        (each.trial.effective_rate, each.trial.batch_size, each.schedule)
        for each in tried[:8]
    ] == [
        (0.1, 48, "constant"),
        (0.1, 48, "step"),
        (0.025, 12, "constant"),
        (0.025, 12, "step"),
        (0.2, 96, "constant"),
        (0.2, 96, "step"),
        (0.3, 48, "constant"),
        (0.3, 48, "step"),
    ]


def test_every_method_has_equally_many_candidates_and_no_diverged_finalist():
    counts = {
        method: len(plan.candidates(BUDGET, TRIALS, method)) for method in SCREENED
    }
    assert len(set(counts.values())) == 1
    momenta = plan.candidates(BUDGET, TRIALS, "momentum")
    rates = {c.trial.effective_rate for c in momenta if c.trial.batch_size == 48}
    assert rates == {0.1, 0.3}


def test_rungs_change_the_rate_and_nothing_else():
    low, high = plan.rungs(CENTER, 4.0)
    assert (low.trial.effective_rate, high.trial.effective_rate) == (0.0617, 0.9872)
    assert low._replace(trial=CENTER.trial) == high._replace(trial=CENTER.trial)
    assert low.trial._replace(effective_rate=0.2468) == CENTER.trial


def test_best_rates_and_batch_sizes_at_an_edge_are_reported():
    middle = tuned([0.8, 0.81], [0.8, 0.81])
    assert plan.winner(middle, "nesterov") == CENTER
    assert plan.at_edge(middle, "nesterov") == []
    low = tuned([0.8], [0.8], best=0.01)
    assert plan.at_edge(low, "nesterov") == ["learning rate"]
    made = page(low, *PLAN).summary
    assert "and the best learning rate of Nesterov momentum." in made
    assert plan.at_edge(tuned([0.8], [0.8], best=0.12), "nesterov") == []
    largest = BUDGET._replace(batch_sizes=(12, 48))
    assert plan.at_edge(middle._replace(budget=largest), "sgd") == ["batch size"]


@pytest.mark.parametrize(
    ("sizes", "images", "more", "said"),
    [
        ((48, 12, 96), 777, (), None),
        ((48,), 777, (), None),
        ((12, 48), 96, (96,), "size of SGD (48) and of Nesterov momentum (48) is at"),
        ((96, 48), 777, (24,), "an end of those that were tried, 48 to 96, and none"),
        ((12, 48), 95, (), "may lie beyond. The data allow no other."),
    ],
)
def test_best_batch_size_at_an_end_is_reported_with_a_command_that_tries_more(
    sizes, images, more, said
):
    budget = BUDGET._replace(batch_sizes=sizes)
    result = tuned([0.8], [0.8])._replace(budget=budget, examples=images)
    assert plan.beyond(result) == more
    extended = "python -m experiments tune --batch-sizes many" if more else None
    made = page(result, *PLAN, extended)
    section = next(each for each in made.sections if "Batch size" in each.heading)
    assert section.code == extended
    if said is None:
        assert len(section.paragraphs) == 1
        return
    assert said in section.paragraphs[1]
    tries = [f"at the end of this section also tries {size}." for size in more]
    assert all(each in section.paragraphs[1] for each in tries)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sgd", "momentum", "method", "said"),
    [
        ([0.8, 0.82, 0.81], [0.84, 0.85, 0.85], "nesterov", "momentum is better."),
        (
            [0.8, 0.84, 0.81],
            [0.84, 0.82, 0.85],
            "sgd",
            "the interval contains 0. So SGD, the simpler one, is recommended.",
        ),
        (
            [0.84, 0.85, 0.85],
            [0.8, 0.82, 0.81],
            "sgd",
            "it is under-tuned, and this is no evidence for SGD. SGD is recommended "
            "because nothing tried was better.",
        ),
        ([0.8], [0.9], "sgd", "one seed bounds nothing. So SGD, the simpler one, is"),
    ],
)
def test_momentum_is_recommended_only_where_it_is_better(sgd, momentum, method, said):
    result = tuned(sgd, momentum)
    assert plan.recommended(result) == method
    made = page(result, *PLAN)
    assert said in made.summary
    code = made.sections[0].code
    assert code is not None
    assert ("nesterov=True" in code) == (method == "nesterov")
    html.html(made)


def test_nothing_is_recommended_that_is_no_better_than_chance():
    # Of 400 images, chance of 11% reaches 11% + 1.96·√(0.11·0.89/400) = 14.07%.
    guessing = tuned([0.139, 0.141, 0.14], [0.13, 0.14, 0.12])
    assert plan.recommended(guessing) is None
    made = page(guessing, *PLAN)
    assert "Nothing that was tried on digits is better than chance" in made.summary
    assert "chance is 11.00%" in made.summary and "Train" not in made.summary
    assert [section.code for section in made.sections] == [None] * len(made.sections)
    assert "recommended." not in made.sections[0].paragraphs[0]
    barely = tuned([0.142, 0.141, 0.140], [0.13, 0.14, 0.12])
    assert plan.recommended(barely) == "sgd"
    momentum = tuned([0.12, 0.13, 0.14], [0.142, 0.141, 0.14])
    assert plan.recommended(momentum) == "nesterov"
    made = page(momentum, *PLAN)
    assert "is recommended, as SGD is not better than chance." in made.summary
    more = guessing._replace(test_examples=40_000)
    assert plan.recommended(more) == "sgd"


def test_a_smoke_run_recommends_nothing():
    made = page(tuned([0.8, 0.81, 0.82], [0.9, 0.91, 0.92])._replace(smoke=True), *PLAN)
    for words in ("Train ", "recommended", "better"):
        assert words not in made.summary
    assert "no verdict: a smoke run concludes nothing" in made.summary
    assert made.sections[0].heading == "Is momentum worth it here?"


def test_chance_is_a_line_in_the_figure_of_the_seeds():
    def drawn(result):
        made = page(result, *PLAN)
        figures = {f.name: f for s in made.sections for f in s.figures}
        return drawing.svg(figures["seeds"])

    near = tuned([0.14, 0.15, 0.16], [0.13, 0.14, 0.12])
    assert ">Chance</text>" in drawn(near)
    far = drawn(tuned([0.9, 0.91, 0.92], [0.93, 0.94, 0.92]))
    assert ">Chance, 11.0%, is far below.</text>" in far


def test_diverged_final_run_counts_as_the_worst_and_is_reported():
    result = tuned([0.8, 0.82, 0.81], [0.84, 0.85, 0.86])
    assert plan.gain(result).mean == pytest.approx(0.04)
    lost = [diverged(each) for each in result.reported["nesterov"][:1]]
    kept = result.reported["nesterov"][1:]
    result = result._replace(reported={**result.reported, "nesterov": [*lost, *kept]})
    assert plan.gain(result).mean == pytest.approx((-0.8 + 0.03 + 0.05) / 3)
    assert plan.recommended(result) == "sgd"
    none = [diverged(each) for each in result.reported["sgd"]]
    result = result._replace(reported={**result.reported, "sgd": none})
    made = page(result, *PLAN)
    # SGD, all of whose runs diverged, is no better than chance.
    assert plan.recommended(result) == "nesterov"
    assert "1 of these runs diverged, so look for a lower learning rate" in made.summary


def test_names_from_data_are_escaped_on_the_page_and_absent_from_the_code():
    name = "<script>alert('$x_{')</script>.npz"
    made = page(tuned([0.8, 0.8], [0.9, 0.91]), {"dataset": name}, f"tune {name}")
    written = html.html(made)
    assert name not in written and "&lt;script&gt;alert" in written
    assert "script" not in (made.sections[0].code or "script")


def in_rows(of: TuneResults) -> TuneResults:
    """The results as those of a table, whose errors are the smaller the better."""
    screened = [
        sweep_results.result(each.trial, [*map(by_error, each.runs)], ROWS)
        for each in of.screening.results
    ]
    settled = {
        method: {each: [*map(by_error, runs)] for each, runs in tried.items()}
        for method, tried in of.settled.items()
    }
    return of._replace(
        screening=of.screening._replace(results=screened, measure=ROWS),
        settled=settled,
        reported={m: [*map(by_error, runs)] for m, runs in of.reported.items()},
        measure=ROWS,
        chance=None,
        make_problem="from mine import regression as make_problem\n",
    )


def test_page_of_an_error_prefers_the_lower_one_in_its_own_unit():
    result = in_rows(tuned([0.8, 0.82, 0.81], [0.84, 0.85, 0.85]))
    assert plan.winner(result, "nesterov") == CENTER
    assert plan.recommended(result) == "nesterov"
    made = page(result, *PLAN)
    assert (
        "Its test RMSE (lower is better) is 1.533 (95% interval 1.39 to 1.677), over n "
        "= 3 paired seeds (runs of one seed start from the same parameters and see the "
        "rows in the same order)."
    ) in made.summary
    assert "by seed: −0.3667 (95% interval" in made.summary
    assert "momentum is better." in made.summary
    use, evidence, settings = made.sections[:3]
    assert "trains your problem with exactly the optimizer" in use.paragraphs[0]
    assert use.code is not None and "\nproblem = make_problem()\n" in use.code
    assert "from mine import regression as make_problem" in use.code
    text = " ".join([made.summary, *evidence.paragraphs, *settings.paragraphs])
    assert "The RMSE of predicting the mean is 3 on the validation rows." in text
    assert "A run that diverged counts as 3, the RMSE of predicting the mean." in text
    for absent in ("image", "accura", "points", "chance", "guess"):
        assert absent not in text
    assert evidence.tables[0].formats["Test RMSE"] == "{:.4g}"
    seeds = evidence.figures[0]
    assert seeds.table.formats["Difference"] == "{:+.4g}"
    assert seeds.caption.endswith("joins the paired runs of one seed.")
    canvas = Canvas(layout="constrained")
    seeds.draw(canvas, "black")
    assert canvas.axes[0].get_ylabel() == "Test RMSE"
    assert canvas.axes[0].get_ylim()[1] < 3  # not times 100
    canvas = Canvas((8, 3), layout="constrained")
    settings.figures[0].draw(canvas, "black")
    # The smallest of the errors of the rates, of which the best is that of the center.
    assert [text.get_text() for text in canvas.axes[1].texts].count("1") == 1
    html.html(made)


def test_sgd_is_recommended_where_momentum_has_the_larger_error():
    result = in_rows(tuned([0.84, 0.85, 0.85], [0.8, 0.82, 0.81]))
    assert plan.recommended(result) == "sgd"
    made = page(result, *PLAN)
    assert "SGD is recommended because nothing tried was better." in made.summary


def test_nothing_is_recommended_that_is_no_better_than_a_diverged_run_counts_as():
    result = in_rows(tuned([0.69, 0.7, 0.7], [0.68, 0.69, 0.69]))
    assert plan.recommended(result) is None
    made = page(result, *PLAN)
    assert "on digits is better than predicting the mean, so" in made.summary
    assert "the RMSE of predicting the mean is 3." in made.summary
    assert "Look for mistakes in the data" in made.summary
    assert plan.recommended(in_rows(tuned([0.71] * 3, [0.7] * 3))) == "sgd"
