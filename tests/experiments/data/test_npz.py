"""Users' .npz files: what is accepted, how it is converted, what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.small_images import random_images
from support.usage_errors import usage_error

from experiments.data.npz import read
from experiments.records.config import UsageError

IMAGES, LABELS = random_images(11, 6, 4, 5, 3), np.array([2, 0, 1, 1, 0, 2])


def save(tmp_path: Path, **arrays) -> Path:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    return path


def changed(array: np.ndarray, index, value) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_integer_images_are_used_unchanged(tmp_path: Path, dtype):
    path = save(tmp_path, images=IMAGES.astype(dtype), labels=LABELS)
    [(images, _)] = read(path)
    assert images.dtype == np.uint8 and (images == IMAGES).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_images_are_scaled_and_rounded(tmp_path: Path, dtype):
    path = save(tmp_path, images=(IMAGES / 255).astype(dtype), labels=LABELS)
    [(images, _)] = read(path)
    assert images.dtype == np.uint8 and (images == IMAGES).all()


def test_images_without_channels_get_one(tmp_path: Path):
    path = save(tmp_path, images=IMAGES[..., 0], labels=LABELS)
    [(images, _)] = read(path)
    assert (images == IMAGES[..., :1]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64])
def test_labels_may_have_any_integer_dtype_and_be_a_column(tmp_path, dtype):
    path = save(tmp_path, images=IMAGES, labels=LABELS.astype(dtype)[:, None])
    [(_, labels)] = read(path)
    assert labels.tolist() == LABELS.tolist()


def test_two_splits_take_precedence_and_other_arrays_are_ignored(tmp_path):
    splits = {"x_train": IMAGES[:4], "y_train": LABELS[:4]}
    splits |= {"x_test": IMAGES[4:], "y_test": LABELS[4:]}
    ignored = {"images": IMAGES, "labels": LABELS, "names": np.array([None, "pickled"])}
    train, test = read(save(tmp_path, **ignored, **splits))
    assert (train[0] == IMAGES[:4]).all() and train[1].tolist() == [2, 0, 1, 1]
    assert (test[0] == IMAGES[4:]).all() and test[1].tolist() == [0, 2]


FLOATS = (IMAGES / 255).astype(np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"images": changed(FLOATS, (4, 1, 2, 0), np.nan)},
            r"images\[4\] holds nan; float images must lie in 0\.\.1",
        ),
        (
            {"images": changed(FLOATS, (3, 0, 0, 1), 1.5)},
            r"images\[3\] holds 1\.5; float images must lie in 0\.\.1. Rescale",
        ),
        (
            {"images": changed(IMAGES.astype(int), (2, 0, 0, 1), 256)},
            r"images\[2\] holds 256; integer images must lie in 0\.\.255",
        ),
        (
            {"images": changed(IMAGES.astype(int), (5, 3, 0, 1), -1)},
            r"images\[5\] holds -1; integer images",
        ),
        (
            {"images": IMAGES > 9},
            r"images has dtype bool; images must be integers in 0\.\.255 or floats",
        ),
        ({"images": IMAGES[0, 0]}, r"images has shape \(5, 3\); images must have sh"),
        ({"images": IMAGES[:, :0]}, r"shape \(6, 0, 5, 3\); .* without zeros"),
        ({"images": IMAGES[:5]}, "images holds 5 images and labels 6 labels"),
        ({"labels": LABELS / 2}, "labels has dtype float64; labels must be integers"),
        ({"labels": np.eye(6, 3, dtype=int)}, r"\(6, 3\); .* with \.argmax\(axis=1\)"),
        ({"labels": changed(LABELS, 3, -1)}, r"labels\[3\] is -1; labels must lie in"),
        ({"labels": changed(LABELS, 5, 2**40)}, r"labels\[5\] is 1099511627776; "),
        ({"labels": LABELS.astype(object)}, "Object arrays .* never loaded"),
    ],
)
def test_read_refuses_bad_arrays_with_name_and_index(tmp_path, arrays, message):
    path = save(tmp_path, **({"images": IMAGES, "labels": LABELS} | arrays))
    assert re.search(message, usage_error(f"--dataset {path}: ", read, path))


def test_read_lists_the_arrays_if_the_needed_ones_are_missing(tmp_path: Path):
    path = save(tmp_path, x_train=IMAGES, labels=LABELS)
    message = "needs x_train, .* or images and labels; it holds labels, x_train"
    with pytest.raises(UsageError, match=message):
        read(path)


def test_read_refuses_a_missing_file(tmp_path: Path):
    with pytest.raises(UsageError, match=r"none\.npz: there is no such file"):
        read(tmp_path / "none.npz")


def test_read_refuses_a_file_in_another_format(tmp_path: Path):
    path = tmp_path / "own.npz"
    with path.open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(UsageError, match=r"own.npz: this is not an \.npz file"):
        read(path)


def test_read_refuses_a_damaged_file(tmp_path: Path):
    path = save(tmp_path, images=IMAGES, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[300] ^= 1  # a pixel: it is beyond the header of the first array
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"an array can't be read \(Bad CRC-32"):
        read(path)
