"""Prepared data sets: found, decoded, cached, refused. None of it needs TensorFlow."""

import json
import re
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tensorflow_datasets as tfds
from support.prepared_dataset import random_images, write_prepared

from experiments.data import image_dataset, tfds_reader
from experiments.records.config import UsageError

TRAIN = random_images(21, 9, 6, 5, 3), np.arange(9) % 4
TEST = random_images(22, 5, 6, 5, 3), np.array([3, 1, 0, 2, 2])
SPLITS = {"train": TRAIN, "test": TEST}
RECORDS = "tiny-train.array_record-00000-of-00001"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tfds_reader, "user_cache_dir", lambda _: str(tmp_path / "kept"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    return tmp_path / "kept"


def test_prepared_set_is_read_as_it_was_written(tmp_path: Path):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS)
    loaded = image_dataset.load("tiny", tmp_path)
    assert loaded.name == "tiny"
    assert loaded.classes == 4
    assert (loaded.train_images == TRAIN[0]).all()
    assert (loaded.train_labels == TRAIN[1]).all()
    assert (loaded.test_images == TEST[0]).all()
    assert (loaded.test_labels == TEST[1]).all()
    assert loaded.train_images.dtype == loaded.test_images.dtype == np.uint8
    assert loaded.train_labels.dtype == loaded.test_labels.dtype == np.int32
    assert "tensorflow" not in sys.modules


def test_prepared_set_may_be_grey_in_several_files_and_in_more_splits(tmp_path: Path):
    grey = random_images(23, 10, 7, 4, 1), np.arange(10) % 3
    splits = {"train": grey, "test": (grey[0][:4], grey[1][:4]), "extra": grey}
    write_prepared(tmp_path / "tiny" / "1.0.0", splits, shards=3)
    loaded = image_dataset.load("tiny", tmp_path)
    assert loaded.train_images.shape == (10, 7, 4, 1)
    assert (loaded.train_images == grey[0]).all()
    assert loaded.train_labels.tolist() == grey[1].tolist()
    assert len(loaded.test_labels) == 4


def test_newest_version_is_read_and_unfinished_ones_are_not(tmp_path: Path):
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


def test_directory_is_the_option_else_the_environment_variable(tmp_path, monkeypatch):
    other = {"train": (TRAIN[0] // 2, TRAIN[1]), "test": TEST}
    write_prepared(tmp_path / "a" / "tiny" / "1.0.0", SPLITS)
    write_prepared(tmp_path / "b" / "tiny" / "1.0.0", other)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "b"))
    assert (image_dataset.load("tiny", tmp_path / "a").train_images == TRAIN[0]).all()
    assert (image_dataset.load("tiny", None).train_images == TRAIN[0] // 2).all()


def test_second_read_decodes_nothing(tmp_path: Path, cache: Path, monkeypatch):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS)
    first = image_dataset.load("tiny", tmp_path)
    [kept] = cache.iterdir()
    assert re.fullmatch(r"tiny-1\.0\.0-[0-9a-f]{16}\.npz", kept.name)
    monkeypatch.setattr(tfds_reader, "_decode", None)
    assert image_dataset.digest(
        image_dataset.load("tiny", tmp_path)
    ) == image_dataset.digest(first)


def test_cache_is_left_alone_when_the_data_set_changes(tmp_path: Path):
    write_prepared(tmp_path / "a" / "tiny" / "1.0.0", SPLITS)
    images = TRAIN[0].copy()
    images[8, 0, 0, 0] ^= 1
    other = {"train": (images, TRAIN[1]), "test": TEST}
    write_prepared(tmp_path / "b" / "tiny" / "1.0.0", other)
    size = [(tmp_path / x / "tiny/1.0.0" / RECORDS).stat().st_size for x in "ab"]
    assert size[0] == size[1]  # so that sizes alone would not tell them apart
    image_dataset.load("tiny", tmp_path / "a")
    assert (image_dataset.load("tiny", tmp_path / "b").train_images == images).all()


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_broken_cache_file_is_written_anew(tmp_path: Path, cache: Path, keep: int):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS)
    image_dataset.load("tiny", tmp_path)
    [kept] = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:keep])
    assert (image_dataset.load("tiny", tmp_path).test_images == TEST[0]).all()
    assert [path.name for path in cache.iterdir()] == [kept.name]
    assert len(kept.read_bytes()) == len(whole)


