"""The study `crossval`: nothing leaks between folds, and no run is repeated."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.small_studies import interrupted
from support.study_contexts import config, small_dataset, study_context

from experiments.studies.context import run_all
from experiments.studies.crossval.folds import stratified
from experiments.studies.crossval.options import Crossval
from experiments.studies.crossval.study import crossval, validate
from experiments.studies.lifecycle import OpenStudy
from experiments.studies.options import TUNING_SEED
from experiments.studies.settings import Setting, configured
from experiments.studies.validation import best, of_classes

pytestmark = pytest.mark.usefixtures("small_network")

SMALL = Crossval(
    epochs=2,
    seeds=3,
    batch_size=16,
    folds=3,
    nested=2,
    betas=(0.6, 0.9),
    effective_rates=(0.3, 0.7),
)
OF_A_FOLD = 2 * 2 + 2  # settings of momentum and of SGD


@pytest.fixture(scope="module")
def finished(small_network, tmp_path_factory):
    return interrupted(crossval, SMALL, tmp_path_factory.mktemp("small"), fit=5)


def test_a_fold_gives_the_same_bits_whatever_folds_ran_before(tmp_path):
    """Neither momentum nor parameters leak from one fold into the next."""
    folds = stratified("--folds", small_dataset().train_labels, 4)
    settings = [Setting(0.9, 0.4), Setting(0.99, 2.0)]
    seeds = {name: TUNING_SEED + place for place, name in enumerate(folds)}
    epochs, programs = {}, {}
    for place, order in enumerate([[*folds], [*folds][::-1], [[*folds][1]]]):
        (tmp_path / str(place)).mkdir()
        context = replace(
            study_context(tmp_path / str(place), folds), programs=programs
        )
        epochs[place] = {}
        for fold in order:  # one call each, because a call may reorder its configs
            base = config(fold=fold, seed=seeds[fold])
            configs = [configured(base, setting) for setting in settings]
            for ran in run_all(context, configs, "one fold"):
                epochs[place][ran.config] = ran.epochs
    assert len(epochs[0]) == 8 and epochs[1] == epochs[0]
    assert {ran.fold for ran in epochs[2]} == {"fold 2 of 4"}
    assert epochs[2].items() <= epochs[0].items()
    (tmp_path / "study").mkdir()
    context = replace(study_context(tmp_path / "study", folds), programs=programs)
    study = OpenStudy(context, config(), {})
    trials = validate(study, {"momentum": settings}, folds, "all")["momentum"]
    together = {ran.config: ran.epochs for runs in trials.values() for ran in runs}
    assert together == epochs[0]
    assert len(programs) == 1


def test_settings_share_the_seed_of_a_fold_and_folds_have_different_seeds(finished):
    tried = [run.config for run in finished.runs if not run.config.test]
    outer = {(c.fold, c.seed) for c in tried if "inner" not in c.fold}
    assert outer == {(f"fold {i} of 3", TUNING_SEED + i - 1) for i in (1, 2, 3)}
    assert len(tried) == (3 + 3 * 2) * OF_A_FOLD


def test_the_best_of_the_folds_is_tested_with_seeds_that_no_tuning_used(finished):
    trials = {"sgd": {}, "momentum": {}}
    for run in finished.runs:
        if run.config.fold.startswith("fold") and "inner" not in run.config.fold:
            setting = run.config.beta, run.config.learning_rate
            trials[run.config.arm].setdefault(setting, []).append(run)
    tested = [run.config for run in finished.runs if run.config.test]
    assert [(c.seed, c.fold) for c in tested] == [(s, "hold-out") for s in range(3)] * 2
    for arm, of_arm in trials.items():
        assert all(len(on_folds) == 3 for on_folds in of_arm.values())
        chosen = {(c.beta, c.learning_rate) for c in tested if c.arm == arm}
        assert chosen == {best(of_arm, of_classes(3))}


def test_only_runs_of_the_chosen_settings_read_the_test_images_once_each(finished):
    configs = [run.config for run in finished.runs]
    assert len(set(configs)) == len(configs)
    for run in finished.runs:
        assert np.isnan(run.test_metric) != run.config.test


def test_an_interrupted_study_resumes_and_repeats_no_run(finished):
    assert len(finished.before.splitlines()) == 8
    assert "8 finished runs of this plan are kept." in finished.printed
    assert finished.after.startswith(finished.before)
    assert len(finished.after.splitlines()) == 9 * OF_A_FOLD + 6
    assert finished.again == finished.after


def test_folds_of_equal_sizes_share_a_program(finished):
    # Images to train on and to validate with: outer folds have 48 and 24, inner ones
    # 24 and 24, and the hold-out 57 and 15.
    assert finished.programs == 3


def test_the_page_shows_the_numbers_of_the_records(finished):
    summary = json.loads((finished.output / "summary.json").read_text())
    assert f"Report: {finished.output / 'report.html'}" in finished.printed
    assert summary["plan"]["betas"] == [0.6, 0.9] and summary["plan"]["nested"] == 2
    assert summary["plan_hash"] in finished.printed
    sgd, momentum = (
        np.array([r.test_metric for r in finished.runs if r.config.test and arm(r)])
        for arm in (lambda r: r.config.arm == "sgd", lambda r: r.config.arm != "sgd")
    )
    assert f"this choice reaches {momentum.mean():.2%}, and SGD" in finished.printed
    gain = f"{100 * (momentum - sgd).mean():+.2f}".replace("-", "−")
    assert f"a difference of {gain} points (95% interval" in finished.printed
    assert "n = 3 paired seeds" in finished.printed
    assert (finished.output / "figures" / "equal-effective-rate.png").exists()
