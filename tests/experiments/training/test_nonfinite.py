"""A run with a gradient that is not finite stops, skips the step or records it."""

import json

import numpy as np
import pytest
from support import small_images
from support import small_network as small

from experiments.__main__ import main
from experiments.networks import cnn

pytestmark = pytest.mark.usefixtures("small_network", "blank_figures", "steep")

# At this rate, the steep logits overflow after the first step of every optimizer.
WILD = "--learning-rate 1e28 --beta 0.1 --epochs 2 --seeds 1 --batch-size 8".split()


@pytest.fixture
def steep(monkeypatch):
    monkeypatch.setattr(cnn, "apply", lambda *given: 1e8 * small.apply(*given))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return small_images.write(tmp_path_factory.mktemp("small") / "data.npz")


def run(images, output, policy, capsys):
    words = ["--dataset", str(images), "--output", str(output), "--nonfinite", policy]
    return main(["compare", *words, *WILD]), capsys.readouterr().err


@pytest.mark.slow
def test_stopping_names_the_step_and_the_leaf(images, tmp_path, capsys):
    status, err = run(images, tmp_path / "a", "stop", capsys)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: sgd, seed 0: at step 2 of epoch 1 the gradient of ")
    assert "params['dense']" in err
    checkpoints = tmp_path / "a" / "checkpoints"
    assert f"The state before that step is saved in {checkpoints}" in err
    assert list(checkpoints.glob("*/00000000-00000001"))


def records(images, output, policy, capsys) -> list[dict]:
    """The records of a command that finishes."""
    status, _ = run(images, output, policy, capsys)
    assert status == 0
    records = [*map(json.loads, (output / "runs.jsonl").read_text().splitlines())]
    assert {record["config"]["nonfinite"] for record in records} == {policy}
    return records


@pytest.mark.slow
def test_skipped_steps_are_counted_in_the_record(images, tmp_path, capsys):
    for record in records(images, tmp_path / "a", "skip", capsys):
        assert record["skipped_steps"] > 0


@pytest.mark.slow
def test_recording_trains_on_and_keeps_the_result(images, tmp_path, capsys):
    for record in records(images, tmp_path / "a", "record", capsys):
        assert record["skipped_steps"] == 0
        assert record["test_loss"] is None or not np.isfinite(record["test_loss"])
        assert record["canary"]["repeats_equal"]
