"""The page shows what the runs show: every value, every doubt, and nothing unsafe."""

import io
import json
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib.image
import pytest
from support.measures import ROWS, by_error
from support.reports import SETUP, Reader
from support.synthetic import (
    ACCURACY,
    TITLES,
    diverged,
    synthetic_comparison,
    synthetic_run,
)

from experiments.compare.page import page
from experiments.records.metric import Metric
from experiments.reporting import drawing, html
from experiments.reporting.drawing import strokes
from experiments.reporting.rendering import script
from experiments.reporting.statistics import against_first

# Momentum is in doubt at the small step, clear at the large one.
ACCURACIES = {
    "sgd": [0.50, 0.52, 0.51],
    "ema": [0.51, 0.51, 0.515],
    "sgd_large_step": [0.60, 0.61, 0.62],
    "keras": [0.631, 0.642, 0.653],
}
# Optimizers of a user's file, of which nothing but the names is known.
USERS = {"<b>$x$": [0.5, 0.52, 0.51], "sgd": [0.7, 0.71, 0.72], "ema": [0.6, 0.7, 0.5]}
USERS_SETUP = SETUP._replace(
    titles={name: name for name in USERS},
    equations=dict.fromkeys(USERS, ""),
    pairs=against_first([*USERS]),
)
USERS_CODE = {"code": "fedcba9876543210"}
SVG = "{http://www.w3.org/2000/svg}"


def undrawn(made):
    """The page with empty drawings, which take a tenth of the time."""

    def emptied(section):
        figures = [f._replace(draw=lambda canvas, ink: None) for f in section.figures]
        return section._replace(figures=figures)

    return made._replace(sections=[emptied(section) for section in made.sections])


def text_of(accuracies, setup=SETUP, **settings):
    runs = synthetic_comparison(accuracies, **settings)
    return Reader(html.html(undrawn(page(runs, setup)))).text


def summary_of(runs, setup=SETUP):
    return html.summary(page(runs, setup))


def curves(runs, setup=SETUP):
    """The SVG of the learning curves."""
    figures = {f.name: f for s in page(runs, setup).sections for f in s.figures}
    return drawing.svg(figures["curves"])


def two_seeds(**settings):
    accuracies = {arm: [value, value + 0.01] for arm, value in ACCURACY.items()}
    return synthetic_comparison(accuracies, **settings)


@pytest.fixture(scope="module")
def rendered():
    return html.html(page(synthetic_comparison(ACCURACIES), SETUP))


@pytest.fixture(scope="module")
def text(rendered):
    return Reader(rendered).text


def test_summary_has_mean_and_values_by_arm():
    summary = summary_of(synthetic_comparison(ACCURACIES)[::-1])
    assert (summary["study"], summary["dataset"]) == ("compare", "digits")
    assert list(summary["arms"]) == list(ACCURACIES)
    for key, values in ACCURACIES.items():
        arm = summary["arms"][key]
        assert arm["title"] == TITLES[key]
        assert arm["test_accuracy"]["values"] == values
        assert arm["test_accuracy"]["mean"] == pytest.approx(sum(values) / 3)
        assert arm["seeds"] == [0, 1, 2]
        assert arm["images_per_second"]["mean"] == 2469
        assert arm["validation_accuracy"]["mean"] == pytest.approx(0.25 + 0.06 * 3)


def test_summary_has_the_plan_with_its_hash():
    summary = summary_of(two_seeds())
    assert summary["plan"]["hash"] == summary["plan_hash"]
    assert summary["plan"]["learning_rate"] == 0.01


def test_summary_traces_each_value_to_the_config_of_its_run():
    runs = synthetic_comparison(ACCURACIES)
    by_hash = {run.config_hash: run for run in runs}
    for key, arm in summary_of(runs)["arms"].items():
        traced = [by_hash[config_hash] for config_hash in arm["config_hashes"]]
        assert [run.config.arm for run in traced] == [key] * 3
        assert [run.test_metric for run in traced] == arm["test_accuracy"]["values"]


def test_summary_holds_the_comparisons():
    compared = summary_of(synthetic_comparison(ACCURACIES))["comparisons"]
    winners = {(each["first"], each["second"]): each["winner"] for each in compared}
    assert winners == {
        ("ema", "sgd"): None,
        ("keras", "sgd_large_step"): "keras",
        ("sgd_large_step", "sgd"): "sgd_large_step",
        ("keras", "ema"): "keras",
    }


