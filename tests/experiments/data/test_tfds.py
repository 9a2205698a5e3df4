"""Prepared data sets: found, decoded, cached or refused, all without TensorFlow."""

import json
import re
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tensorflow_datasets as tfds
from support.prepared_dataset import write_prepared
from support.small_images import random_images

from experiments.data import image_dataset
from experiments.records.config import UsageError

TRAIN = random_images(21, 9, 6, 5, 3), np.arange(9) % 4
TEST = random_images(22, 5, 6, 5, 3), np.array([3, 1, 0, 2, 2])
SPLITS = {"train": TRAIN, "test": TEST}
RECORDS = "tiny-train.array_record-00000-of-00001"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setattr("experiments.data.tfds.user_cache_dir", lambda _: str(path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    return path


def test_prepared_data_set_is_read_as_it_was_written(tmp_path: Path):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS)
    loaded = image_dataset.load("tiny", tmp_path)
    assert (loaded.name, loaded.classes) == ("tiny", 4)
    for read, written in zip(loaded[1:5], TRAIN + TEST, strict=True):
        assert (read == written).all()
    assert loaded.train_images.dtype == loaded.test_images.dtype == np.uint8
    assert loaded.train_labels.dtype == loaded.test_labels.dtype == np.int32
    assert "tensorflow" not in sys.modules


def test_prepared_data_set_may_be_gray_with_many_files_and_splits(tmp_path: Path):
    gray = random_images(23, 10, 7, 4, 1), np.arange(10) % 3
    splits = {"train": gray, "test": (gray[0][:4], gray[1][:4]), "extra": gray}
    write_prepared(tmp_path / "tiny" / "1.0.0", splits, shards=3)
    loaded = image_dataset.load("tiny", tmp_path)
    assert loaded.train_images.shape == (10, 7, 4, 1)
    assert (loaded.train_images == gray[0]).all()
    assert loaded.train_labels.tolist() == gray[1].tolist()
    assert len(loaded.test_labels) == 4


def test_newest_complete_version_is_read(tmp_path: Path):
    for seed, version in enumerate(["2.0.0", "10.0.1", "9.9.9"]):
        images = random_images(seed, 9, 6, 5, 3)
        splits = {"train": (images, TRAIN[1]), "test": TEST}
        write_prepared(tmp_path / "tiny" / version, splits)
    (tmp_path / "tiny" / "11.0.0").mkdir()
    (tmp_path / "tiny" / "incomplete.AB12CD_12.0.0").mkdir()
    loaded = image_dataset.load("tiny", tmp_path)
    assert (loaded.train_images == random_images(1, 9, 6, 5, 3)).all()


def test_configuration_is_part_of_the_name(tmp_path: Path):
    write_prepared(tmp_path / "tiny" / "small" / "1.0.0", SPLITS, name="small")
    assert image_dataset.load("tiny/small", tmp_path).name == "tiny/small"


def test_option_takes_precedence_over_the_environment_variable(tmp_path, monkeypatch):
    other = {"train": (TRAIN[0] // 2, TRAIN[1]), "test": TEST}
    write_prepared(tmp_path / "a" / "tiny" / "1.0.0", SPLITS)
    write_prepared(tmp_path / "b" / "tiny" / "1.0.0", other)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "b"))
    assert (image_dataset.load("tiny", tmp_path / "a").train_images == TRAIN[0]).all()
    assert (image_dataset.load("tiny", None).train_images == TRAIN[0] // 2).all()


def test_second_read_uses_the_cache(tmp_path: Path, cache: Path, monkeypatch):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS)
    first = image_dataset.load("tiny", tmp_path)
    [file] = cache.iterdir()
    assert re.fullmatch(r"tiny-1\.0\.0-[0-9a-f]{16}\.npz", file.name)
    monkeypatch.setattr("experiments.data.tfds._decode", None)
    second = image_dataset.load("tiny", tmp_path)
    assert image_dataset.digest(second) == image_dataset.digest(first)


def test_cache_of_another_version_of_the_data_is_not_used(tmp_path: Path):
    write_prepared(tmp_path / "a" / "tiny" / "1.0.0", SPLITS)
    images = TRAIN[0].copy()
    images[8, 0, 0, 0] ^= 1
    other = {"train": (images, TRAIN[1]), "test": TEST}
    write_prepared(tmp_path / "b" / "tiny" / "1.0.0", other)
    size = [(tmp_path / x / "tiny/1.0.0" / RECORDS).stat().st_size for x in "ab"]
    assert size[0] == size[1]  # so that their sizes don't distinguish them
    image_dataset.load("tiny", tmp_path / "a")
    assert (image_dataset.load("tiny", tmp_path / "b").train_images == images).all()


@pytest.mark.parametrize("length", [0, 100, -1])
def test_broken_cache_file_is_replaced(tmp_path: Path, cache: Path, length: int):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS)
    image_dataset.load("tiny", tmp_path)
    [file] = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    assert (image_dataset.load("tiny", tmp_path).test_images == TEST[0]).all()
    assert [path.name for path in cache.iterdir()] == [file.name]
    assert len(file.read_bytes()) == len(whole)


