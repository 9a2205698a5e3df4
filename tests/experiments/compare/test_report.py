"""The report says what the runs say: every figure, every doubt, and nothing unsafe."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.reports import SETTING, Reader
from support.synthetic import TITLES, diverged, synthetic_comparison, synthetic_run

from experiments.compare import report

# Momentum is in doubt at the small step, clear at the large one.
ACCURACIES = {
    "sgd": [0.50, 0.52, 0.51],
    "ema": [0.51, 0.51, 0.515],
    "sgd_large_step": [0.60, 0.61, 0.62],
    "keras": [0.631, 0.642, 0.653],
}


def text_of(accuracies, **settings):
    return Reader(
        report.page(synthetic_comparison(accuracies, **settings), SETTING)
    ).text


@pytest.fixture(scope="module")
def page():
    return report.page(synthetic_comparison(ACCURACIES), SETTING)


@pytest.fixture(scope="module")
def text(page):
    return Reader(page).text


def test_summary_has_mean_and_values_by_arm():
    runs = synthetic_comparison(ACCURACIES)
    summary = report.summary(runs[::-1], TITLES)
    assert summary["dataset"] == "digits"
    assert list(summary["arms"]) == list(ACCURACIES)
    for arm, values in ACCURACIES.items():
        found = summary["arms"][arm]
        assert found["test_accuracy"]["values"] == values
        assert found["test_accuracy"]["mean"] == pytest.approx(sum(values) / 3)
        assert found["seeds"] == [0, 1, 2]
        assert found["images_per_second"]["mean"] == 2469
        assert found["validation_accuracy"]["mean"] == pytest.approx(0.25 + 0.06 * 3)


def test_summary_traces_each_value_to_the_config_of_its_run():
    runs = synthetic_comparison(ACCURACIES)
    summary = report.summary(runs, TITLES)
    by_hash = {run.config_hash: run for run in runs}
    for arm, found in summary["arms"].items():
        traced = [by_hash[each] for each in found["config_hashes"]]
        assert [run.config.arm for run in traced] == [arm] * 3
        assert [run.test_accuracy for run in traced] == found["test_accuracy"]["values"]


def test_summary_holds_the_comparisons():
    compared = report.summary(synthetic_comparison(ACCURACIES), TITLES)["comparisons"]
    winners = {(each["first"], each["second"]): each["winner"] for each in compared}
    assert winners == {
        ("ema", "sgd"): None,
        ("keras", "sgd_large_step"): "keras",
        ("sgd_large_step", "sgd"): "sgd_large_step",
        ("keras", "ema"): "keras",
    }


def test_write_leaves_three_whole_files_and_no_other(tmp_path):
    path = report.write(tmp_path, synthetic_comparison(ACCURACIES), SETTING)
    assert path == tmp_path / "report.html"
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "curves.png",
        "report.html",
        "summary.json",
    ]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_write_keeps_strict_json_and_says_so_when_a_run_diverged(tmp_path):
    runs = synthetic_comparison(ACCURACIES)
    runs[-1] = diverged(runs[-1])
    page = report.write(tmp_path, runs, SETTING).read_text(encoding="utf-8")
    text = (tmp_path / "summary.json").read_text()
    losses = json.loads(text, parse_constant=pytest.fail)["arms"]["keras"]["test_loss"]
    assert losses == {"mean": None, "values": [1.234, 1.234, None]}
    assert "diverged in 1 of 3" in Reader(page).text
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_write_accepts_a_file_name_that_is_not_unicode(tmp_path):
    runs = [synthetic_run(dataset="caf\udce9.npz")]
    page = report.write(tmp_path, runs, SETTING).read_text(encoding="utf-8")
    assert r"caf\udce9.npz" in page


def test_page_tells_what_was_compared_on_what(text):
    assert "SGD and momentum on digits" in text
    assert (
        "4 arms, 3 seeds (0, 1, 2), one convolutional network: trained on 40,001 "
        "images, validated on 10,002 and tested on 9,999, over 3 epochs in batches of "
        "64, with learning rate α = 0.01 and β = 0.9."
    ) in text
    for arm in TITLES:
        assert f"{TITLES[arm]}θ ← equation of {arm}" in text
    assert "python -m experiments compare --epochs 3" in text
    for fact in ("an imagined cpu", "c0ffee", "0.10.2", "0123456789abcdef"):
        assert fact in text


def test_page_says_how_much_larger_the_codes_steps_are(text):
    assert "at equal learning rate the code takes 10 times larger settled step" in text
    quarter = text_of(ACCURACIES, beta=0.75)
    assert "at equal learning rate the code takes 4 times larger settled st" in quarter
    assert "(Title of ema) settles at steps of αg = 0.01 g" in quarter
    assert "(Title of keras) at αg / (1 − β) = 0.04 g" in quarter


def test_page_without_momentum_says_that_all_arms_are_one():
    words = "With β = 0 there is no momentum: all arms are plain SGD"
    assert words in text_of(ACCURACIES, beta=0.0)


def test_page_shows_every_seed_of_every_arm_with_n(text):
    assert "51.00% ± 1.00 n = 3 50.00%, 52.00%, 51.00% 1.234 2,469" in text
    assert "64.20% ± 1.10 n = 3 63.10%, 64.20%, 65.30% 1.234 2,469" in text


def test_page_traces_every_run_to_its_config_hash(text):
    for run in synthetic_comparison(ACCURACIES):
        row = f"{run.config.arm} {run.config.seed} {run.test_accuracy:.2%} 1.234 "
        assert f"{row}12.2 15.5 {run.config_hash}" in text


def test_page_names_a_winner_only_where_the_interval_leaves_0_out(text):
    doubt = "Title of ema, minus Plain title 0 +0.17 points, interval −2.42 to +2.75"
    assert f"{doubt}, n = 3 no winner: the interval contains 0" in text
    clear = "Title of keras, minus Large title 0 +3.20 points, interval +2.95 to +3.45"
    assert f"{clear}, n = 3 winner: Title of keras" in text


def test_page_explains_an_interval_that_is_a_point():
    text = text_of({"ema": [0.75, 0.5], "sgd": [0.5, 0.25]})
    assert "interval +25.00 to +25.00 as every seed agrees, n = 2 winner:" in text


def test_page_of_one_seed_has_no_interval_and_no_winner():
    text = text_of({arm: values[:1] for arm, values in ACCURACIES.items()})
    assert text.count("one seed: no interval, no winner") == 4
    assert "points, interval" not in text
    assert "winner:" not in text
    assert "±" not in text.split("The arms")[1].split("each seed's value")[1]


def test_page_of_some_arms_leaves_the_others_out():
    text = text_of({"ema": [0.5], "sgd": [0.25]})
    assert "Title of ema, minus Plain title" in text
    assert "Title of keras" not in text


def test_page_tells_when_the_runs_were_made_in_two_environments(text):
    assert "not all made" not in text
    one, two = synthetic_run("sgd"), synthetic_run("ema")
    two = type(two)(**{**vars(two), "git_commit": None, "versions": {"jax": "0.11.0"}})
    mixed = Reader(report.page([one, two], SETTING)).text
    assert "commitc0ffee and not run from a git checkout" in mixed
    assert "jax0.10.2 and 0.11.0" in mixed
    assert "not all made in one environment" in mixed


def test_page_escapes_names_everywhere():
    name = "<script>alert(1)</script>.npz"
    setting = SETTING._replace(
        titles={arm: f"<b>{arm}</b>" for arm in TITLES},
        equations={arm: "<i>θ</i>" for arm in TITLES},
        command=f"compare --dataset '{name}'",
    )
    page = report.page(synthetic_comparison(ACCURACIES, dataset=name), setting)
    reader = Reader(page)
    assert "b" not in reader.tags
    assert page.count("<script") == reader.tags.count("script") == 1  # its own
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;.npz") == 7
    assert f"SGD and momentum on {name}" in reader.text


def test_page_needs_nothing_from_elsewhere(page):
    reader = Reader(page)
    assert not {"link", "img", "iframe", "object"} & set(reader.tags)
    for name, value in reader.attributes:
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#")
    assert "url(http" not in page
    assert "@import" not in page


def test_report_imports_neither_jax_nor_optax():
    code = (
        "import sys; from experiments import report; "
        "sys.exit(bool({'jax', 'optax', 'flax'} & sys.modules.keys()))"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
