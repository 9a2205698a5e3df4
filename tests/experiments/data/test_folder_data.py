"""Directories of images as data sets: how they are named, divided and refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.image_folders import PIXELS, write, write_pets

from experiments.data import image_dataset
from experiments.records.config import UsageError


def test_undivided_directory_is_split_by_class(tmp_path: Path):
    for index in range(20):
        name = "<script>" if index < 10 else "dogs"
        write(tmp_path / "pets" / name / f"{index:02}.png", PIXELS[index % 12] ^ index)
    loaded = image_dataset.load(f"{tmp_path}/pets", None)
    assert (loaded.name, loaded.classes) == ("pets", 2)
    assert loaded.class_names == ("<script>", "dogs")
    assert np.bincount(loaded.train_labels).tolist() == [8, 8]
    assert np.bincount(loaded.test_labels).tolist() == [2, 2]
    assert loaded.train_labels.dtype == np.int32
    assert image_dataset.digest(
        image_dataset.load(f"{tmp_path}/pets/", None)
    ) == image_dataset.digest(loaded)


def test_training_part_is_shuffled_so_that_each_class_is_held_out_in_part(tmp_path):
    for index in range(40):
        name = "cats" if index < 20 else "dogs"
        write(tmp_path / "train" / name / f"{index:02}.png", PIXELS[index % 12] ^ index)
    write_pets(tmp_path / "test", 2)
    loaded = image_dataset.load(str(tmp_path), None)
    label_of = {bytes(PIXELS[i % 12] ^ i): int(i >= 20) for i in range(40)}
    pairs = zip(loaded.train_images, loaded.train_labels, strict=True)
    assert sorted(map(bytes, loaded.train_images)) == sorted(label_of)
    assert all(label_of[bytes(image)] == label for image, label in pairs)
    assert set(image_dataset.hold_out(loaded)[3]) == {0, 1}
    assert loaded.test_labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {"cats": 9, "dogs": 1},
            "only one of class 'dogs', and the split .* Add one, ",
        ),
        (
            {"cats": 2, "dogs": 2},
            "20% of 4 images are too few .*or divide them into tr",
        ),
        ({"cats": 9}, "all labels are 0|at least two classes"),
    ],
)
def test_too_few_images_are_refused_by_class(tmp_path: Path, counts, message):
    for name, count in counts.items():
        for index in range(count):
            write(tmp_path / name / f"{index}.png", PIXELS[index])
    with pytest.raises(UsageError, match=f"^--dataset {tmp_path}: .*{message}"):
        image_dataset.load(str(tmp_path), None)


def test_class_that_is_held_out_whole_is_refused_by_name(tmp_path: Path):
    for part in ("train", "test"):
        for index in range(12):
            write(tmp_path / part / "cats" / f"{index:02}.png", PIXELS[index])
    for number in range(7):  # of so many classes of one image, some are held out
        for part in ("train", "test"):
            write(tmp_path / part / f"rare {number}" / "a.png", PIXELS[number])
    message = r"no image of class 'rare \d' is left to train on, .* Add images of it\.$"
    with pytest.raises(UsageError, match=message):
        image_dataset.load(str(tmp_path), None)


def test_directory_is_a_path_and_a_plain_name_is_not(tmp_path: Path, monkeypatch):
    write_pets(tmp_path / "mnist", 5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    assert image_dataset.load("./mnist", None).name == "mnist"
    assert image_dataset.load("../" + tmp_path.name + "/mnist", None).name == "mnist"
    with pytest.raises(UsageError, match=r"mnist is not prepared in .*nothing, which"):
        image_dataset.load("mnist", None)
    with pytest.raises(UsageError, match=r"\./mnits is neither .* such as \./images, "):
        image_dataset.load("./mnits", None)
    for name in ("~nobody-here", f"./{'m' * 300}"):
        with pytest.raises(UsageError, match=f"{name} is neither digits, nor"):
            image_dataset.load(name, None)
    monkeypatch.chdir(tmp_path / "mnist")
    assert image_dataset.load(".", None).name == "mnist"


def test_options_that_a_directory_does_not_have_are_refused(tmp_path: Path):
    write_pets(tmp_path, 5)
    path = re.escape(str(tmp_path))
    with pytest.raises(UsageError, match=f"--data-dir is where .*{path} is none of"):
        image_dataset.load(str(tmp_path), Path("anywhere"))
    for name in ("digits", "own.npz", "mnist"):
        message = f"--skip-broken is about the images of a directory; --dataset {name}"
        with pytest.raises(UsageError, match=message):
            image_dataset.load(name, None, skip_broken=True)
    (tmp_path / "cats" / "x.png").write_text("words")
    with pytest.raises(UsageError, match="1 of 11 files can't be used: 1 no image"):
        image_dataset.load(str(tmp_path), None)
    assert (
        len(image_dataset.load(str(tmp_path), None, skip_broken=True).train_labels) == 8
    )
