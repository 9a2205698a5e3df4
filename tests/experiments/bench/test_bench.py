"""The command `bench`: ours first, peers in turn, and what it refuses."""

import json
import sys

import pytest

from experiments.__main__ import main
from experiments.bench import train as bench_train
from experiments.peers import peer_process

pytestmark = pytest.mark.usefixtures("small_network", "no_rest")

PEER = """
import sys
print({name!r}, flush=True)
for _ in sys.stdin:
    with open({log!r}, "a") as log:
        log.write({name!r} + chr(10))
    print(0.5, flush=True)
"""


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(bench_train, "IMAGES", 96)
    monkeypatch.setattr(bench_train, "SIZES", [(1, 64), (2, 64), (1, 32)])


def test_bench_train_prints_one_object_a_line_and_a_table_beside(capsys):
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


def test_peers_are_measured_in_turn_after_ours(capsys, monkeypatch, tmp_path):
    log = tmp_path / "log"
    monkeypatch.setattr(peer_process, "PROGRAMS", tmp_path)
    for name in ("train_keras.py", "train_pytorch.py"):
        (tmp_path / name).write_text(PEER.format(log=str(log), name=name))
    assert main(["bench", "train", "--peers", sys.executable]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0]["program"].startswith("optax_momentum")
    peers = [record["program"] for record in records[1:3]]
    assert peers == ["train_keras.py", "train_pytorch.py"]
    assert records[1]["images_per_second"] == 96 / 0.5
    ratio = records[0]["images_per_second"] / records[1]["images_per_second"]
    assert records[1]["ours_over_this"] == pytest.approx(ratio, rel=1e-2)
    # A warm-up and three epochs each, one after the other.
    assert log.read_text().split() == ["train_keras.py", "train_pytorch.py"] * 4


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("no-such-python", "--peers no-such-python is no Python interpreter: No such"),
        (sys.executable, "can't run train_keras.py: ModuleNotFoundError: No module"),
    ],
)
def test_peers_that_cannot_run_are_told_in_one_line(python, message, capsys):
    assert main(["bench", "train", "--peers", python]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
