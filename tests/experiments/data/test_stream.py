"""`--stream`: the bits of data in memory, little memory, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console
from support.image_folders import PIXELS, write, write_pets
from support.prepared_dataset import write_prepared
from support.small_images import random_images
from support.streamed_splits import SPLITS, STATEFUL, STREAMED, from_store

from experiments.compare.options import Compare
from experiments.compare.study import compare
from experiments.data import image_dataset
from experiments.data.streaming import map_in_threads
from experiments.networks import cnn
from experiments.optimizers.arms import ARMS
from experiments.problems.image_classification import image_classification
from experiments.records import runs
from experiments.records.config import UsageError
from experiments.training import windows
from experiments.training.engine import train_runs
from experiments.training.points import Point, as_arrays
from experiments.training.program import compile_program
from experiments.training.step import TrainSpec

ROOT = Path(__file__).parents[3]
CIFAR10 = os.environ.get("TFDS_DATA_DIR")
POINTS = [Point(0.05, 0.8, 3), Point(0.02, 0.5, 4), Point(0.03, 0.6, 3)]
STEPS = 8  # of 8 images, the last of 5
pytestmark = pytest.mark.usefixtures("small_network")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Windows of three steps of a run: they divide no epoch."""
    monkeypatch.setattr(windows, "_IMAGES", 100)
    monkeypatch.setattr(windows, "_BYTES", 3 * 8 * 20)


@pytest.fixture(params=["stateless", "stateful"])
def task(request):
    return STATEFUL if request.param == "stateful" else image_classification(cnn, 3)


def program(task, lanes, splits, batch_size=8):
    spec = TrainSpec(ARMS["keras"].transformation, batch_size, task)
    return compile_program(spec, lanes, splits, test=True)


def readers() -> list[threading.Thread]:
    return [x for x in threading.enumerate() if "grain" in x.name]


def no_reader_is_left() -> bool:
    deadline = time.monotonic() + 10
    while readers() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not readers()


def assert_equal(ours, theirs) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_runs_have_the_bits_of_runs_in_memory(task, lanes):
    points = POINTS[:lanes]
    in_memory, from_disk = (
        train_runs(program(task, lanes, splits), points, splits, 2, test=True)
        for splits in (SPLITS, STREAMED)
    )
    assert_equal(from_disk[:4], in_memory[:4])
    assert no_reader_is_left()


def test_a_run_may_begin_and_be_cut_at_any_step(task):
    lanes = as_arrays(POINTS[:1])
    in_memory, from_disk = (program(task, 1, x) for x in (SPLITS, STREAMED))
    for cuts in [(4,), (2, 3, 7), (1, 6)]:
        states = [x.start(lanes) for x in (in_memory, from_disk)]
        for start, stop in zip((0, *cuts), (*cuts, STEPS), strict=True):
            from_disk.close()  # as when a checkpoint is restored
            states = [
                x.train_steps(lanes, state, 1, start, stop, splits.train)
                for x, state, splits in zip(
                    (in_memory, from_disk), states, (SPLITS, STREAMED), strict=True
                )
            ]
        assert_equal(states[1], states[0])
    from_disk.close()


def test_each_image_is_read_once_an_epoch_whatever_the_calls_and_equal_seeds():
    train = from_store(SPLITS.train)
    task = image_classification(cnn, 3)
    compiled = program(task, 2, STREAMED._replace(train=train))
    lanes = as_arrays([POINTS[0], POINTS[2]])
    train.images.source.places.clear()  # type: ignore
    state = compiled.start(lanes)
    train.images.source.places.clear()  # type: ignore
    for step in range(STEPS):
        state = compiled.train_steps(lanes, state, 0, step, step + 1, train)
    compiled.close()
    read = sorted(train.images.source.places)  # type: ignore
    assert read == sorted([0, *range(61)])  # image 0 also stands for padding


def prepared(directory: Path) -> Path:
    """Colored images of two classes, as tensorflow-datasets would prepare them."""
    images = random_images(5, 80, 6, 5, 3)
    labels = np.arange(80) % 2
    write_prepared(
        directory / "cifar10" / "3.0.2",
        {"train": (images[:60], labels[:60]), "test": (images[60:], labels[60:])},
        shards=2,
    )
    return directory


@pytest.fixture
def folder(tmp_path):
    """Colored and gray images of several sizes, and a broken file."""
    root = write_pets(tmp_path / "pets", 6)
    for index in range(30):
        kind = "cats" if index % 2 else "dogs"
        write(root / kind / f"x{index}.png", np.tile(PIXELS[index % 12], (1, 2, 1)))
    write(root / "cats" / "gray.png", PIXELS[0][..., 0])
    (root / "dogs" / "broken.png").write_bytes(b"no image")
    return root


def test_streamed_data_are_those_in_memory(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    binary = tmp_path / "binary"
    for index in range(12):
        pixels = np.arange(30).reshape(6, 5) % (2 + index % 2) == 0
        write(binary / "ab"[index % 2] / f"{index}.png", pixels.astype(np.uint8))
    sources: tuple[tuple[str, Path | None, dict[str, Any]], ...] = (
        ("cifar10", prepared(tmp_path / "tfds"), {}),
        ("cifar10", tmp_path / "tfds", {"image_size": 4}),
        (str(folder), None, {"image_size": 4, "skip_broken": 0.1}),
        (str(binary), None, {}),
    )
    for name, data_dir, options in sources:
        whole = image_dataset.load(name, data_dir, **options)
        lazy = image_dataset.load(name, data_dir, **options, stream=True)
        assert image_dataset.digest(lazy) == image_dataset.digest(whole)
        assert lazy.changes == whole.changes
        assert_equal([np.asarray(x) for x in lazy[1:5]], list(whole[1:5]))
    assert no_reader_is_left()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["tfds", "folder"])
