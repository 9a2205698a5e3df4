"""`bench train`: ours first, in turn with the peers, then at other sizes."""

import json
import sys
from pathlib import Path

import pytest
from support.peer_programs import replace_programs

from experiments.__main__ import main
from experiments.bench import train as bench_train

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("small_network", "no_rest")


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(bench_train, "IMAGES", 96)
    monkeypatch.setattr(bench_train, "OWN_IMAGES", 64)
    monkeypatch.setattr(bench_train, "SIZES", [(1, 64), (2, 64), (1, 32)])


@pytest.mark.slow
def test_bench_train_prints_json_lines_and_a_table(capsys):
    assert main(["bench", "train"]) == 0
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    for record in records:
        assert record["slowest"] <= record["images_per_second"] <= record["fastest"]
    assert records[0]["ours_over_this"] == records[2]["ours_over_this"] == 1
    programs = [record["program"] for record in records]
    assert programs[0].startswith("optax_momentum on JAX ")
    assert programs[1:] == [
        "matrix products alone",
        "96 images, 64 a step",
        "192 images, 64 a step",
        "96 images, 32 a step",
    ]
    assert "images per second" in err and "optax_momentum" in err


@pytest.mark.slow
def test_peers_run_in_turn_after_ours(capsys, monkeypatch, tmp_path):
    programs = {"train_keras.py": "0.5", "train_pytorch.py": "0.5"}
    log = replace_programs(monkeypatch, tmp_path, programs)
    assert main(["bench", "train", "--peers", sys.executable]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0]["program"].startswith("optax_momentum")
    peers = [record["program"] for record in records[1:3]]
    assert peers == ["train_keras.py of 96 cnn", "train_pytorch.py of 96 cnn"]
    assert records[1]["images_per_second"] == 96 / 0.5
    ratio = records[0]["images_per_second"] / records[1]["images_per_second"]
    assert records[1]["ours_over_this"] == pytest.approx(ratio, rel=1e-2)
    # Warm-up and three epochs, each program in turn.
    lines = ["train_keras.py epoch", "train_pytorch.py epoch"] * 4
    assert log.read_text().splitlines() == lines


OWN = """
import numpy as np
from flax import nnx
from experiments.problems import Problem, from_nnx

def network(image_shape, classes, rngs):
    flat = lambda x: x.mean((1, 2))
    norm = nnx.BatchNorm(classes, rngs=rngs)
    return nnx.Sequential(flat, nnx.Linear(image_shape[-1], classes, rngs=rngs), norm)

def problem():
    split = {"x": np.ones((70, 3), np.float32)}
    losses = lambda module, batch: (module(batch["x"])[:, 0] ** 2, {})
    functions = from_nnx(lambda rngs: nnx.Linear(3, 1, rngs=rngs), losses)
    return Problem("ones", split, split, split, *functions)
"""


@pytest.mark.slow
def test_a_network_or_a_problem_of_ones_own_is_measured(capsys, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    assert main(["bench", "train", "--model", f"{path}:network"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0]["program"] == f"{path}:network" and len(records) == 3
    assert main(["bench", "train", "--problem", f"{path}:problem"]) == 0
    [record] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert record["program"] == f"{path}:problem"
    assert record["examples_per_second"] > 0
    assert main(["bench", "update", "--model", f"{path}:network"]) == 2
    assert "--model applies to bench train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "trained"),
    [
        ("experiments/networks/resnet.py:resnet20", "resnet20"),
        ("experiments/networks/separable.py:separable", "separable"),
        ("experiments/networks/cnn.py:cnn", "cnn"),
        ("elsewhere/resnet.py:resnet20", "cnn"),
    ],
)
def test_peers_train_the_network_of_this_package_that_is_measured(
    model, trained, monkeypatch
):
    monkeypatch.chdir(ROOT)
    assert bench_train._of_peers(model) == trained
