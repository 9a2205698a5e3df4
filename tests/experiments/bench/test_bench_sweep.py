"""`bench sweep`: runs together, against as many one after another."""

import json
import sys

import pytest

from experiments.__main__ import main
from experiments.bench import sweep as bench_sweep
from experiments.networks import cnn
from experiments.peers import peer_process

pytestmark = pytest.mark.usefixtures("small_network", "no_rest")

PEER = """
import sys
print("Peer of " + " ".join(sys.argv[1:]), flush=True)
for line in sys.stdin:
    with open({log!r}, "a") as log:
        log.write(line)
    print(0.25, flush=True)
"""


@pytest.fixture(autouse=True)
def small_cases(monkeypatch):
    case = bench_sweep.Case("cnn", cnn, (70, 4, 4, 1), epochs=2)
    monkeypatch.setattr(bench_sweep, "CASES", (case,))
    monkeypatch.setattr(bench_sweep, "RUNS", (1, 3))
    monkeypatch.setattr(bench_sweep, "TURNS", 2)


def test_bench_sweep_measures_each_number_of_runs_in_turn_with_the_peer(
    capsys, monkeypatch, tmp_path
):
    log = tmp_path / "log"
    monkeypatch.setattr(peer_process, "PROGRAMS", tmp_path)
    (tmp_path / "train_pytorch.py").write_text(PEER.format(log=str(log)))
    assert main(["bench", "sweep", "--peers", sys.executable]) == 0
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [(r["runs"], r["program"]) for r in records] == [
        (runs, program)
        for runs in (1, 3)
        for program in (
            "optax_momentum, together",
            "optax_momentum, one after another",
            "Peer of 70 cnn, one after another",
        )
    ]
    for record in records:
        assert record["slowest"] <= record["images_per_second"] <= record["fastest"]
        ours = records[0 if record["runs"] == 1 else 3]["images_per_second"]
        ratio = ours / record["images_per_second"]
        assert record["ours_over_this"] == pytest.approx(ratio, rel=1e-2)
    assert records[2]["images_per_second"] == 70 / 0.25  # of 1 run and of 3 the same
    assert records[5]["images_per_second"] == 70 / 0.25
    # Two epochs of 1 run, then of 3: a warm-up and two turns each.
    assert len(log.read_text().split()) == 2 * (1 + 3) * 3
    assert "images per second" in err and "together" in err


def test_a_peer_without_pytorch_is_told_in_one_line(capsys):
    assert main(["bench", "sweep", "--peers", sys.executable]) == 2
    err = capsys.readouterr().err
    assert "can't run train_pytorch.py: ModuleNotFoundError" in err
    assert err.count("\n") == 1