def test_a_study_may_be_resumed_either_way(source, tmp_path, folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = {"dataset": str(folder), "image_size": 6, "skip_broken": True}
    if source == "tfds":
        options = {"dataset": "cifar10", "data_dir": prepared(tmp_path / "tfds")}
    common = {"preset": "smoke", "epochs": 1, "seeds": 1, "batch_size": 8, **options}
    found = []
    for stream in (True, False):
        output = tmp_path / f"study{stream}"
        compare(Compare(**common, stream=stream, output=output), Console(quiet=True))
        found.append({run.config_hash: run.epochs for run in runs.read(output)})
    assert found[0] == found[1]
    again = Compare(**common, stream=False, output=tmp_path / "studyTrue")
    compare(again, Console(quiet=True))
    assert len(runs.read(tmp_path / "studyTrue")) == len(found[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "digits is read whole"),
        ({"dataset": "digits"}, "digits is read whole"),
        ({"dataset": "x.npz"}, "x.npz is read whole"),
        ({"table": "x.csv"}, "--stream applies to images, and --table"),
        ({"text": Path("x.txt")}, "--stream applies to images, and --text"),
        ({"problem": "x.py:f"}, "--stream applies to images, and --problem"),
    ],
)
def test_data_that_cannot_be_streamed_are_refused_in_one_line(options, words, tmp_path):
    output = tmp_path / "study"
    with pytest.raises(UsageError, match=words) as refusal:
        compare(Compare(**options, stream=True, output=output), Console(quiet=True))
    assert "\n" not in str(refusal.value)
    assert not output.exists()


def test_threads_end_when_reading_fails_or_is_given_up():
    def fail(item: int) -> int:
        if item == 5:
            raise UsageError("changed")
        return item

    read = map_in_threads(fail, range(1000))
    with pytest.raises(UsageError, match="changed"):
        list(read)
    assert no_reader_is_left()
    read = map_in_threads(int, range(1000))
    next(read)
    assert readers()
    read.close()
    assert no_reader_is_left()


def test_a_file_that_changes_during_a_run_ends_it(folder):
    options = {"image_size": 4, "skip_broken": 0.1, "stream": True}
    data = image_dataset.load(str(folder), None, **options)
    (folder / "cats" / "0.png").write_bytes(b"no image any more")
    with pytest.raises(UsageError, match=r"0\.png has changed"):
        [np.asarray(part) for part in (data.train_images, data.test_images)]
    assert no_reader_is_left()


def command(data_dir: Path, output: Path, *more: str) -> subprocess.Popen:
    words = ["compare", "--dataset", "cifar10", "--data-dir", str(data_dir)]
    words += [
        "--stream",
        "--output",
        str(output),
        "--batch-size",
        "8",
        "--save-every",
        "0.5",
        *more,
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(output.parent / "cache")},
    )


@pytest.mark.slow
def test_nothing_is_left_of_a_command_that_is_terminated(tmp_path):
    images = random_images(5, 80, 18, 18, 1)
    labels = np.arange(80) % 2
    splits = {"train": (images[:60], labels[:60]), "test": (images[60:], labels[60:])}
    write_prepared(tmp_path / "tfds" / "cifar10" / "3.0.2", splits)
    shared_before = set(os.listdir("/dev/shm"))
    process = command(tmp_path / "tfds", tmp_path / "study", "--epochs", "100000")
    saved = tmp_path / "study" / "checkpoints"
    deadline = time.monotonic() + 300
    while not [*saved.glob("*/*/manifest.json")] and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in printed
    assert "repeat the command to resume" in " ".join(printed.split())
    assert set(os.listdir("/dev/shm")) <= shared_before


@pytest.mark.slow
@pytest.mark.skipif(CIFAR10 is None, reason="needs CIFAR-10 at TFDS_DATA_DIR")
def test_cifar10_takes_less_than_1500_megabytes():
    """Reading all images takes less than the 184 MB of their arrays."""
    program = """
import json
from pathlib import Path
import grain, jax, tensorflow_datasets
from array_record.python import array_record_module
from experiments.data import image_dataset
from experiments.data.examples import Examples, Splits
from experiments.networks import mlp
from experiments.optimizers.arms import ARMS
from experiments.problems.image_classification import image_classification
from experiments.training.engine import compile_to_fit, train_runs
from experiments.training.points import Point
from experiments.training.step import TrainSpec
jax.devices(), tensorflow_datasets.features, tensorflow_datasets.builder_from_directory

def peak_megabytes():  # unlike ru_maxrss, without that of the process that started us
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

before = peak_megabytes()
data = image_dataset.load("cifar10", Path(DATA), stream=True)
loaded = peak_megabytes()
parts = image_dataset.hold_out(data)
few = slice(0, 4000)
splits = Splits(Examples(parts.images[few], parts.labels[few]),
                Examples(*parts[2:]), Examples(data.test_images, data.test_labels))
task = image_classification(mlp, 10)
spec = TrainSpec(ARMS["keras"].transformation, 64, task)
compiled = compile_to_fit(spec, 1, splits, test=True)
train_runs(compiled, [Point(0.01, 0.9, 0)], splits, 1, test=True)
print(json.dumps([peak_megabytes(), loaded - before, data.digest]))
"""
    program = program.replace("DATA", repr(CIFAR10))
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert not result.returncode, result.stderr
    peak, by_reading, digest = json.loads(result.stdout.splitlines()[-1])
    assert peak < 1500
    assert by_reading < 150, by_reading
    assert digest == "7164eae346304670"  # of the arrays in memory
