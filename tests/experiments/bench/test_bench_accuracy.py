"""`bench accuracy`: tuned on validation data, then compared with Keras."""

import json
import sys

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.bench import accuracy as bench_accuracy
from experiments.data import image_dataset
from experiments.peers import process

PEER = """
import json, sys
import numpy as np
arrays = np.load(sys.argv[1])
print("Keras", flush=True)
for _ in sys.stdin:
    shapes = {name: arrays[name].shape for name in sorted(arrays)}
    answer = {"seed": 0, "epochs": 10, "seconds": 1000.0, "test_accuracy": 0.5}
    answer["validation_accuracy"] = 0.9 * (shapes == SHAPES)
    print(json.dumps(answer), flush=True)
"""
SHAPES = {
    "test_images": (20, 6, 5, 1),
    "test_labels": (20,),
    "train_images": (64, 6, 5, 1),
    "train_labels": (64,),
    "validation_images": (16, 6, 5, 1),
    "validation_labels": (16,),
}


@pytest.fixture
def small_dataset(monkeypatch, tmp_path, small_network, own_cache):
    """Three classes of different brightness, and a peer with a fixed result."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(100).astype(np.int32) % 3
    noise = rng.integers(0, 40, (100, 6, 5, 1))
    images = (labels[:, None, None, None] * 100 + noise).astype(np.uint8)
    train, test = (images[:80], labels[:80]), (images[80:], labels[80:])
    dataset = image_dataset.Dataset("small", *train, *test, 3)
    monkeypatch.setattr(image_dataset, "load", lambda name, directory: dataset)
    monkeypatch.setattr(bench_accuracy, "LEARNING_RATES", (1e-6, 0.05))
    monkeypatch.setattr(bench_accuracy, "BETAS", (0.9,))
    monkeypatch.setattr(bench_accuracy, "BATCH_SIZE", 8)
    monkeypatch.setattr(bench_accuracy, "EPOCHS", 8)
    monkeypatch.setattr(bench_accuracy, "SEEDS", (0,))
    monkeypatch.setattr(process, "PROGRAMS", tmp_path)
    program = PEER.replace("SHAPES", repr(SHAPES))
    (tmp_path / "accuracy_keras.py").write_text(program)


@pytest.mark.slow
def test_the_best_of_the_sweep_is_compared_with_keras(small_dataset, capsys):
    assert main(["bench", "accuracy", "--peers", sys.executable]) == 0
    baseline, ours = map(json.loads, capsys.readouterr().out.splitlines())
    assert baseline["program"] == "Keras" and baseline["validation_accuracy"] == 0.9
    assert ours["program"] == "optax_momentum, learning rate 0.05, beta 0.9"
    assert ours["reached"] and ours["validation_accuracy"] >= 0.9
    assert ours["theirs_over_this"] == pytest.approx(1000 / ours["seconds"], rel=0.05)