def test_cache_that_cannot_be_written_is_done_without(tmp_path: Path, cache: Path):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS)
    cache.write_text("a file where the directory would be")
    assert (image_dataset.load("tiny", tmp_path).test_images == TEST[0]).all()


def test_missing_set_is_refused_with_the_command_that_prepares_it(tmp_path: Path):
    command = "uv run --extra prepare python -m experiments prepare cifar10"
    with pytest.raises(UsageError) as error:
        image_dataset.load("cifar10", None)
    assert str(error.value) == (
        f"cifar10 is not prepared in {tmp_path / 'elsewhere'}, which has no "
        f"cifar10/VERSION/dataset_info.json. Download and prepare it by `{command}`."
    )
    with pytest.raises(UsageError, match=f"`{command} --data-dir '.*/a b'`"):
        image_dataset.load("cifar10", tmp_path / "a b")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar11", r" Did you mean .*cifar10\b"),
        ("Digits", " Did you mean digits"),
        ("../x", "$"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_known(tmp_path, name, hint):
    message = rf"^{name} is neither digits, nor a path .*-datasets knows\.{hint}"
    with pytest.raises(UsageError, match=message):
        image_dataset.load(name, tmp_path)


def test_data_directory_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--data-dir .*/file \(or TFDS_DATA_DIR\) is"):
        image_dataset.load("cifar10", tmp_path / "file")


def test_set_in_another_file_format_is_refused(tmp_path: Path):
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS, fileFormat="tfrecord")
    message = "1.0.0 is prepared as tfrecord; only array_record .* prepare tiny --data"
    with pytest.raises(UsageError, match=message):
        image_dataset.load("tiny", tmp_path)


def test_set_without_image_and_label_is_refused(tmp_path: Path):
    features = {"text": tfds.features.Text(), "label": tfds.features.Text()}
    write_prepared(tmp_path / "tiny" / "1.0.0", SPLITS, features=features)
    with pytest.raises(UsageError, match=r"no set of labelled .* and has label, text"):
        image_dataset.load("tiny", tmp_path)


def test_set_without_test_images_is_refused(tmp_path: Path):
    folder = tmp_path / "tiny" / "1.0.0"
    write_prepared(folder, {"train": TRAIN, "validation": TEST, "test": TEST})
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"][2]["shardLengths"] = ["0"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    message = "needs the splits train and test, and has train, validation. Save"
    with pytest.raises(UsageError, match=message):
        image_dataset.load("tiny", tmp_path)


def test_set_with_images_of_several_sizes_is_refused(tmp_path: Path):
    images = [*TRAIN[0][:4], TRAIN[0][4][:, :3], *TRAIN[0][5:]]
    splits = {"train": (images, TRAIN[1]), "test": TEST}
    write_prepared(tmp_path / "tiny" / "1.0.0", splits)
    message = (
        r"train example 4 is uint8 of shape \(6, 3, 3\) where uint8 of .*\(6, 5, 3"
    )
    with pytest.raises(UsageError, match=message):
        image_dataset.load("tiny", tmp_path)


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
        (
            lambda folder: (folder / RECORDS).write_bytes(b""),
            "train example 0 can't be",
        ),
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
def test_damaged_set_is_refused_with_the_first_bad_example(tmp_path, damage, message):
    folder = tmp_path / "tiny" / "1.0.0"
    write_prepared(folder, SPLITS)
    damage(folder)
    with pytest.raises(UsageError, match=f"{message}.*(R|r)emove .*prepare"):
        image_dataset.load("tiny", tmp_path)


def test_set_with_a_flipped_bit_is_refused_or_of_the_same_images(tmp_path: Path):
    folder, random, refused = tmp_path / "tiny" / "1.0.0", Random(5), 0
    write_prepared(folder, SPLITS)
    whole = (folder / RECORDS).read_bytes()
    used = [at for at, byte in enumerate(whole) if byte]  # most of the file is padding
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
