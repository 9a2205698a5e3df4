"""`bench shuffling`: every system trains with new orders and with the first one's."""

import json
import sys

import pytest
from support import small_images

from experiments.__main__ import main
from experiments.bench import shuffling
from experiments.data import image_dataset
from experiments.peers import process
from experiments.training.engine import train_runs
from experiments.training.points import as_arrays
from experiments.training.step import steps_per_epoch

PEER = """
import json, sys
import numpy as np
arrays, epochs = np.load(sys.argv[1]), int(sys.argv[2])
print("NAME", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    accuracy = request["seed"] / 10 - 0.05 * request["repeats"] + SHIFT
    answer = {"test_accuracy": accuracy, "validation_accuracy": [accuracy] * epochs}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def small_benchmark(monkeypatch, tmp_path, small_network):
    dataset = image_dataset.load(str(small_images.write(tmp_path / "data.npz")), None)
    monkeypatch.setattr(image_dataset, "load", lambda name, directory: dataset)
    monkeypatch.setattr(shuffling, "EPOCHS", 3)
    monkeypatch.setattr(shuffling, "SEEDS", (4, 5))
    monkeypatch.setattr(process, "PROGRAMS", tmp_path)
    for name, shift in ("keras", "0.2"), ("pytorch", "0.3"):
        program = PEER.replace("NAME", name).replace("SHIFT", shift)
        (tmp_path / f"shuffling_{name}.py").write_text(program)


@pytest.mark.slow
def test_every_system_trains_with_both_orders_and_means_follow(small_benchmark, capsys):
    assert main(["bench", "shuffling", "--peers", sys.executable]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    runs = [line for line in lines if "seed" in line]
    means = {(m["program"], m["order"]): m for m in lines if "seed" not in m}
    new, repeated = "new each epoch", "that of epoch 1"
    systems = "optax_momentum", "keras", "pytorch"
    expected = [(s, n, o) for s in (4, 5) for o in (new, repeated) for n in systems]
    assert [(run["seed"], run["program"], run["order"]) for run in runs] == expected
    assert all(len(run["validation_accuracy"]) == 3 for run in runs)
    # (0.4 + 0.5)/2 + 0.2, and 0.05 less; a deviation of two values is |a − b|/√2.
    assert means["keras", new]["mean_test_accuracy"] == pytest.approx(0.65)
    assert means["keras", repeated]["mean_test_accuracy"] == pytest.approx(0.6)
    deviation = means["pytorch", new]["standard_deviation"]
    assert deviation == pytest.approx(0.1 / 2**0.5)


def test_only_epochs_after_the_first_depend_on_the_order(small_benchmark, monkeypatch):
    trained = []

    def recording(program, points, splits, epochs, *, test):
        state = program.start(as_arrays(points))
        for epoch in range(2):
            steps = steps_per_epoch(splits.train, shuffling.BATCH_SIZE)
            position = as_arrays(points), state, epoch, 0, steps
            state = program.train_steps(*position, splits.train)
            trained.append(float(state.sums.loss[0]))
        return train_runs(program, points, splits, epochs, test=test)

    monkeypatch.setattr(shuffling, "train_runs", recording)
    monkeypatch.setattr(shuffling, "BATCH_SIZE", 8)
    train = shuffling._ours(shuffling.load_cifar10(None))
    for repeats in (False, True):
        train(4, repeats)
    assert trained[0] == trained[2] and trained[1] != trained[3]


def test_the_benchmark_needs_other_systems(capsys):
    assert main(["bench", "shuffling"]) == 2
    assert "bench shuffling needs --peers PYTHON" in capsys.readouterr().err