def test_data_are_read_without_a_cache_if_it_cannot_be_written(tmp_path, cache):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS)
    cache.write_text("a file in place of the directory")
    assert (image_dataset.load("tiny", tmp_path).test_images == TEST[0]).all()


def test_missing_data_set_is_refused_with_the_command_that_prepares_it(tmp_path: Path):
    command = "uv run --extra prepare python -m experiments prepare cifar10"
    with pytest.raises(UsageError) as error:
        image_dataset.load("cifar10", None)
    assert str(error.value) == (
        f"cifar10 is not prepared in {tmp_path / 'elsewhere'}, which has no "
        f"cifar10/VERSION/dataset_info.json. Download and prepare it with `{command}`."
    )
    with pytest.raises(UsageError, match=f"`{command} --data-dir '.*/a b'`"):
        image_dataset.load("cifar10", tmp_path / "a b")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("cifar11", r".*cifar10\b"), ("Digits", "digits"), ("../x", None)],
)
def test_unknown_name_is_refused_with_the_most_similar_one(tmp_path, name, hint):
    end = f" Did you mean {hint}" if hint else "$"
    message = rf"^{name} is neither digits, nor the path .*-datasets knows\.{end}"
    with pytest.raises(UsageError, match=message):
        image_dataset.load(name, tmp_path)


def test_data_directory_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--data-dir .*/file \(or TFDS_DATA_DIR\) is"):
        image_dataset.load("cifar10", tmp_path / "file")


def assert_refused(data_dir: Path, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        image_dataset.load("tiny", data_dir)


def test_data_set_in_another_file_format_is_refused(tmp_path: Path):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS, fileFormat="tfrecord")
    message = "1.0.0 is prepared as tfrecord; only array_record .* prepare tiny --data"
    assert_refused(tmp_path, message)


def test_data_set_without_image_and_label_is_refused(tmp_path: Path):
    features = {"text": tfds.features.Text(), "label": tfds.features.Text()}
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS, features=features)
    assert_refused(tmp_path, "not a set of labeled .* and has label, text")


def test_data_set_without_test_images_is_refused(tmp_path: Path):
    folder = tmp_path / "tiny" / "1.0.0"
    write_prepared(folder, {"train": TRAIN, "validation": TEST, "test": TEST})
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"][2]["shardLengths"] = ["0"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    message = "needs the splits train and test, and has train, validation. Save"
    assert_refused(tmp_path, message)


def test_data_set_with_images_of_several_sizes_is_refused(tmp_path: Path):
    images = [*TRAIN[0][:4], TRAIN[0][4][:, :3], *TRAIN[0][5:]]
    splits = {"train": (images, TRAIN[1]), "test": TEST}
    write_prepared(tmp_path / "tiny" / "1.0.0", splits)
    got, needed = r"uint8 of shape \(6, 3, 3\)", r"uint8 of shape \(6, 5, 3\)"
    message = f"train example 4 is {got} where {needed} is needed: all images must"
    assert_refused(tmp_path, message)


def cut_records(folder: Path, share: float) -> None:
    content = (folder / RECORDS).read_bytes()
    (folder / RECORDS).write_bytes(content[: int(share * len(content))])


def damage_last_image(folder: Path) -> None:
    content = bytearray((folder / RECORDS).read_bytes())
    content[content.rfind(b"\x89PNG") + 60] ^= 255
    (folder / RECORDS).write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_last_image, "train example 8 can't be read .*hash mismatch"),
        (lambda folder: (folder / RECORDS).unlink(), "train example 0 .*No such file"),
        (lambda folder: cut_records(folder, 0), "train example 0 can't be"),
        (lambda folder: cut_records(folder, 0.25), "train example 0 can't be"),
        (lambda folder: cut_records(folder, 0.5), "train example 0 can't be"),
        (lambda folder: cut_records(folder, 0.99999), "train example 0 can't be"),
        (lambda folder: (folder / "features.json").unlink(), "metadata can't be read"),
        (
            lambda folder: (folder / "dataset_info.json").write_text("{"),
            "is prepared as an unknown format",
        ),
    ],
)
def test_damaged_data_set_is_refused_with_the_first_bad_example(
    tmp_path, damage, message
):
    folder = tmp_path / "tiny" / "1.0.0"
    write_prepared(folder, SPLITS)
    damage(folder)
    assert_refused(tmp_path, f"{message}.*(R|r)emove .*prepare")


def test_data_set_with_a_flipped_bit_is_refused_or_has_the_same_images(tmp_path: Path):
    folder, random, refused = tmp_path / "tiny" / "1.0.0", Random(5), 0
    write_prepared(folder, SPLITS)
    whole = (folder / RECORDS).read_bytes()
    used = [i for i, byte in enumerate(whole) if byte]  # most of the file is padding
    for _ in range(60):
        content = bytearray(whole)
        content[random.choice(used)] ^= 1 << random.randrange(8)
        (folder / RECORDS).write_bytes(content)
        try:
            read = image_dataset.load("tiny", tmp_path)
        except UsageError:
            refused += 1
        else:
            assert (read.train_images == TRAIN[0]).all()
            assert (read.train_labels == TRAIN[1]).all()
    assert refused > 50
