"""`bench update` and `bench memory`: ours first, in turn with Optax and the peers."""

import json
import sys

import jax
import pytest

from experiments.__main__ import main
from experiments.bench import memory as bench_memory
from experiments.bench import update as bench_update
from experiments.peers import peer_process

PEER = """
import sys
print("Peer of " + " ".join(sys.argv[1:]), flush=True)
for line in sys.stdin:
    with open({log!r}, "a") as log:
        log.write(line)
    print(1e-6 if line.startswith("fused") else 2e-6, flush=True)
"""

pytestmark = pytest.mark.usefixtures("no_rest")


@pytest.fixture(autouse=True)
def small_cases(monkeypatch):
    cases = (bench_update.Case(1, (300,), 2), bench_update.Case(3, (4, 5), 3))
    monkeypatch.setattr(bench_update, "CASES", cases)
    monkeypatch.setattr(bench_update, "TURNS", 2)
    monkeypatch.setattr(bench_memory, "SHAPE", (128, 64))


def records(capsys):
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def test_bench_update_prints_ours_optax_and_the_machine_for_every_case(capsys):
    assert main(["bench", "update"]) == 0
    seen, err = records(capsys)
    assert [record["case"] for record in seen] == ["1 leaf of 300"] * 4 + [
        "3 leaves of 4x5"
    ] * 4
    programs = [record["program"] for record in seen[:4]]
    assert programs[:2] == ["optax_momentum", "optax_momentum, packed"]
    assert programs[2].startswith("Optax 0.") and programs[3].startswith("a += b")
    for record in seen:
        assert record["slowest"] <= record["GB_per_s"] <= record["fastest"]
    assert seen[0]["ours_over_this"] == seen[4]["ours_over_this"] == 1
    assert "the update, GB/s at 20 bytes a parameter" in err


def test_peers_take_as_many_steps_in_turn(capsys, monkeypatch, tmp_path):
    log = tmp_path / "log"
    monkeypatch.setattr(peer_process, "PROGRAMS", tmp_path)
    (tmp_path / "update_pytorch.py").write_text(PEER.format(log=str(log)))
    assert main(["bench", "update", "--peers", sys.executable]) == 0
    seen, _ = records(capsys)
    fused = [r for r in seen if r["program"].endswith(", fused")]
    foreach = [r for r in seen if r["program"].endswith(", foreach")]
    assert [r["program"] for r in fused] == [
        "Peer of 1 300, fused",
        "Peer of 3 4 5, fused",
    ]
    # 20 bytes a parameter and step: 300 parameters, then 60.
    assert [r["GB_per_s"] for r in fused] == [20 * 300 * 2 / 1e3, 20 * 60 * 3 / 1e3]
    assert [r["GB_per_s"] for r in foreach] == [6.0, 1.8]
    # A warm-up and two turns of each case.
    expected = ["fused 2", "foreach 2"] * 3 + ["fused 3", "foreach 3"] * 3
    assert log.read_text().splitlines() == expected


def test_peer_without_pytorch_is_told_in_one_line(capsys):
    assert main(["bench", "update", "--peers", sys.executable]) == 2
    err = capsys.readouterr().err
    assert "can't run update_pytorch.py: ModuleNotFoundError" in err
    assert err.count("\n") == 1


def test_bench_memory_prints_bytes_a_parameter(capsys):
    with jax.numpy_dtype_promotion("standard"):  # for Optax's bfloat16 accumulator
        assert main(["bench", "memory"]) == 0
    seen, err = records(capsys)
    state = {record["program"]: record["state"] for record in seen}
    assert state["optax_momentum, packed"] == pytest.approx(4, abs=1e-3)
    assert state["optax_momentum, bfloat16()"] == pytest.approx(2, abs=1e-3)
    assert state["optax_momentum, int8()"] == pytest.approx(1.0625, abs=1e-3)
    (ours,) = (record for record in seen if record["program"] == "optax_momentum")
    assert ours["overwritten"] == pytest.approx(8, abs=1e-3)
    assert ours["temporaries"] < 0.2
    assert "memory of the update" in err