def test_summary_holds_the_comparisons_of_a_users_optimizers():
    runs = synthetic_comparison(USERS, **USERS_CODE)
    compared = summary_of(runs[::-1], USERS_SETUP)["comparisons"]
    pairs = [(each["first"], each["second"]) for each in compared]
    assert pairs == [("sgd", "<b>$x$"), ("ema", "<b>$x$")]


def test_summary_keeps_strict_json_and_the_page_says_so_when_a_run_diverged(tmp_path):
    runs = synthetic_comparison(ACCURACIES)
    runs[-1] = diverged(runs[-1])
    rendered = html.write(tmp_path, page(runs, SETUP)).read_text(encoding="utf-8")
    text = (tmp_path / "summary.json").read_text()
    losses = json.loads(text, parse_constant=pytest.fail)["arms"]["keras"]["test_loss"]
    assert losses == {"mean": None, "values": [1.234, 1.234, None]}
    assert "Title of keras diverged in 1 of 3 runs. Such" in Reader(rendered).text
    assert not re.search(r"\bnan\b", rendered, re.IGNORECASE)


def test_page_accepts_a_file_name_that_is_not_unicode(tmp_path):
    runs = [synthetic_run(dataset="caf\udce9.npz")]
    rendered = html.write(tmp_path, page(runs, SETUP)).read_text(encoding="utf-8")
    assert r"caf\udce9.npz" in rendered


def test_page_says_what_was_compared_on_what(text):
    assert (
        "SGD and momentum on digits A step ten times larger gained 10 points without "
        "momentum and gained 13 points with momentum; momentum itself gained nothing "
        "that three seeds can show at the smaller step and gained 3.2 points at the "
        "larger step. Best mean test accuracy: 64.20%, Title"
    ) in text
    assert (
        "4 optimizers, 3 seeds (0, 1, 2), one convolutional network: trained on 40,001 "
        "images, validated on 10,002 and tested on 9,999, over 3 epochs in batches of "
        "64, with learning rate α = 0.01 and β = 0.9."
    ) in text
    for arm in TITLES:
        assert f"θ ← equation of {arm}" in text
    assert "python -m experiments compare --epochs 3" in text
    for fact in ("an imagined cpu", "c0ffee", "0.10.2", "0123456789abcdef"):
        assert fact in text


def test_page_says_how_much_larger_the_codes_steps_are(text):
    assert "at equal learning rate the code takes 10 times larger settled step" in text
    assert "0.1 g 61.00%, Large title 64.20%, Title of keras" in text
    quarter = text_of(ACCURACIES, beta=0.75)
    assert "at equal learning rate the code takes 4 times larger settled st" in quarter
    assert "(Title of ema) settles at steps of αg = 0.01 g" in quarter
    assert "(Title of keras) at αg / (1 − β) = 0.04 g" in quarter


def test_page_without_momentum_says_that_all_optimizers_are_one():
    words = "With β = 0 there is no momentum: all optimizers are plain SGD"
    assert words in text_of(ACCURACIES, beta=0.0)


def test_page_shows_every_optimizer_with_deviation_and_n(text):
    assert "Plain title 51.00% 1.00% 3 1.234 2,469 θ ← equation of sgd" in text
    assert "Title of keras 64.20% 1.10% 3 1.234 2,469 θ ← equation of keras" in text


def test_page_shows_every_seed_of_every_optimizer(text):
    for arm, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            assert f"{TITLES[arm]} {seed} {accuracy:.2%}" in text
    assert "Title of ema − Plain title 1 −1.00" in text


def test_page_traces_every_run_to_its_config_hash(text):
    for run in synthetic_comparison(ACCURACIES):
        row = f"{run.config.arm} {run.config.seed} {run.test_metric:.2%} 1.234 "
        assert f"{row}12.2 15.5 {run.config_hash}" in text


def test_page_names_a_winner_only_where_the_interval_leaves_0_out(text):
    doubt = "no winner: the interval contains 0 Title of ema − Plain title 3"
    assert f"+0.17 −2.42 +2.75 {doubt}" in text
    clear = "winner: Title of keras Title of keras − Large title 3"
    assert f"+3.20 +2.95 +3.45 {clear}" in text


def test_page_explains_an_interval_that_is_a_point():
    text = text_of({"ema": [0.75, 0.5, 0.625], "sgd": [0.5, 0.25, 0.375]})
    assert "+25.00 +25.00 +25.00 winner: Title of ema; every seed shows the s" in text


