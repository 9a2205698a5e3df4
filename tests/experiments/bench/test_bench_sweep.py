"""`bench sweep`: runs trained together, compared with one after another."""

import json
import sys

import pytest
from support.peer_programs import replace_programs

from experiments.__main__ import main
from experiments.bench import sweep as bench_sweep
from experiments.networks import cnn

pytestmark = pytest.mark.usefixtures("small_network", "no_rest")


@pytest.fixture(autouse=True)
def small_cases(monkeypatch):
    case = bench_sweep.SweepCase("cnn", cnn, (70, 4, 4, 1), epochs=2)
    monkeypatch.setattr(bench_sweep, "CASES", (case,))
    monkeypatch.setattr(bench_sweep, "RUNS", (1, 3))
    monkeypatch.setattr(bench_sweep, "TURNS", 2)


@pytest.mark.slow
def test_bench_sweep_measures_each_number_of_runs_in_turn_with_the_peer(
    capsys, monkeypatch, tmp_path
):
    log = replace_programs(monkeypatch, tmp_path, {"train_pytorch.py": "0.25"})
    assert main(["bench", "sweep", "--peers", sys.executable]) == 0
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [(r["runs"], r["program"]) for r in records] == [
        (runs, program)
        for runs in (1, 3)
        for program in (
            "optax_momentum, together",
            "optax_momentum, one after another",
            "train_pytorch.py of 70 cnn, one after another",
        )
    ]
    for record in records:
        assert record["slowest"] <= record["images_per_second"] <= record["fastest"]
        ours = records[0 if record["runs"] == 1 else 3]["images_per_second"]
        ratio = ours / record["images_per_second"]
        assert record["ours_over_this"] == pytest.approx(ratio, rel=1e-2)
    assert records[2]["images_per_second"] == 70 / 0.25
    assert records[5]["images_per_second"] == 70 / 0.25
    # Two epochs of 1 run, then of 3, in warm-up and two turns.
    assert len(log.read_text().splitlines()) == 2 * (1 + 3) * 3
    assert "images per second" in err and "together" in err
