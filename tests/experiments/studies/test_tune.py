"""The command `tune`: its runs, recommendation, resumption and refusals."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console
from support.small_studies import count_calls, printed, records

from experiments.records.config import Config, UsageError
from experiments.reporting import html
from experiments.studies.options import TUNING_SEED
from experiments.studies.subject import read_subject
from experiments.studies.tune import plan
from experiments.studies.tune.options import BUDGETS, Tune
from experiments.studies.tune.snippet import snippet
from experiments.studies.tune.study import fitting_sizes, tune

pytestmark = pytest.mark.usefixtures("small_network")

STUDY = tune
# Rates so low that a dense layer's best is the highest: the space and rates grow.
SMALL = Tune(
    preset="smoke",
    batch_sizes=(8,),
    schedules=("constant", "cosine"),
    effective_rate=(0.0004, 0.004),
    trials=4,
    epochs=2,
    seeds=2,
)
IMAGES = 38  # training images


def configs(output, **settings) -> list[Config]:
    found = [record["config"] for record in records(output)]
    return [Config(**config) for config in found if settings.items() <= config.items()]


def test_methods_are_screened_with_equal_trials_and_the_space_grows(finished):
    screened = configs(finished, epochs=1)
    assert {config.seed for config in screened} == {TUNING_SEED}
    counts = Counter(config.arm for config in screened)
    assert counts == {"sgd": 4 + 2, "momentum": 4 + 2, "nesterov": 4 + 2}
    beyond = [
        config
        for config in screened
        if not 0.0004 <= config.learning_rate / (1 - config.beta) <= 0.004
        or not (0.5 <= config.beta <= 0.98 or config.arm == "sgd")
    ]
    assert len(beyond) >= 2


def test_sgd_and_one_momentum_are_continued_with_equal_trials(finished):
    settled = configs(finished, epochs=2, test=False)
    counts = Counter(config.arm for config in settled)
    assert len(counts) == 2 and "sgd" in counts
    # Two schedules; then twice a lower and a higher rate, as the first was better.
    assert set(counts.values()) == {2 + 2 + 2}
    assert {config.seed for config in settled} == {TUNING_SEED}


def test_final_runs_are_paired_and_alone_read_the_test_images(finished):
    final = configs(finished, test=True)
    seeds = {}
    for config in final:
        seeds.setdefault(replace(config, seed=0), []).append(config.seed)
    assert list(seeds.values()) == [[0, 1], [0, 1]]
    tried = configs(finished, epochs=2, test=False)
    for config in seeds:
        assert replace(config, seed=TUNING_SEED, test=False) in tried


def test_a_smoke_run_says_so_and_recommends_nothing(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["notice"].startswith("This is a smoke run")
    assert "recommended" not in summary["summary"]
    assert "a smoke run concludes nothing" in summary["summary"]
    assert "optax.sgd" not in (finished / "report.html").read_text()
    assert "This is a smoke run" in (finished.parent / "index.html").read_text()


@pytest.mark.slow
def test_code_is_that_of_the_recommended_final_runs(
    options, finished, tmp_path, monkeypatch
):
    monkeypatch.setitem(BUDGETS, "default", BUDGETS["smoke"])  # the same plan
    # So few images are too few to be better than chance.
    monkeypatch.setattr(plan, "better_than_chance", lambda tuned, method: True)
    output = shutil.copytree(finished, tmp_path / "study")
    said = printed(tune, replace(options, preset="default"), output)
    assert "smoke" not in said
    summary = json.loads((output / "summary.json").read_text())
    final = [snippet(c, IMAGES) for c in configs(output, test=True, seed=0)]
    code = summary["sections"][0]["code"]
    assert code in final
    exec(code, names := {})
    assert names["steps"] == 2 * 5
    sgd = "tuned with equally many trials" in summary["summary"]
    assert sgd and ("So SGD" in summary["summary"]) == ("optax.sgd" in code)


@pytest.mark.slow
def test_code_for_a_users_problem_trains_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(BUDGETS, "default", BUDGETS["smoke"])
    (tmp_path / "own_line.py").write_text(
        "import jax.numpy as jnp\n"
        "import numpy as np\n"
        "from experiments.problems import Problem\n\n"
        "X = np.random.default_rng(3).normal(size=(90, 3)).astype(np.float32)\n"
        "SPLITS = [{'x': x, 'y': x @ np.float32([1, -2, 3])} for x in np.split(X, 3)]\n"
        "\n\ndef init(key, batch):\n"
        "    return {'kernel': jnp.zeros(3)}, ()\n"
        "\n\ndef loss(params, model_state, batch, key, *, training):\n"
        "    errors = jnp.square(batch['x'] @ params['kernel'] - batch['y'])\n"
        "    return errors, {}, model_state\n"
        "\n\ndef line():\n"
        "    return Problem('line', *SPLITS, init, loss)\n"
    )
    reference, output = f"{tmp_path / 'own_line.py'}:line", tmp_path / "study"
    options = replace(
        SMALL, preset="default", problem=reference, effective_rate=(0.01, 0.3), seeds=3
    )
    said = printed(tune, options, output)
    assert "see the examples in the same order" in said and "image" not in said
    sections = json.loads((output / "summary.json").read_text())["sections"]
    code = sections[0]["code"]
    assert "from own_line import line as make_problem\n" in code
    monkeypatch.syspath_prepend(tmp_path)
    exec(code, names := {})
    first, *_, last = re.findall(r"training loss (\S+)\n", capsys.readouterr().out)
    assert float(last) < 0.9 * float(first)
    assert names["steps"] == 2 * 4


def test_names_of_files_are_escaped_on_the_page(finished):
    page = (finished / "report.html").read_text()
    assert "<b>$" not in page and "&lt;b&gt;$_{$.npz" in page


@pytest.mark.usefixtures("blank_figures")
def test_interrupted_study_resumes_and_repeats_nothing(
    options, finished, tmp_path, monkeypatch
):
    count_calls(
        monkeypatch, "train_runs", 11
    )  # as schedules are tried, after the screening
    monkeypatch.setattr(html, "write", lambda output, page: output)
    output = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        printed(tune, options, output)
    kept, resumed = len(configs(output)), printed(tune, options, output)
    assert f"{kept} finished runs of this plan are kept." in resumed
    assert configs(output) == configs(finished)
    curves = [[r["epochs"] for r in records(d)] for d in (output, finished)]
    assert curves[0] == curves[1]


def test_only_the_batch_sizes_of_a_preset_are_fitted_to_the_data(options):
    subject = read_subject(options, options.dataset, Console(quiet=True))
    budget = BUDGETS["smoke"]._replace(batch_sizes=(64, 38, 16, 39))
    assert fitting_sizes(Tune(), budget, subject) == (38, 16)
    too_large = budget._replace(batch_sizes=(64,))
    assert fitting_sizes(Tune(), too_large, subject) == (IMAGES,)
    with pytest.raises(UsageError) as error:
        fitting_sizes(Tune(batch_sizes=(64, 38)), budget, subject)
    assert str(error.value) == (
        "--batch-sizes has 64, but <b>$_{$.npz has 38 training images; choose smaller "
        "ones."
    )
