"""`bench speedrun`: our step in turn with PyTorch's, and with matrix products."""

import json
import sys

import pytest

from experiments.__main__ import main
from experiments.bench import speedrun
from experiments.peers import process

PEER = """
import sys
print("PyTorch", sys.argv[1], flush=True)
for line in sys.stdin:
    print(0.25, flush=True)
"""


@pytest.mark.slow
def test_a_step_is_measured_in_turn_with_pytorchs(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(speedrun, "BATCH_SIZE", 4)
    monkeypatch.setattr(process, "PROGRAMS", tmp_path)
    (tmp_path / "speedrun_pytorch.py").write_text(PEER)
    assert main(["bench", "speedrun", "--peers", sys.executable]) == 0
    out, err = capsys.readouterr()
    ours, theirs, products = map(json.loads, out.splitlines())
    assert ours["program"].startswith("optax_momentum on JAX")
    assert theirs["program"] == "PyTorch 4" and theirs["images_per_second"] == 16
    assert ours["images_per_second"] > 0 and products["images_per_second"] > 0
    assert "a step of speedrun" in err