def test_page_of_one_seed_has_no_interval_and_no_winner():
    text = text_of({arm: values[:1] for arm, values in ACCURACIES.items()})
    assert text.count("– – no winner: one seed bounds nothing") == 4
    assert "winner: Title" not in text
    assert "Plain title 50.00% – 1 1.234" in text  # no deviation


def test_page_of_two_seeds_shows_no_interval():
    text = text_of({"ema": [0.9, 0.5], "sgd": [0.8, 0.6]})
    assert "0.00 – – no winner: two seeds bound nothing" in text.replace("+0", "0")
    clear = text_of({"ema": [0.9, 0.91], "sgd": [0.8, 0.81]})
    assert "+10.00 – – no winner: two seeds bound nothing" in clear
    assert "Two values give no useful interval: for n = 2 none is shown" in text


def test_page_cuts_intervals_at_what_a_difference_can_be_but_not_in_its_data():
    runs = synthetic_comparison({"ema": [1.0, 0.1, 1.0], "sgd": [0.0, 0.0, 0.3]})
    made = page(runs, SETUP)
    text = Reader(html.html(undrawn(made))).text
    assert "+60.00 −53.84 +100.00 no winner: the interval contains 0" in text
    (compared,) = html.summary(made)["comparisons"]
    ends = compared["low"], compared["high"]
    assert ends == pytest.approx((-0.53838, 1.73838), 1e-4)


def test_page_of_some_optimizers_leaves_the_others_out():
    text = text_of({"ema": [0.5], "sgd": [0.25]})
    assert "Title of ema − Plain title" in text
    assert "Title of keras" not in text


def test_page_says_when_the_runs_were_made_in_two_environments(text):
    assert "not all made" not in text
    one, two = synthetic_run("sgd"), synthetic_run("ema")
    two = replace(two, git_commit=None, versions={"jax": "0.11.0"})
    mixed = Reader(html.html(undrawn(page([one, two], SETUP)))).text
    assert "commitc0ffee and not run from a git checkout" in mixed
    assert "jax0.10.2 and 0.11.0" in mixed
    assert "not all made in one environment" in mixed


def test_page_escapes_names_everywhere():
    name = "<script>alert(1)</script>.npz"
    setup = SETUP._replace(
        titles={arm: f"<b>{arm}</b>" for arm in TITLES},
        equations={arm: "<i>θ</i>" for arm in TITLES},
        command=f"compare --dataset '{name}'",
    )
    runs = synthetic_comparison(ACCURACIES, dataset=name)
    rendered = html.html(page(runs, setup))
    reader = Reader(rendered)
    assert not reader.all("b") and not reader.all("i")
    assert rendered.count("<script") == len(reader.all("script")) == 1  # its own
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.npz" in rendered
    assert f"SGD and momentum on {name}" in reader.text


def test_page_of_a_users_optimizers_compares_each_with_the_first_whatever_its_name():
    runs = synthetic_comparison(USERS, **USERS_CODE)
    rendered = html.html(page(runs, USERS_SETUP))
    reader = Reader(rendered)
    assert "3 optimizers on digits" in reader.text
    for first, gain, verdict in (
        ("sgd", "+20.00", "winner: sgd"),
        ("ema", "+9.00", "no winner: the interval contains 0"),
    ):
        words = f"Optimizer: {first} instead of <b>$x$ {gain}"
        assert words in reader.text
        assert verdict in reader.text.split(words)[1][:100]
    assert not reader.all("b") and "&lt;b&gt;$x$" in rendered
    assert "learning rate α = 0.01. What made" in reader.text
    assert "codefedcba9876543210" in reader.text
    for about_known_arms in ("Two step sizes", "settled", "β", "momentum, at"):
        assert about_known_arms not in reader.text.replace("optax_momentum", "")
    assert "Equation" not in reader.text


def test_page_of_one_optimizer_compares_nothing():
    setup = USERS_SETUP._replace(titles={"sgd": "sgd"}, pairs=())
    text = text_of({"sgd": [0.5]}, setup, **USERS_CODE)
    assert "1 optimizer on digits" in text and "What made the diff" not in text


def test_page_lets_only_the_script_of_all_pages_run(rendered):
    (source,) = re.findall("<script>(.*?)</script>", rendered, re.DOTALL)
    assert source == script()["script"]
    assert f"script-src 'sha256-{script()['script_digest']}'\"" in rendered


