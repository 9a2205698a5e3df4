"""A directory belongs to one plan, which is written before the first run."""

import json
from dataclasses import replace

import pytest
from support.synthetic import synthetic_run
from support.usage_errors import usage_error

from experiments.records import plan, runs
from experiments.records.config import UsageError

PLAN = {"study": "sweep", "epochs": 3, "betas": (0.5, 0.9)}


def hold(output, content=PLAN) -> None:
    with plan.hold(output, content):
        pass


def test_hold_creates_the_directory_with_its_parents(tmp_path):
    output = tmp_path / "some" / "where"
    with plan.hold(output, PLAN) as finished:
        assert finished == ()
        assert output.is_dir()


def test_hold_yields_the_finished_runs_of_the_same_plan(tmp_path):
    run = synthetic_run("keras", seed=4)
    with plan.hold(tmp_path, PLAN):
        runs.record(tmp_path, run)
    with plan.hold(tmp_path, dict(reversed(PLAN.items()))) as finished:
        assert finished == (run,)


def test_hold_writes_the_plan_and_its_hash_before_any_run(tmp_path):
    with plan.hold(tmp_path, PLAN):
        written = json.loads((tmp_path / "plan.json").read_text())
    stored = {**PLAN, "betas": [0.5, 0.9]}
    assert written == {"format": 2, "hash": plan.digest(PLAN), "plan": stored}


def test_hold_refuses_another_plan_and_names_both(tmp_path):
    ours = {**PLAN, "epochs": 7, "model": "mine"}
    hold(tmp_path)
    before = (tmp_path / "plan.json").read_bytes()
    assert usage_error("", hold, tmp_path, ours) == (
        f"--output {tmp_path} holds runs of another plan: {plan.digest(PLAN)} with "
        f"epochs 3; this one is {plan.digest(ours)} with epochs 7, model 'mine'. "
        "Choose another --output."
    )
    assert (tmp_path / "plan.json").read_bytes() == before


def test_hold_refuses_runs_without_a_plan(tmp_path):
    runs.record(tmp_path, synthetic_run())
    with pytest.raises(UsageError, match=r"holds runs, but no plan\.json"):
        hold(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"hash": "12', "Unterminated string"),
        ("[1]", "indices"),
        ('{"hash": "1", "plan": {"study": "sweep"}}', "its plan hashes to "),
    ],
)
def test_hold_refuses_half_a_plan_and_touches_nothing(tmp_path, text, reason):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a whole plan of this program") as got:
        hold(tmp_path)
    assert reason in str(got.value)
    assert path.read_text() == text


def test_hold_refuses_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(UsageError, match="file is a file; name a directory"):
        hold(path)
    assert path.read_text() == "mine"


def test_hold_refuses_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="can't be written: Not a directory; choose"):
        hold(tmp_path / "file" / "runs")


def test_hold_refuses_a_second_writer_until_the_first_is_done(tmp_path):
    with plan.hold(tmp_path, PLAN):
        with pytest.raises(UsageError, match="is in use by another process; wait"):
            hold(tmp_path)
    hold(tmp_path)


def test_plan_of_a_comparison_differs_by_every_setting_but_arm_and_seed():
    config = synthetic_run("sgd", 1).config
    same = replace(config, arm="keras", seed=8)
    assert plan.shared(config) == plan.shared(same)
    changes = {
        "dataset": "cifar10",
        "data_digest": "f" * 16,
        "learning_rate": 0.02,
        "beta": 0.8,
        "batch_size": 32,
        "epochs": 5,
        "schedule": "cosine",
        "network": "model.py:small",
        "code": "f" * 16,
        "fold": "1 of 3",
        "nonfinite": "skip",
        "test": False,
        "augment": "crop-flip",
        "label_smoothing": 0.1,
        "weight_decay": 0.0005,
        "decay_kernels_only": True,
    }
    assert changes.keys() | {"arm", "seed"} == vars(config).keys()
    for name, value in changes.items():
        changed = plan.shared(replace(config, **{name: value}))
        assert plan.digest(changed) != plan.digest(plan.shared(config))
