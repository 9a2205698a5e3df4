"""Data sets of an experiment: sources, splits, digests, refusals."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from support.small_images import random_images

from experiments.data import image_dataset
from experiments.data.labeled import Changes
from experiments.records.config import UsageError

CIFAR10 = os.environ.get("TFDS_DATA_DIR")


def dataset(n: int) -> image_dataset.Dataset:
    images, labels = random_images(1, n + 3, 4, 5, 2), np.arange(n + 3, dtype=np.int32)
    parts = images[:n], labels[:n], images[n:], labels[n:]
    return image_dataset.Dataset("x", *parts, n + 3)


def test_digits_are_enlarged_and_split_with_stratification():
    digits = image_dataset.load("digits", None)
    assert (digits.name, digits.classes) == ("digits", 10)
    assert digits.train_images.shape == (1437, 24, 24, 1)
    assert digits.test_images.shape == (360, 24, 24, 1)
    assert digits.train_images.dtype == np.uint8
    assert digits.train_labels.dtype == np.int32
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 255)
    counts = np.bincount(digits.test_labels).tolist()
    assert counts == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    small = digits.train_images[:, ::3, ::3]
    assert (small.repeat(3, axis=1).repeat(3, axis=2) == digits.train_images).all()
    sixteenths = np.rint(small / 255 * 16)
    assert (np.rint(sixteenths * 255 / 16) == small).all()


def test_digits_contain_every_image_once_with_its_label():
    from sklearn.datasets import load_digits

    digits = image_dataset.load("digits", None)
    images = np.concatenate([digits.train_images, digits.test_images])[:, ::3, ::3, 0]
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    sixteenths = np.rint(images.reshape(1797, 64) / 255 * 16)
    original, original_labels = map(np.asarray, load_digits(return_X_y=True))
    ours = np.column_stack([sixteenths, labels]).tolist()
    assert sorted(ours) == sorted(np.column_stack([original, original_labels]).tolist())


def test_digits_test_split_is_always_the_same():
    digits = image_dataset.load("digits", None)
    assert image_dataset.digest(digits) == "8eb05ca4dc2cdefc"


# The cuts of keras 3.15.1: keras.src...array_slicing.train_validation_split.
@pytest.mark.parametrize(
    ("n", "cut"), [(2, 1), (7, 5), (13, 10), (1437, 1149), (8003, 6402)]
)
def test_hold_out_cuts_where_keras_does(n: int, cut: int):
    whole = dataset(n)
    images, labels, validation_images, validation_labels = image_dataset.hold_out(whole)
    assert labels.tolist() == list(range(cut))
    assert validation_labels.tolist() == list(range(cut, n))
    assert (images == whole.train_images[:cut]).all()
    assert (validation_images == whole.train_images[cut:]).all()


def test_digest_differs_when_a_value_shape_dtype_or_class_count_does():
    whole = dataset(6)
    changed = whole.test_images.copy()
    changed[1, 2, 3, 1] ^= 1
    variants = [
        whole,
        whole._replace(test_images=changed),
        whole._replace(train_images=whole.train_images.reshape(6, 5, 4, 2)),
        whole._replace(train_labels=whole.train_labels.view(np.uint32)),
        whole._replace(classes=10),
    ]
    assert len({image_dataset.digest(variant) for variant in variants}) == 5


def test_digest_does_not_depend_on_memory_layout_or_name():
    whole = dataset(6)
    other = whole._replace(name="y", train_images=np.asfortranarray(whole.train_images))
    assert image_dataset.digest(other) == image_dataset.digest(whole)
    assert re.fullmatch("[0-9a-f]{16}", image_dataset.digest(whole))


@pytest.mark.parametrize("name", ["digits", "file.npz"])
def test_load_refuses_a_data_directory_that_it_would_ignore(name: str):
    with pytest.raises(UsageError, match=f"--data-dir .*--dataset {name} is not one"):
        image_dataset.load(name, Path("anywhere"))


def save(path: Path, train: list[int], test: list[int], **changes) -> str:
    arrays = {"x_train": random_images(2, len(train), 4, 5), "y_train": np.array(train)}
    arrays |= {"x_test": random_images(3, len(test), 4, 5), "y_test": np.array(test)}
    np.savez(path / "own.npz", allow_pickle=False, **(arrays | changes))
    return str(path / "own.npz")


def test_file_with_two_splits_keeps_them(tmp_path: Path):
    path = save(tmp_path, [2, 0, 1, 2, 1], [1, 0])
    loaded = image_dataset.load(path, None)
    assert (loaded.name, loaded.classes) == ("own.npz", 3)
    assert (loaded.train_images == random_images(2, 5, 4, 5)[..., None]).all()
    assert loaded.train_labels.tolist() == [2, 0, 1, 2, 1]
    assert (loaded.test_images == random_images(3, 2, 4, 5)[..., None]).all()
    assert loaded.test_labels.tolist() == [1, 0]


def test_file_without_splits_is_split_with_stratification(tmp_path: Path):
    images, labels = random_images(4, 60, 4, 5, 3), np.repeat([0, 1, 2], [30, 20, 10])
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    loaded = image_dataset.load(str(tmp_path / "own.npz"), None)
    assert np.bincount(loaded.train_labels).tolist() == [24, 16, 8]
    assert np.bincount(loaded.test_labels).tolist() == [6, 4, 2]
    label_of = dict(zip(map(bytes, images), labels.tolist(), strict=True))
    together = np.concatenate([loaded.train_images, loaded.test_images])
    assert sorted(map(bytes, together)) == sorted(label_of)
    assert [label_of[bytes(x)] for x in loaded.test_images] == list(loaded.test_labels)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0, 1, 0, 1, 0], [1, 0, 2], "test image 2 has label 2, outside .* 0 to 1 of"),
        ([0, 0, 0, 0, 0], [0], "all labels are 0; at least two classes are needed"),
        ([1], [0], "1 training and 1 test images are too few; at least two and one"),
        ([1, 2, 1, 2, 1], [1], "labels begin at 1, and 0 is the first .* Subtract 1 "),
        ([1, 2, 1, 2, 1], [0], "largest label is 2, but no training .* label 0. Renum"),
        ([0, 1, 5, 1, 0], [1], "label is 5, .* label 2, nor one of 2 others. Renumber"),
        ([0, 1, 2**31 - 1, 0], [1], "has label 2, nor one of 2,147,483,644 others"),
        ([0, 0, 1, 1, 2], [1], "no image of class 2 is left .* Shuffle a file sorted"),
    ],
)
def test_file_with_two_splits_is_refused_for_bad_labels(tmp_path, train, test, message):
    path = save(tmp_path, train, test)
    with pytest.raises(UsageError, match=f"^--dataset {re.escape(path)}: .*{message}"):
        image_dataset.load(path, None)


def test_file_is_refused_if_test_images_have_another_shape(tmp_path: Path):
    path = save(tmp_path, [0, 1, 0, 1], [1, 0], x_test=random_images(3, 2, 5, 4))
    message = r"training images have shape \(4, 5, 1\) and the test images \(5, 4, 1\)"
    with pytest.raises(UsageError, match=message):
        image_dataset.load(path, None)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 0, 7, 1, 0], "image 3 is the only one of class 7, .* needs two. Add"),
        ([0, 1, 2, 0, 1, 2], "20% of 6 images are too few to test each of 3 classes"),
        (
            [0, 2] * 10,
            "label is 2, but no training image has label 1. Renumber",
        ),
        ([3, 5] * 10, "the labels begin at 3, .* Subtract 3 from all of them"),
    ],
)
def test_file_that_cannot_be_split_is_refused(tmp_path, labels, message):
    path = tmp_path / "own.npz"
    np.savez(path, images=random_images(5, len(labels), 4, 5), labels=labels)
    with pytest.raises(UsageError, match=message):
        image_dataset.load(str(path), None)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int8])
def test_images_of_zeros_and_ones_are_black_and_white(tmp_path: Path, dtype):
    path, bits = tmp_path / "own.npz", random_images(6, 20, 4, 5) % 2
    np.savez(path, images=bits.astype(dtype), labels=np.arange(20) % 2)
    loaded = image_dataset.load(str(path), None)
    together = np.concatenate([loaded.train_images, loaded.test_images])
    assert sorted(map(bytes, together)) == sorted(map(bytes, bits * 255))
    said = "Integer images hold only 0 and 1, which are read as 0 and 255."
    assert image_dataset.describe_changes(loaded) == [said]
    bits[:, 0, 0] = 2
    np.savez(path, images=bits.astype(dtype), labels=np.arange(20) % 2)
    loaded = image_dataset.load(str(path), None)
    assert loaded.train_images.max() == 2 and loaded.changes == Changes()


def test_every_data_set_can_be_resized():
    digits = image_dataset.load("digits", None)
    loaded = image_dataset.load("digits", None, image_size=8)
    assert loaded.train_images.shape == (1437, 8, 8, 1)
    # Each digit is 8x8, enlarged three times: means of 3x3 and parts of neighbors.
    blurred = np.abs(loaded.train_images - digits.train_images[:, 1::3, 1::3] * 1.0)
    assert blurred.mean() < 20 and (loaded.train_labels == digits.train_labels).all()
    assert loaded.changes == Changes(image_size=8)
    assert image_dataset.describe_changes(loaded) == [
        "The middle of every image is resized to 8x8."
    ]
    same = image_dataset.load("digits", None, image_size=24)
    assert image_dataset.digest(same) == image_dataset.digest(digits)


def test_changes_are_said_in_sentences():
    whole = dataset(6)
    assert image_dataset.describe_changes(whole) == []
    changes = Changes(64, {"broken": 1200, "not an image": 7}, ("Something.",))
    assert image_dataset.describe_changes(whole._replace(changes=changes)) == [
        "1,207 of 1,216 files are left out: 1,200 broken, 7 not an image.",
        "The middle of every image is resized to 64x64.",
        "Something.",
    ]


@pytest.mark.slow
@pytest.mark.skipif(CIFAR10 is None, reason="needs CIFAR-10 at TFDS_DATA_DIR")
def test_cifar10_is_read_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("experiments.data.tfds.user_cache_dir", lambda _: str(tmp_path))
    cifar10 = image_dataset.load("cifar10", None)
    assert cifar10.classes == 10
    assert cifar10.train_images.shape == (50_000, 32, 32, 3)
    assert cifar10.test_images.shape == (10_000, 32, 32, 3)
    assert cifar10.train_images.dtype == np.uint8
    assert np.bincount(cifar10.train_labels).tolist() == [5000] * 10
    assert np.bincount(cifar10.test_labels).tolist() == [1000] * 10
    assert cifar10.train_labels[:8].tolist() == [3, 8, 9, 0, 5, 1, 8, 0]
    assert cifar10.test_labels[:8].tolist() == [7, 9, 8, 3, 0, 5, 6, 7]
    assert len(image_dataset.hold_out(cifar10)[0]) == 40_000