def test_page_has_tables_to_sort_by_exact_values(rendered):
    runs = synthetic_comparison(ACCURACIES)
    runs[-1] = diverged(runs[-1])
    mean = sum(ACCURACIES["ema"]) / 3
    assert f'<td class="number" data-value="{mean!r}">51.17%</td>' in rendered
    assert '<td class="number" data-value="1.234">1.234</td>' in rendered
    lost = html.html(undrawn(page(runs, SETUP)))
    assert lost.count('<td class="number missing">diverged</td>') == 2 + 2 * 2


def test_curves_are_named_and_described_for_readers_who_cannot_see_them():
    root = ElementTree.fromstring(curves(two_seeds()))
    title = root.findtext(f"{SVG}title")
    assert title is not None and title.startswith("Loss and accuracy on digits, by ep")
    panels = [text.text for text in root.iter(f"{SVG}text")]
    for split in ("Training", "Validation"):
        assert f"{split} loss" in panels and f"{split} accuracy" in panels
    described = root.findtext(f"{SVG}desc")
    assert described is not None
    assert "Validation loss: Plain title 0.733, Title of ema 0.733" in described


def test_curves_draw_a_line_a_seed_and_their_mean_in_every_panel():
    root = ElementTree.fromstring(curves(two_seeds()))
    styles = [path.get("style") or "" for path in root.iter()]
    for color, _ in strokes(TITLES).values():
        variable = f"var({drawing.VARIABLES[color]})"
        lines = [style for style in styles if f"stroke: {variable}" in style]
        assert len(lines) == 4 * 3 + 1  # one in the legend


def test_curves_are_equal_for_equal_runs_and_differ_otherwise():
    first = curves(two_seeds())
    assert curves(two_seeds()) == first
    assert curves(two_seeds(epochs=4)) != first


def test_page_has_unique_ids_and_no_address_but_namespaces(rendered):
    elements = Reader(rendered).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0
    for namespace in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):
        rendered = rendered.replace(f'"{namespace}"', "")
    assert "http" not in rendered.replace("http-equiv", "")


def test_every_drawing_writes_in_the_color_of_the_page():
    for section in page(two_seeds(), SETUP).sections:
        for figure in section.figures:
            root = ElementTree.fromstring(drawing.svg(figure))
            styles = [text.get("style") or "" for text in root.iter(f"{SVG}text")]
            assert styles
            assert all("fill: currentColor" in style for style in styles)


def test_curves_escape_the_name_of_the_data():
    svg = curves([synthetic_run(dataset="<script>alert('$x$')</script>&.npz")])
    assert "<script" not in svg
    title = ElementTree.fromstring(svg).findtext(f"{SVG}title")
    assert title is not None and "<script>alert('$x$')</script>&.npz" in title


def test_curves_show_a_diverged_run_up_to_its_divergence():
    run = diverged(synthetic_run("keras"))
    described = ElementTree.fromstring(curves([run])).findtext(f"{SVG}desc")
    assert described is not None
    assert "Training loss: Title of keras diverged;" in described
    text = Reader(html.html(undrawn(page([run], SETUP)))).text
    assert "Title of keras 1 2.100 2.200 35.00% 31.00% Title of keras 2 div" in text


def test_page_draws_without_any_finite_loss_or_accuracy():
    run = diverged(synthetic_run("ema", epochs=2))
    hopeless = replace(run, epochs=run.epochs[1:], test_metric=math.nan)
    text = Reader(html.html(page([hopeless, replace(hopeless)], SETUP))).text
    assert "No optimizer has a result." in text
    pair = [replace(synthetic_run(arm), test_metric=math.nan) for arm in TITLES]
    text = Reader(html.html(page(pair, SETUP))).text
    assert "0.01 g diverged, Plain title diverged, Title of ema" in text


def test_losses_far_apart_are_drawn_on_a_logarithmic_axis():
    far = synthetic_run(epochs=300)  # losses from 2.1 down to 0.007
    root = ElementTree.fromstring(curves([far]))
    labels = [text.text for text in root.iter(f"{SVG}text")]
    assert {"0.01", "0.1", "1"} <= set(labels)
    assert ">0.01<" not in curves([synthetic_run(epochs=3)])


