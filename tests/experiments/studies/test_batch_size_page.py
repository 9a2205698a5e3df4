"""`batch-size`: its betas, where momentum is better, and its page."""

import math
from itertools import product

import pytest
from matplotlib.figure import Figure as Canvas
from support.measures import ROWS, by_error
from support.synthetic import synthetic_comparison
from support.validated_runs import validated

from experiments.records.metric import ACCURACY
from experiments.reporting import html
from experiments.reporting.statistics import Interval
from experiments.studies.batch_size import plan
from experiments.studies.batch_size.page import gains, page
from experiments.studies.batch_size.plan import BatchSizeCell, BatchSizeResults
from experiments.studies.settings import Setting
from experiments.studies.validation import best, of_classes

UP, NONE, DOWN = (
    Interval(0.02, 0.01, 0.03, 3),
    Interval(0.02, -0.01, 0.05, 3),
    Interval(-0.02, -0.03, -0.01, 3),
)
MEASURE = of_classes(10)
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
OPTIMIZERS = plan.series(0.8, 16)
TUNED = {0.1: 0.7, 0.3: 0.9, 0.9: math.nan}  # validation accuracies by rate


def tuning(accuracy, **settings):
    losses = (math.nan, math.nan) if math.isnan(accuracy) else ()
    return validated(accuracy, *losses, **settings)


def results(momentum, held=(0.0, 0.0, 0.0), tuned=TUNED) -> BatchSizeResults:
    """Gains of both momenta at batch sizes 8, 16 and 32, which rise with the seed."""
    gains = {"sgd": (0.0, 0.0, 0.0), "momentum": momentum, "held": held}
    trials, compared = {}, {}
    for (place, size), key in product(enumerate((8, 16, 32)), OPTIMIZERS):
        cell, gain = BatchSizeCell(size, key), gains[key][place]
        beta = OPTIMIZERS[key].beta(size)
        trials[cell] = {
            Setting(beta, rate): [tuning(accuracy, beta=beta, batch_size=size)]
            for rate, accuracy in tuned.items()
        }
        accuracies = [0.5 + gain + s / 100 + s % 2 * abs(gain) / 50 for s in range(4)]
        compared[cell] = synthetic_comparison(
            {"keras": accuracies}, beta=beta, batch_size=size
        )
    choice = {cell: best(tried, MEASURE) for cell, tried in trials.items()}
    return BatchSizeResults(OPTIMIZERS, trials, choice, compared, [64], MEASURE)


def written(of: BatchSizeResults):
    ran = [run for runs in of.compared.values() for run in runs]
    made = page(of, PLAN, ran, "python -m experiments batch-size")
    words = [each for section in made.sections for each in section.paragraphs]
    return made, " ".join([made.summary, *words])


def test_half_life_is_the_same_number_of_images_at_every_batch_size():
    optimizers = plan.series(0.85, anchor=32)
    assert optimizers["held"].beta(32) == 0.85
    assert optimizers["held"].beta(64) == pytest.approx(0.85**2, abs=1e-6)
    assert optimizers["held"].beta(8) == pytest.approx(0.85**0.25, abs=1e-6)
    half_life = 32 * math.log(0.5) / math.log(0.85)
    assert optimizers["held"].title == f"Momentum, half-life {half_life:.0f} images"
    for size in (8, 32, 200):
        steps = half_life / size
        assert optimizers["held"].beta(size) ** steps == pytest.approx(0.5, abs=1e-4)


def test_momentum_and_sgd_have_one_beta_at_every_batch_size():
    optimizers = plan.series(0.85, anchor=32)
    assert [optimizers["momentum"].beta(size) for size in (8, 200)] == [0.85, 0.85]
    assert [optimizers["sgd"].beta(size) for size in (8, 200)] == [0.0, 0.0]


def test_beta_of_equal_half_life_vanishes_for_a_huge_batch():
    assert plan.series(0.9, anchor=64)["held"].beta(100_000) == 0.0


@pytest.mark.parametrize(
    ("gains", "start"),
    [
        ([NONE, UP, UP], 64),
        ([UP, UP, UP], 16),
        ([UP, NONE, UP], 256),  # it has to stay
        ([UP, UP, NONE], None),
        ([NONE, NONE, DOWN], None),
        ([DOWN, NONE, UP], 256),
        ([UP, Interval(math.nan, math.nan, math.nan, 3), UP], 256),
        ([UP, UP, Interval(0.5, None, None, 1)], None),
    ],
)
def test_first_gain_is_where_every_larger_batch_size_has_an_interval_above_zero(
    gains, start
):
    smallest, middle, largest = gains
    assert plan.first_gain({64: middle, 16: smallest, 256: largest}, ACCURACY) == start


def test_gains_are_paired_by_seed():
    got = gains(results((0.0, 0.1, 0.2)), "momentum")
    assert list(got) == [8, 16, 32]
    assert got[16].mean == pytest.approx(0.101)
    assert got[16].low == pytest.approx(0.101 - 3.182446 * 0.001 * (4 / 3) ** 0.5 / 2)
    assert got[8] == (0.0, 0.0, 0.0, 4)


@pytest.mark.parametrize(
    ("momentum", "words"),
    [
        ((0.0, 0.1, 0.2), "is better than SGD at batch size 16 and all larger ones."),
        ((0.1, 0.1, 0.2), "is better than SGD at every batch size."),
        ((0.1, 0.0, 0.2), "is better than SGD only at the largest batch size, 32."),
        ((0.1, 0.1, 0.0), "shows no gain over SGD at the largest batch size, 32."),
    ],
)
def test_summary_states_from_which_batch_size_on_momentum_is_better(momentum, words):
    made, _ = written(results(momentum))
    assert f"momentum with beta 0.8 {words}" in made.summary
    assert made.summary.endswith(
        "shows no gain over SGD at the largest batch size, 32."
    )
    assert "under-tuned" not in made.summary


