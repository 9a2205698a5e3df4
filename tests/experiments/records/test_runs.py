"""Runs are recorded completely and read back."""

import json
import math
import os
import shutil
import subprocess
from dataclasses import replace

import pytest
from support.synthetic import synthetic_run
from support.usage_errors import usage_error

from experiments.records import runs
from experiments.records.config import UsageError

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")


def test_record_is_read_back_equal_and_in_order(tmp_path):
    recorded = (synthetic_run("keras", 3), synthetic_run("ema", 1, epochs=2))
    for run in recorded:
        runs.record(tmp_path, run)
    assert runs.read(tmp_path) == recorded


def test_record_is_strict_json_with_named_figures(tmp_path):
    runs.record(tmp_path, synthetic_run("ema", 5))
    (line,) = (tmp_path / "runs.jsonl").read_text().splitlines()
    values = json.loads(line, parse_constant=pytest.fail)
    assert (values["config"]["arm"], values["config"]["seed"]) == ("ema", 5)
    expected = {name.replace("metric", "accuracy") for name in runs.Epoch._fields}
    assert set(values["epochs"][0]) == expected
    assert "test_accuracy" in values and "metric" not in values


@pytest.mark.parametrize(
    ("metric", "name"),
    [("rmse", "validation_rmse"), ("loss", "validation_metric")],
)
def test_record_names_its_metric_and_comes_back(tmp_path, metric, name):
    run = replace(synthetic_run(weight_decay=0.25), metric=metric)
    runs.record(tmp_path, run)
    (line,) = (tmp_path / "runs.jsonl").read_text().splitlines()
    values = json.loads(line)
    assert values["epochs"][0][name] == run.epochs[0].validation_metric
    assert values["epochs"][0]["validation_loss"] == run.epochs[0].validation_loss
    assert values["config"]["weight_decay"] == 0.25
    assert "augment" not in values["config"]
    assert run.config.later_settings() == {"weight_decay": 0.25}
    assert runs.read(tmp_path) == (run,)


def test_record_of_a_diverged_run_keeps_null_where_a_loss_was_not_finite(tmp_path):
    epoch = runs.Epoch(math.inf, 0.2, math.nan, 0.1)
    run = replace(synthetic_run(), test_loss=math.nan, epochs=(epoch,))
    runs.record(tmp_path, run)
    text = (tmp_path / "runs.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["test_loss"] is None
    (back,) = runs.read(tmp_path)
    assert math.isnan(back.test_loss) and math.isnan(back.epochs[0].train_loss)
    assert back.epochs[0].train_metric == 0.2


def test_record_keeps_the_old_records_intact_if_the_disk_fails(tmp_path, monkeypatch):
    runs.record(tmp_path, synthetic_run(seed=1))

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    message = r"runs\.jsonl can't be written: No space left on device"
    with pytest.raises(UsageError, match=message):
        runs.record(tmp_path, synthetic_run(seed=2))
    assert runs.read(tmp_path) == (synthetic_run(seed=1),)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"config": {"dataset": "dig', "Unterminated string"),
        ("", "Expecting value"),
        ('{"loss": 1.5}', "its fields are not those of a run"),
        ("[1, 2]", "its fields are not those of a run"),
    ],
)
def test_read_refuses_a_half_or_foreign_line_unchanged(tmp_path, line, reason):
    runs.record(tmp_path, synthetic_run())
    path = tmp_path / "runs.jsonl"
    path.write_text(f"{path.read_text()}{line}\n")
    before = path.read_bytes()
    message = usage_error("", runs.read, tmp_path)
    assert f"{path}, line 2, is not a whole record of this program" in message
    assert reason in message
    assert path.read_bytes() == before


def test_read_refuses_a_last_line_that_was_cut(tmp_path):
    for seed in (1, 2):
        runs.record(tmp_path, synthetic_run(seed=seed))
    path = tmp_path / "runs.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match="line 2, is not a whole record"):
        runs.read(tmp_path)


def test_read_refuses_a_config_that_does_not_match_its_hash(tmp_path):
    runs.record(tmp_path, synthetic_run(beta=0.9))
    path = tmp_path / "runs.jsonl"
    path.write_text(path.read_text().replace('"beta": 0.9', '"beta": 0.8'))
    with pytest.raises(UsageError, match=r"line 1, .* it hashes to [0-9a-f]{16}"):
        runs.read(tmp_path)


def test_read_refuses_records_that_are_not_a_file(tmp_path):
    (tmp_path / "runs.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"runs\.jsonl can't be read: Is a directory"):
        runs.read(tmp_path)


def test_read_refuses_a_repeated_run(tmp_path):
    run = synthetic_run()
    runs.record(tmp_path, run)
    runs.record(tmp_path, run)
    with pytest.raises(UsageError, match=f"line 2, .* repeats run {run.config_hash}"):
        runs.read(tmp_path)


def test_environment_names_the_versions_that_are_installed():
    import jax
    import optax

    versions = runs.environment()
    assert versions["jax"] == jax.__version__
    assert versions["optax"] == optax.__version__
    assert {"python", "jaxlib", "flax", "optax_momentum"} < versions.keys()


@needs_git
def test_git_commit_names_the_commit_and_marks_changes(tmp_path, monkeypatch):
    root = _checkout(tmp_path, monkeypatch)
    commit = runs.git_commit()
    assert commit == _git(root, "rev-parse", "HEAD")
    (root / "experiments" / "records" / "runs.py").write_text("changed")
    assert runs.git_commit() == f"{commit}-dirty"


@needs_git
def test_git_commit_is_none_in_somebody_elses_repository(tmp_path, monkeypatch):
    root = _checkout(tmp_path, monkeypatch)
    inner = root / "vendored" / "experiments" / "records" / "runs.py"
    inner.parent.mkdir(parents=True)
    monkeypatch.setattr(runs, "__file__", str(inner))
    assert runs.git_commit() is None


def test_git_commit_is_none_where_git_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert runs.git_commit() is None


def _checkout(tmp_path, monkeypatch):
    """A repository with one commit, which `runs` takes for its own."""
    source = tmp_path / "experiments" / "records" / "runs.py"
    source.parent.mkdir(parents=True)
    source.write_text("first")
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    _git(tmp_path, *who, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(runs, "__file__", str(source))
    return tmp_path


def _git(root, *arguments):
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()