@pytest.mark.parametrize("name", ["digits", "naïve $_{$ 数字\n.npz", "n" * 200])
def test_every_drawing_is_a_picture_for_any_name(name):
    setup = SETUP._replace(titles={arm: f"{arm} {name}" for arm in TITLES})
    for section in page(two_seeds(dataset=name), setup).sections:
        for figure in section.figures:
            picture = io.BytesIO(drawing.png(figure))
            pixels = matplotlib.image.imread(picture, format="png")
            assert pixels.shape[1:] == (1024, 4)
            assert pixels[..., :3].std() > 0.05


# A table's rows, of which some column is predicted; lower is better.
ERRORS_SETUP = SETUP._replace(measure=ROWS)


def errors():
    return [by_error(run) for run in synthetic_comparison(ACCURACIES)]


def test_page_of_errors_is_in_their_unit_and_the_lower_one_wins():
    rendered = html.html(undrawn(page(errors(), ERRORS_SETUP)))
    text = Reader(rendered).text
    assert (
        "Best mean test RMSE (lower is better): 3.58, Title of keras, n = 3. 4 "
        "optimizers, 3 seeds (0, 1, 2), one model: trained on 40,001 rows"
    ) in text
    assert (
        "momentum itself improved nothing that three seeds can show at the sma" in text
    )
    clear = "winner: Title of keras Title of keras − Large title 3"
    assert f"−0.32 −0.3448 −0.2952 {clear}" in text
    assert "+0.17" not in text and "Points" not in text and "points" not in text
    assert "What differs Mean From To Verdict" in text
    assert "Optimizer Test RMSE ± n Test loss Rows/s Equation" in text
    assert "Title of keras 3.58 0.11 3 1.234 2,469 θ ← equation of keras" in text
    assert "3.9 Plain title 3.58, Title of keras" not in text
    assert "0.1 g 3.9, Large title 3.58, Title of keras" in text
    assert "The test rows were read once" in text and "choice of test rows" in text
    for of_images in ("accurac", "image", "convolutional"):
        assert of_images not in text


def test_summary_of_errors_has_their_name():
    summary = summary_of(errors(), ERRORS_SETUP)
    arm = summary["arms"]["keras"]
    assert arm["test_rmse"]["mean"] == pytest.approx(3.58)
    assert arm["validation_rmse"]["values"] == [pytest.approx(10 * 0.57)] * 3
    assert not [key for key in arm if "accuracy" in key or "metric" in key]
    winners = [each["winner"] for each in summary["comparisons"]]
    assert winners == [None, "keras", "sgd_large_step", "keras"]


def test_figures_of_errors_name_their_axes():
    made = page(errors(), ERRORS_SETUP)
    figures = {f.name: f for section in made.sections for f in section.figures}
    assert list(figures) == ["differences", "values", "curves"]
    words = {
        name: [text.text for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")]
        for name, drawn in zip(figures, map(drawing.svg, figures.values()), strict=True)
    }
    assert "Difference of test RMSE (lower is better)" in words["differences"]
    assert figures["differences"].caption.endswith(" Below 0, the first is better.")
    assert "Test RMSE" in words["values"] and "4.0" in words["values"]
    for title in ("Training loss", "Training RMSE", "Validation RMSE"):
        assert title in words["curves"]
    assert not [text for text in words["curves"] if "%" in (text or "")]
    assert "Validation RMSE: Plain title 5.7" in figures["curves"].description


def test_page_whose_loss_decides_shows_it_once():
    measure = ROWS._replace(metric=Metric("loss", "loss", higher_is_better=False))
    runs = [
        replace(
            run,
            metric="loss",
            test_metric=run.test_loss,
            epochs=[
                e._replace(
                    train_metric=e.train_loss, validation_metric=e.validation_loss
                )
                for e in run.epochs
            ],
        )
        for run in errors()
    ]
    made = page(runs, SETUP._replace(measure=measure))
    text = Reader(html.html(made)).text
    assert "Optimizer Test loss ± n Rows/s Equation" in text
    assert "Optimizer Epoch Training loss Validation loss Plain title" in text
    assert "Key Seed Test loss Seconds" in text
    assert html.summary(made)["arms"]["sgd"]["test_loss"]["mean"] == pytest.approx(
        1.234
    )


def test_page_of_a_run_with_an_infinite_error_is_drawn():
    lost, *others = errors()
    lost = replace(lost, test_metric=math.inf, test_loss=math.nan)
    text = Reader(html.html(page([lost, *others], ERRORS_SETUP))).text
    assert "Plain title diverged in 1 of 3 runs." in text
    assert "no winner: a run has no result" in text
