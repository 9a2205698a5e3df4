"""`bench recipe`: our run of the recipe, then PyTorch's on the same images."""

import json
import sys
from typing import Any

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.bench import recipe
from experiments.peers import process
from experiments.speedrun.record import SpeedrunRecord

PEER = """
import json, sys
import numpy as np
arrays, epochs = np.load(sys.argv[1]), float(sys.argv[2])
print("PyTorch", arrays["train_images"].shape, epochs, flush=True)
for line in sys.stdin:
    answer = {"test_accuracy": [0.5], "multicrop_accuracy": 0.6, "seconds": 9.87}
    print(json.dumps(answer), flush=True)
"""


def test_both_systems_train_on_the_same_images(capsys, monkeypatch, tmp_path):
    class Dataset:
        train_images = np.zeros((6, 4, 4, 3), np.uint8)
        test_images = np.zeros((2, 4, 4, 3), np.uint8)
        train_labels, test_labels = np.arange(6), np.arange(2)

    def train(options, console):
        seen.append((options.epochs, options.seeds))
        names = SpeedrunRecord.__dataclass_fields__
        values: dict[str, Any] = dict.fromkeys(names, 0.0)
        values |= {"test_accuracy": [0.7], "multicrop_accuracy": 0.8}
        values |= {"training_seconds": 3.0, "multicrop_seconds": 1.25}
        return SpeedrunRecord(**values)

    seen, runs = [], {}
    monkeypatch.setattr(recipe.image_dataset, "load", lambda *_: Dataset)
    monkeypatch.setattr(
        recipe, "speedrun", lambda o, c: runs.update({o.output: train(o, c)})
    )
    monkeypatch.setattr(recipe.record, "read", lambda output, seed: runs[output])
    monkeypatch.setattr(process, "PROGRAMS", tmp_path)
    (tmp_path / "recipe_pytorch.py").write_text(PEER)
    words = ["bench", "recipe", "--peers", sys.executable, "--epochs", "2.5"]
    assert main(words) == 0
    ours, theirs = map(json.loads, capsys.readouterr().out.splitlines())
    assert seen == [(2.5, 1)]
    assert ours["multicrop_accuracy"] == 0.8 and ours["seconds"] == 4.2
    assert theirs["program"] == "PyTorch (6, 4, 4, 3) 2.5"
    assert theirs["seconds"] == 9.9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipe"], "needs --peers PYTHON"),
        (["train", "--epochs", "2"], "--epochs applies to bench recipe"),
        (
            ["recipe", "--peers", sys.executable, "--epochs", "0"],
            "--epochs must lie in",
        ),
    ],
)
def test_what_is_impossible_is_refused(words, said, capsys):
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err
