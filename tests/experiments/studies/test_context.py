"""Configs become recorded runs, each the same whatever runs beside or before it."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from support.small_studies import count_calls
from support.study_contexts import config, small_dataset, study_context

from experiments.networks import mlp
from experiments.optimizers.schedules import SCHEDULES
from experiments.problems.image_classification import image_classification
from experiments.records import runs
from experiments.studies import context
from experiments.studies.context import Fold, run_all
from experiments.training.engine import compile_to_fit, train_runs
from experiments.training.points import Point
from experiments.training.step import TrainSpec
from optax_momentum import keras


def figures(run):
    """All that training made of a run."""
    return run.epochs, run.test_metric


@pytest.mark.slow
def test_runs_come_in_the_order_of_their_configs_and_are_recorded(tmp_path):
    lab = study_context(tmp_path)
    wanted = [
        config(arm="nesterov"),
        config(seed=1004),
        config(arm="nesterov", learning_rate=0.02),
        config(arm="sgd", beta=0.0),
    ]
    got = run_all(lab, wanted, "tuning")
    assert [run.config for run in got] == wanted
    recorded = {run.config_hash: run for run in runs.read(tmp_path)}
    for run in got:
        assert run.config_hash == run.config.digest()
        assert recorded[run.config_hash].epochs == run.epochs
    assert len({run.epochs for run in got}) == 4


@pytest.mark.slow
def test_a_run_is_what_the_grid_makes_of_its_point(tmp_path):
    lab = study_context(tmp_path)
    (run,) = run_all(lab, [config(schedule="cosine", epochs=3)], "tuning")
    splits = context._splits(lab, "hold-out")
    steps = 3 * math.ceil(32 / 8)

    def transformation(learning_rate, beta):
        return keras(SCHEDULES["cosine"].rate(learning_rate, steps), beta)

    points = [Point(0.07, 0.83, 1003)]
    program = compile_to_fit(
        TrainSpec(transformation, 8, image_classification(mlp, 3)), 1, splits
    )
    outcome = train_runs(program, points, splits, 3)
    got = [epoch.validation_loss for epoch in run.epochs]
    np.testing.assert_allclose(got, outcome.validation.loss[0], rtol=1e-5)


@pytest.mark.slow
def test_a_run_is_the_same_bits_alone_and_after_others(tmp_path):
    """Neither parameters nor momentum leak from one run, or fold, into the next."""
    one, two = (
        Fold(np.arange(20) + 20 * i, np.arange(20) + 20 * (1 - i)) for i in (0, 1)
    )
    folds = {"1 of 2": one, "2 of 2": two}
    (tmp_path / "alone").mkdir()
    wanted = config(fold="2 of 2", test=True)
    (alone,) = run_all(study_context(tmp_path / "alone", folds), [wanted], "alone")
    lab = study_context(tmp_path, folds)
    diverging = config(fold="1 of 2", learning_rate=1e30)
    before = [config(fold="1 of 2"), diverging, config(seed=5), wanted]
    *_, after = run_all(lab, before, "after others")
    assert figures(after) == figures(alone)


def test_test_split_is_read_only_where_the_config_says_so(tmp_path):
    dataset = small_dataset()
    lab = study_context(tmp_path, dataset=dataset)
    tuned, reported = run_all(lab, [config(), config(test=True)], "both")
    assert math.isnan(tuned.test_metric) and math.isnan(tuned.test_loss)
    assert 0 <= reported.test_metric <= 1 and math.isfinite(reported.test_loss)
    assert tuned.epochs == reported.epochs
    back = {run.config.test: run for run in runs.read(tmp_path)}
    assert math.isnan(back[False].test_metric)
    assert back[True].test_metric == pytest.approx(reported.test_metric)


def test_finished_runs_are_not_repeated(tmp_path, monkeypatch):
    lab = study_context(tmp_path)
    wanted = [config(seed=seed) for seed in range(5)]
    done = run_all(lab, wanted[:3], "first")
    fits = count_calls(monkeypatch, "train_runs")
    assert run_all(lab, wanted, "all")[:3] == done
    assert run_all(lab, [wanted[1], wanted[1]], "again") == [done[1], done[1]]
    assert [point.seed for _, points, *_ in fits for point in points] == [3, 4]


@pytest.mark.parametrize("error", [KeyboardInterrupt, jax.errors.JaxRuntimeError])
def test_runs_that_fail_leave_the_others_as_they_are(tmp_path, monkeypatch, error):
    lab = study_context(tmp_path)
    fits = count_calls(monkeypatch, "train_runs", 2, error=error)
    wanted = [config(seed=seed) for seed in range(2 * jax.device_count())]
    with pytest.raises(error):
        run_all(lab, wanted, "failing")
    kept = runs.read(tmp_path)
    assert [run.config for run in kept] == wanted[: jax.device_count()]
    finished = run_all(lab, wanted, "repeated")
    assert [run.config for run in finished] == wanted
    assert [run.epochs for run in finished[: len(kept)]] == [run.epochs for run in kept]
    assert len(fits) == 3


@pytest.mark.slow
def test_one_program_trains_folds_of_equal_sizes_rates_and_sgd(tmp_path, monkeypatch):
    compiled = count_calls(monkeypatch, "compile_to_fit")
    order = np.arange(40)
    folds = {
        str(i): Fold(np.roll(order, i)[:30], np.roll(order, i)[30:]) for i in (1, 2)
    }
    lab = study_context(tmp_path, folds)
    same = [
        config(fold="1"),
        config(fold="2", beta=0.5),
        config(fold="2", arm="sgd", beta=0.0, epochs=1),
    ]
    run_all(lab, same, "same")
    assert len(compiled) == 1
    run_all(lab, [replace(same[0], batch_size=16)], "another batch size")
    assert len(compiled) == 2
    run_all(lab, [replace(same[0], schedule="cosine")], "another schedule")
    assert len(compiled) == 3
