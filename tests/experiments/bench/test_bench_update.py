"""`bench update` and `bench memory`: ours first, then Optax and the peers."""

import json
import sys

import jax
import pytest
from support.peer_programs import replace_programs

from experiments.__main__ import main
from experiments.bench import memory as bench_memory
from experiments.bench import update as bench_update

pytestmark = pytest.mark.usefixtures("no_rest")


@pytest.fixture(autouse=True)
def small_cases(monkeypatch):
    cases = (
        bench_update.UpdateCase(1, (300,), 2),
        bench_update.UpdateCase(3, (4, 5), 3),
    )
    monkeypatch.setattr(bench_update, "CASES", cases)
    monkeypatch.setattr(bench_update, "TURNS", 2)
    monkeypatch.setattr(bench_memory, "SHAPE", (128, 64))


def records(capsys):
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def test_bench_update_prints_ours_then_optax_then_the_machine(capsys):
    assert main(["bench", "update"]) == 0
    printed, err = records(capsys)
    assert [record["case"] for record in printed] == ["1 leaf of 300"] * 4 + [
        "3 leaves of 4x5"
    ] * 4
    programs = [record["program"] for record in printed[:4]]
    assert programs[:2] == ["optax_momentum", "optax_momentum, packed"]
    assert programs[2].startswith("Optax 0.") and programs[3].startswith("a += b")
    for record in printed:
        assert record["slowest"] <= record["GB_per_s"] <= record["fastest"]
    assert printed[0]["ours_over_this"] == printed[4]["ours_over_this"] == 1
    assert "the update, GB/s at 20 bytes per parameter" in err


def test_peers_take_the_steps_of_each_case_in_turn(capsys, monkeypatch, tmp_path):
    answer = "1e-6 if line.startswith('fused') else 2e-6"
    log = replace_programs(monkeypatch, tmp_path, {"update_pytorch.py": answer})
    assert main(["bench", "update", "--peers", sys.executable]) == 0
    printed, _ = records(capsys)
    fused = [r for r in printed if r["program"].endswith(", fused")]
    foreach = [r for r in printed if r["program"].endswith(", foreach")]
    assert [r["program"] for r in fused] == [
        "update_pytorch.py of 1 300, fused",
        "update_pytorch.py of 3 4 5, fused",
    ]
    # 20 bytes per parameter and step: 300 parameters, then 60.
    assert [r["GB_per_s"] for r in fused] == [20 * 300 * 2 / 1e3, 20 * 60 * 3 / 1e3]
    assert [r["GB_per_s"] for r in foreach] == [6.0, 1.8]
    # Warm-up and two turns of each case.
    lines = ["fused 2", "foreach 2"] * 3 + ["fused 3", "foreach 3"] * 3
    assert log.read_text().splitlines() == [f"update_pytorch.py {x}" for x in lines]


@pytest.mark.slow
def test_bench_memory_prints_bytes_per_parameter(capsys):
    with jax.numpy_dtype_promotion("standard"):  # for Optax's bfloat16 accumulator
        assert main(["bench", "memory"]) == 0
    printed, err = records(capsys)
    state = {record["program"]: record["state"] for record in printed}
    assert state["optax_momentum, packed"] == pytest.approx(4, abs=1e-3)
    assert state["optax_momentum, bfloat16()"] == pytest.approx(2, abs=1e-3)
    assert state["optax_momentum, int8()"] == pytest.approx(1.0625, abs=1e-3)
    (ours,) = (record for record in printed if record["program"] == "optax_momentum")
    assert ours["overwritten"] == pytest.approx(8, abs=1e-3)
    assert ours["temporaries"] < 0.2
    assert "memory of the update" in err
