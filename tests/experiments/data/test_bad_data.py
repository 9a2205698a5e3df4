"""Nine kinds of bad data, refused by a command in one line that names the image.

The data set is like CIFAR-10, but smaller. `test_npz`, `test_folder` and `test_tfds`
test what else each reader refuses.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from support.prepared_dataset import fake_download, write_prepared
from support.refused import refusal
from support.small_images import random_images
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from experiments.data import image_dataset
from experiments.studies.crossval.folds import nested, stratified

TRAIN = random_images(41, 12, 32, 32, 3), np.array([3, 1, 9, 0, 2, 4, 5, 6, 7, 8, 3, 1])
TEST = random_images(42, 10, 32, 32, 3), np.arange(10)
FEATURES = {
    "image": tfds.features.Image(shape=(None, None, 3)),
    "label": tfds.features.ClassLabel(num_classes=10),
}


@pytest.fixture(autouse=True)
def without_data_sets(idle_directory, tmp_path_factory, monkeypatch):
    """No data set is prepared, and the cache is an empty directory elsewhere."""
    cache = str(tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr("experiments.data.tfds.user_cache_dir", lambda _: cache)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


def compare(capsys, *words: str) -> str:
    return refusal(capsys, "compare", "--output", "results", *words)


def refusal_of_prepared(capsys: pytest.CaptureFixture, images, labels) -> str:
    """The error of `compare` for a prepared data set of such training images."""
    splits = {"train": (images, np.array(labels)), "test": TEST}
    write_prepared(Path("sets/tiny/1.0.0"), splits, features=FEATURES)
    return compare(capsys, "--dataset", "tiny", "--data-dir", "sets")


def changed(values, index: int, value) -> list:
    return [*values[:index], value, *values[index + 1 :]]


def test_missing_data_set_is_refused_and_not_replaced(capsys):
    message = compare(capsys, "--dataset", "cifar10", "--data-dir", "nothing")
    assert message == (
        "cifar10 is not prepared in nothing, which has no "
        "cifar10/VERSION/dataset_info.json. Download and prepare it with `uv run "
        "--extra prepare python -m experiments prepare cifar10 --data-dir nothing`."
    )


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ConnectionError("Max retries exceeded\nwith url: /cifar"),
        NonMatchingChecksumError("Artifact cifar-10.tar.gz has\nwrong checksum."),
    ],
)
def test_failed_download_is_reported_with_its_error(capsys, monkeypatch, error):
    def fail(_):
        raise error

    fake_download(monkeypatch, fail)
    assert refusal(capsys, "prepare", "cifar10", "--data-dir", "sets") == (
        "cifar10 couldn't be downloaded and prepared in sets. That needs a network "
        "connection and room on the disk; tensorflow-datasets reports: "
        f"{type(error).__name__}: {' '.join(str(error).split())}"
    )


@pytest.mark.parametrize("label", [10, -1])
def test_label_outside_the_classes_is_refused_with_its_image(capsys, label):
    assert refusal_of_prepared(capsys, TRAIN[0], changed(TRAIN[1], 7, label)) == (
        f"--dataset tiny: training image 7 has label {label}, outside the classes 0 "
        "to 9 of the training split. Remove the image or correct its label."
    )


def test_image_of_another_size_is_refused_with_its_index(capsys):
    images = changed(TRAIN[0], 5, TRAIN[0][5, :, :31])
    assert refusal_of_prepared(capsys, images, TRAIN[1]) == (
        "sets/tiny/1.0.0: train example 5 is uint8 of shape (32, 31, 3) where uint8 of "
        "shape (32, 32, 3) is needed: all images must have one size. Pass --image-size "
        "64, or another size, to resize them."
    )


def test_gray_test_images_are_refused_if_training_images_have_color(capsys):
    arrays = {"x_train": TRAIN[0], "y_train": TRAIN[1], "y_test": TEST[1]}
    np.savez("own.npz", x_test=TEST[0][..., :1], **arrays)
    assert compare(capsys, "--dataset", "own.npz") == (
        "--dataset own.npz: the training images have shape (32, 32, 3) and the test "
        "images (32, 32, 1); the shapes must be equal."
    )


@pytest.mark.parametrize("command", ["compare", "sweep"])
def test_images_too_small_for_the_network_are_refused(capsys, command):
    images = random_images(44, 900, 17, 32)
    np.savez("own.npz", images=images, labels=np.arange(900) % 3)
    words = "--dataset", "own.npz", "--output", "results"
    assert refusal(capsys, command, *words) == (
        "images are 17x32, but this network needs at least 18x18 pixels: enlarge them."
    )


def test_image_with_a_nan_is_refused_with_its_index(capsys):
    images = (TRAIN[0] / 255).astype(np.float32)
    images[8, 3, 1, 2] = np.nan
    np.savez("own.npz", images=images, labels=TRAIN[1] % 2)
    assert compare(capsys, "--dataset", "own.npz") == (
        "--dataset own.npz: images[8] holds nan; float images must lie in 0..1. "
        "Rescale them, or leave that image out."
    )


def test_constant_images_are_kept():
    images = random_images(43, 20, 6, 5)
    images[2], images[9] = 0, 255
    np.savez("own.npz", images=images, labels=np.arange(20) % 2)
    loaded = image_dataset.load("own.npz", None)
    read = np.concatenate([loaded.train_images, loaded.test_images])[..., 0]
    assert sorted(map(bytes, read)) == sorted(map(bytes, images))


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (13, "train example 12 can't be read (index 12 out of bound 12)."),
        (11, "train has 12 examples, but 11 according to its metadata."),
    ],
)
def test_data_set_of_another_length_than_its_metadata_state_is_refused(
    capsys, length, message
):
    folder = Path("sets/tiny/1.0.0")
    write_prepared(folder, {"train": TRAIN, "test": TEST}, features=FEATURES)
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    info["splits"][0]["shardLengths"] = [str(length)]
    path.write_text(json.dumps(info))
    assert compare(capsys, "--dataset", "tiny", "--data-dir", "sets") == (
        f"{folder}: {message} Remove the folder and prepare the data set again."
    )


def test_splits_and_folds_share_no_image():
    ids = np.random.default_rng(5).permutation(90)
    images = np.zeros((90, 4, 3, 1), np.uint8) + ids[:, None, None, None].astype("u1")
    np.savez("own.npz", images=images, labels=ids % 3)
    loaded = image_dataset.load("own.npz", None)

    def read(images) -> set[int]:
        return set(images[:, 0, 0, 0].tolist())

    train, _, validation, _ = image_dataset.hold_out(loaded)
    parts = [*map(read, (train, validation, loaded.test_images))]
    assert set.union(*parts) == set(range(90)) and sum(map(len, parts)) == 90
    labels, whole = loaded.train_labels, read(loaded.train_images)
    outer = stratified("--folds", labels, 4)
    inner = nested("--nested", labels, outer, 3)
    for name, fold in outer.items():
        train, validation = (read(loaded.train_images[part]) for part in fold)
        assert not train & validation and train | validation == whole
        for fold in inner[name].values():
            within, validated = (read(loaded.train_images[part]) for part in fold)
            assert not within & validated and within | validated == train
