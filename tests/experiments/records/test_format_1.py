"""Directories that format 1 wrote are read, resumed and named as they were then."""

import json
import os
import shlex
import shutil
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.data import image_dataset
from experiments.distributed import shared_plan
from experiments.records import runs
from experiments.records.config import Config, digest
from experiments.records.runs import Epoch
from experiments.training import checkpoints
from experiments.training.checkpoints import Checkpoints

GOLDEN = Path(__file__).parents[2] / "golden" / "disk"
# What each directory is: see tests/golden/README.md.
STOPPED = ["study-half", "compare-stopped", "model-stopped", "arms-stopped"]
WITH_CHECKPOINT = {"compare-stopped": 1, "model-stopped": 2, "arms-stopped": 1}
PLANS = json.loads((GOLDEN / "plans.json").read_text())
CONFIGS = json.loads((GOLDEN / "configs.json").read_text())
# Records after which a command has shown enough: it compiles each further optimizer.
ENOUGH = {"compare-stopped": 3, "arms-stopped": 4}
# Figures were recorded on one kind of CPU; others round differently.
RTOL = 1e-3

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture(scope="module", autouse=True)
def read_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_dataset, "load", cache(image_dataset.load))
        yield


@pytest.fixture(autouse=True)
def default_promotion():
    """Strict promotion is off, because a user's optimizers may not support it."""
    name = "jax_numpy_dtype_promotion"  # in all threads: one compiles the steps
    strict = jax.config.values[name]
    jax.config.update(name, "standard")
    yield
    jax.config.update(name, strict)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Copies a recorded directory and its inputs, and works there."""

    def copy(case: str) -> list[str]:
        shutil.copytree(GOLDEN / "inputs", tmp_path, dirs_exist_ok=True)
        shutil.copytree(GOLDEN / case / "stopped", tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
        return shlex.split((GOLDEN / case / "command.txt").read_text())

    return copy


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses(record: dict) -> np.ndarray:
    curves = [e[name] for e in record["epochs"] for name in Epoch._fields[::2]]
    return np.array([*curves, record["test_loss"] or np.nan], float)


def test_a_finished_study_repeats_nothing(copied, capsys):
    words = copied("study-finished")
    before = Path("out/runs.jsonl").read_bytes()
    assert main(words) == 0
    assert Path("out/runs.jsonl").read_bytes() == before
    assert "12 finished runs of this plan are kept." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("case", STOPPED)
def test_a_stopped_command_resumes(copied, case, capsys, monkeypatch):
    words = copied(case)
    before = Path("out/runs.jsonl").read_bytes()
    record = runs.record

    def record_until_enough(output, *new):
        record(output, *new)
        if len(records(output / "runs.jsonl")) == ENOUGH.get(case):
            raise KeyboardInterrupt

    monkeypatch.setattr(runs, "record", record_until_enough)
    assert main(words) == (130 if case in ENOUGH else 0)
    resumes = "Resuming from out/checkpoints" in capsys.readouterr().out
    assert resumes == (case in WITH_CHECKPOINT)
    assert Path("out/runs.jsonl").read_bytes().startswith(before)
    resumed = records(Path("out/runs.jsonl"))
    expected = records(GOLDEN / case / "expected.jsonl")[: ENOUGH.get(case)]
    assert len(resumed) == len(expected)
    for got, want in zip(resumed, expected, strict=True):
        rate, recorded = (run["config"].pop("learning_rate") for run in (got, want))
        assert rate == pytest.approx(recorded, rel=1e-6)  # noise of 1 − β
        assert got["config"] == want["config"]
        assert got["resumed"] == want["resumed"]
        np.testing.assert_allclose(losses(got), losses(want), RTOL)
    assert sum(run["resumed"] for run in resumed) == WITH_CHECKPOINT.get(case, 0)
    assert case in ENOUGH or not list(Path("out/checkpoints").glob("*"))


@pytest.mark.slow
def test_stopped_claims_keep_what_was_measured(copied):
    words = copied("claims-half")
    before = Path("out/claims.jsonl").read_bytes()
    assert main(words) == 0
    assert Path("out/claims.jsonl").read_bytes().startswith(before)
    claims = records(Path("out/claims.jsonl"))
    expected = records(GOLDEN / "claims-half" / "expected_claims.jsonl")
    assert [claim["claim"] for claim in claims] == [each["claim"] for each in expected]
    assert len(records(Path("out/runs.jsonl"))) == 12


@pytest.mark.slow
@pytest.mark.parametrize("case", WITH_CHECKPOINT)
def test_a_checkpoint_is_restored_bit_for_bit(copied, case, monkeypatch):
    """Training resumes from exactly the leaves that were saved, on any machine."""
    restored, restore = [], Checkpoints.restore

    def recording(self, template):
        if (tree := restore(self, template)) is not None:
            restored.append(tree)
            raise KeyboardInterrupt
        return tree

    words = copied(case)
    (path,) = Path("out/checkpoints").glob("*/*/manifest.json")
    saved = [leaf["sha256"] for leaf in json.loads(path.read_text())["leaves"].values()]
    monkeypatch.setattr(Checkpoints, "restore", recording)
    assert main(words) == 130
    (tree,) = restored
    found = [
        checkpoints._description(leaf)["sha256"]
        for leaf in checkpoints._on_host(tree).values()
    ]
    assert sorted(found) == sorted(saved)


@pytest.mark.slow
@pytest.mark.parametrize("command", PLANS)
def test_a_command_plans_what_it_planned(command, tmp_path, monkeypatch):
    if "cifar10" in PLANS[command]["output"] and "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("CIFAR-10 is not prepared here")

    class Planned(Exception):
        pass

    def hold(output, plan):
        stored = {"hash": digest(plan), "plan": json.loads(json.dumps(plan))}
        raise Planned({"output": str(output), "plan.json": stored})

    monkeypatch.setattr(shared_plan, "hold", hold)
    shutil.copytree(GOLDEN / "inputs", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Planned) as planned:
        main(shlex.split(command))
    assert planned.value.args == (PLANS[command],)


def test_configs_have_the_digests_that_they_had():
    for recorded in CONFIGS["configs"]:
        assert Config(**recorded["config"]).digest() == recorded["digest"]


def test_checkpoints_have_the_directories_that_they_had():
    configs = [Config(**recorded["config"]) for recorded in CONFIGS["configs"]]
    for recorded in CONFIGS["checkpoints_of"]:
        together = [configs[index] for index in recorded["configs"]]
        kept = checkpoints.checkpoints_of(Path("out"), together, 30.0, print)
        assert kept.directory.as_posix() == recorded["directory"]
        assert kept._work == recorded["work"]
