"""The study `crossval`: nothing leaks between folds, and nothing is repeated."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from support import small_images
from support.small_studies import printed
from support.study_contexts import config, small_dataset, study_context

from experiments.records import runs
from experiments.records.config import UsageError
from experiments.records.runs import Run
from experiments.studies import context as laboratories
from experiments.studies.context import run_all
from experiments.studies.crossval.folds import stratified
from experiments.studies.crossval.study import Crossval, crossval, validate
from experiments.studies.lifecycle import TUNING_SEED, OpenStudy
from experiments.studies.settings import Setting, configured
from experiments.studies.validation import best

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


class Finished(NamedTuple):
    """A study that was interrupted, went on, and was asked for once more."""

    output: Path
    before: bytes  # records at the interruption
    printed: str  # when it went on
    programs: int  # compiled when it went on
    after: bytes  # records when it had ended
    again: bytes  # records when it was asked for once more
    runs: tuple[Run, ...]


def run(options: Crossval, path: Path, output: Path) -> str:
    """What a cross-validation of the small images prints."""
    return printed(crossval, replace(options, dataset=str(path)), output)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return small_images.write(tmp_path_factory.mktemp("small") / "data.npz")


@pytest.fixture(scope="module")
def finished(small_network, images, tmp_path_factory):
    output = tmp_path_factory.mktemp("finished") / "crossval"
    fit, compile_to_fit = laboratories.train_runs, laboratories.compile_to_fit
    fitted, compiled = [], []

    def interrupted(*arguments, **options):
        if len(fitted) == 4:
            raise KeyboardInterrupt
        fitted.append(arguments)
        return fit(*arguments, **options)

    def counted(*arguments, **keywords):
        compiled.append(arguments)
        return compile_to_fit(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laboratories, "train_runs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(SMALL, images, output)
    records = output / "runs.jsonl"
    before = records.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laboratories, "compile_to_fit", counted)
        printed = run(SMALL, images, output)
    after = records.read_bytes()
    run(SMALL, images, output)
    again = records.read_bytes()
    return Finished(
        output, before, printed, len(compiled), after, again, runs.read(output)
    )


def test_run_of_a_fold_is_the_same_bits_whatever_folds_ran_before(tmp_path):
    """Neither momentum nor parameters leak: each fold starts anew."""
    folds = stratified("--folds", small_dataset().train_labels, 4)
    settings = [Setting(0.9, 0.4), Setting(0.99, 2.0)]
    seeds = {name: TUNING_SEED + place for place, name in enumerate(folds)}
    found, programs = {}, {}
    for place, order in enumerate([[*folds], [*folds][::-1], [[*folds][1]]]):
        (tmp_path / str(place)).mkdir()
        lab = replace(study_context(tmp_path / str(place), folds), programs=programs)
        found[place] = {}
        for fold in order:  # each by itself, so that the order is this one
            own = config(fold=fold, seed=seeds[fold])
            configs = [configured(own, setting) for setting in settings]
            for ran in run_all(lab, configs, "one fold"):
                found[place][ran.config] = ran.epochs
    assert len(found[0]) == 8 and found[1] == found[0]
    assert {ran.fold for ran in found[2]} == {"fold 2 of 4"}
    assert all(found[0][ran] == epochs for ran, epochs in found[2].items())
    (tmp_path / "study").mkdir()
    lab = replace(study_context(tmp_path / "study", folds), programs=programs)
    study = validate(OpenStudy(lab, config(), {}), {"momentum": settings}, folds, "all")
    own = [ran for of_setting in study["momentum"].values() for ran in of_setting]
    assert {ran.config: ran.epochs for ran in own} == found[0]
    assert len(programs) == 1


def test_all_settings_share_the_seed_of_a_fold_and_no_fold_shares_another_s(finished):
    tried = [run.config for run in finished.runs if not run.config.test]
    outer = {(c.fold, c.seed) for c in tried if "inner" not in c.fold}
    assert outer == {(f"fold {i} of 3", TUNING_SEED + i - 1) for i in (1, 2, 3)}
    assert len(tried) == (3 + 3 * 2) * OF_A_FOLD


def test_best_of_the_folds_is_tested_on_seeds_that_no_tuning_used(finished):
    trials = {"sgd": {}, "momentum": {}}
    for run in finished.runs:
        if run.config.fold.startswith("fold") and "inner" not in run.config.fold:
            setting = run.config.beta, run.config.learning_rate
            trials[run.config.arm].setdefault(setting, []).append(run)
    tested = [run.config for run in finished.runs if run.config.test]
    assert [(c.seed, c.fold) for c in tested] == [(s, "hold-out") for s in range(3)] * 2
    for arm, own in trials.items():
        assert all(len(on_folds) == 3 for on_folds in own.values())
        chosen = {(c.beta, c.learning_rate) for c in tested if c.arm == arm}
        assert chosen == {best(own, classes=3)}


def test_test_images_are_read_once_by_each_run_of_the_chosen_and_by_no_other(finished):
    configs = [run.config for run in finished.runs]
    assert len(set(configs)) == len(configs)
    for run in finished.runs:
        assert np.isnan(run.test_accuracy) != run.config.test


def test_interrupted_study_goes_on_and_repeats_nothing(finished):
    assert len(finished.before.splitlines()) == 8
    assert "8 finished runs of this plan are kept." in finished.printed
    assert finished.after.startswith(finished.before)
    assert len(finished.after.splitlines()) == 9 * OF_A_FOLD + 6
    assert finished.again == finished.after


def test_folds_of_equal_sizes_share_a_program(finished):
    assert finished.programs == 3  # 48 and 24 images; within these, 24; held out, 15


def test_numbers_of_the_page_are_those_of_the_records(finished):
    summary = json.loads((finished.output / "summary.json").read_text())
    assert f"Report: {finished.output / 'report.html'}" in finished.printed
    assert summary["plan"]["betas"] == [0.6, 0.9] and summary["plan"]["nested"] == 2
    assert summary["plan_hash"] in finished.printed
    sgd, momentum = (
        np.array([r.test_accuracy for r in finished.runs if r.config.test and arm(r)])
        for arm in (lambda r: r.config.arm == "sgd", lambda r: r.config.arm != "sgd")
    )
    assert f"the choice reached {momentum.mean():.2%}, and SGD" in finished.printed
    gain = f"{100 * (momentum - sgd).mean():+.2f}".replace("-", "−")
    assert f"a difference of {gain} points (95% interval" in finished.printed
    assert "n = 3 paired seeds" in finished.printed
    assert (finished.output / "figures" / "equal-effective-rate.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "--folds must be at least 2, got 1"),
        ({"folds": 73}, "--folds 73 are more folds than the 72 images"),
        ({"folds": 25}, "--folds 25 need 25 images of every class to train on, but cl"),
        ({"folds": 20, "nested": 24}, "--nested 24 need 24 images of every class"),
        ({"nested": 1}, "--nested must be at least 2, got 1"),
        ({"betas": ()}, "--betas is empty"),
        ({"betas": (0.9, 0.9)}, "--betas names 0.9 twice"),
        ({"betas": (1.0,)}, "--betas must lie in [0, 0.9999999], got 1.0"),
        ({"effective_rates": (0.0,)}, "--effective-rates must lie in [1e-30"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        (
            {"batch_size": 25},
            "--batch-size 25 is larger than the 24 images that fold 1",
        ),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
    ],
)
def test_what_is_impossible_is_told_before_a_directory_is_made(
    images, tmp_path, options, message
):
    with pytest.raises(UsageError) as told:
        run(replace(SMALL, **options), images, tmp_path / "new")
    assert message in str(told.value) and "\n" not in str(told.value)
    assert not (tmp_path / "new").exists()