def test_a_smoke_run_concludes_nothing():
    made, words = written(results((0.1, 0.1, 0.2))._replace(smoke=True))
    assert "momentum with beta 0.8 was compared with SGD. Its diff" in made.summary
    assert "better than SGD at" not in words and "shows no gain" not in words


def test_every_tick_of_the_best_rates_has_a_label_and_every_marker_is_whole():
    made, _ = written(results((0.0, 0.1, 0.2)))
    figure = made.sections[1].figures[0]
    canvas = Canvas(layout="constrained")
    figure.draw(canvas, "black")
    (axes,) = canvas.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    low, high = axes.get_ylim()
    ticks = list(map(float, axes.get_yticks()))
    rates = {setting.rate for setting in results((0.0, 0.1, 0.2)).choice.values()}
    assert set(ticks) == rates and list(map(float, labels)) == ticks
    assert low < min(ticks) and max(ticks) < high
    assert not axes.get_yticks(minor=True).size


def test_batch_sizes_at_which_momentum_lost_are_flagged_as_under_tuned():
    made, _ = written(results((-0.1, 0.0, -0.2)))
    assert "At 8, 32 tuned momentum lost to SGD, which it contains as" in made.summary


def test_best_rates_inside_and_at_an_end_of_the_range_are_reported():
    _, words = written(results((0.0, 0.1, 0.2)))
    assert "at most 2 times. Every best rate lies between others." in words
    _, words = written(results((0.0, 0.1, 0.2), tuned={0.1: 0.9, 0.3: 0.8, 0.9: 0.7}))
    assert (
        "The best rate is at an end for SGD at batch size 8; Momentum, beta 0.8 at"
        in words
    )


def largest_stable(of: BatchSizeResults) -> set:
    made, _ = written(of)
    return {row[-1] for row in made.sections[1].figures[0].table.rows}


def test_largest_stable_rate_is_the_largest_at_which_no_run_diverged():
    of = results((0.0, 0.1, 0.2))
    assert largest_stable(of) == {0.3}
    lost = {
        cell: {setting: ran for setting, ran in trials.items() if setting.rate == 0.9}
        for cell, trials in of.tuned.items()
    }
    assert largest_stable(of._replace(tuned=lost)) == {None}


def test_page_is_written_with_names_escaped(tmp_path):
    made, words = written(results((0.0, 0.1, math.nan)))
    assert "Left out, as there are fewer training images: 64." in words
    html.write(tmp_path, made)
    text = (tmp_path / "report.html").read_text()
    assert "invented &lt;b&gt;" in text and "<b>" not in text


def in_rows(of: BatchSizeResults) -> BatchSizeResults:
    """The results as those of a table, whose errors are the smaller the better."""
    tuned = {
        cell: {setting: [*map(by_error, runs)] for setting, runs in trials.items()}
        for cell, trials in of.tuned.items()
    }
    return of._replace(
        series=plan.series(0.8, 16, "row"),
        tuned=tuned,
        choice={cell: best(trials, ROWS) for cell, trials in tuned.items()},
        compared={cell: [*map(by_error, runs)] for cell, runs in of.compared.items()},
        measure=ROWS,
        padded=False,
    )


def test_page_of_an_error_prefers_the_lower_one_in_its_own_unit(tmp_path):
    made, words = written(in_rows(results((0.0, 0.1, 0.2))))
    assert "momentum with beta 0.8 is better than SGD at batch size 16" in made.summary
    assert "in test RMSE (lower is better) is +0 (95% interval" in made.summary
    assert "and −2.02 (95% interval −2.057 to −1.983) at 32" in made.summary
    assert "every larger batch size, lies below 0." in words
    assert "chosen by the RMSE on the validation rows, and by the loss if the" in words
    for absent in ("image", "accura", "points", "guess", "above 0", "padded"):
        assert absent not in words
    reached, gain = made.sections[0].figures
    assert reached.name == "metric" and reached.table.header[2] == "RMSE"
    assert {*reached.table.formats.values()} == {"{:.4g}"}
    assert {*gain.table.formats.values()} == {"{:+.4g}"}
    assert "Momentum is better where the whole band is below 0." in gain.caption
    labels = {"metric": "Test RMSE", "gain": "Difference of test RMSE"}
    for figure in (reached, gain):
        canvas = Canvas(layout="constrained")
        figure.draw(canvas, "black")
        (axes,) = canvas.axes
        assert axes.get_ylabel() == labels[figure.name]
        ticks = "".join(label.get_text() for label in axes.get_yticklabels())
        assert "%" not in ticks
    assert made.sections[2].figures[0].table.header[1] == "Rows/s"
    trials = made.sections[1].tables[0]
    # The validation accuracies 0.7 and 0.9, and a run that diverged.
    assert {html.in_words(row[2], "{:.4g}") for row in trials.rows} == {"3", "1"}
    assert "it counts as 3, the RMSE of predicting the mean." in trials.caption
    rates = {row[3] for row in made.sections[1].figures[0].table.rows}
    assert rates == {0.3}  # of the smallest error
    html.write(tmp_path, made)
    assert (tmp_path / "figures" / "metric.png").exists()


def test_batch_sizes_at_which_momentum_had_the_larger_error_are_flagged():
    made, _ = written(in_rows(results((-0.1, 0.0, -0.2))))
    assert "At 8, 32 tuned momentum lost to SGD, which it contains as" in made.summary
