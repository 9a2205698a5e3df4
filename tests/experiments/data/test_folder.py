"""Directories of images: what is read of them, and in which order."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.image_folders import PIXELS, write, write_pets

from experiments.data.folder import read


def test_images_are_read_in_the_order_of_their_names(tmp_path: Path):
    [(images, labels)], names = read(write_pets(tmp_path), False)
    assert names == ("cats", "dogs")
    assert images.dtype == np.uint8
    assert (images == PIXELS[:6]).all()
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("test", ["test", "val"])
def test_divided_directory_keeps_its_parts(tmp_path: Path, test: str):
    write_pets(tmp_path / "train")
    write(tmp_path / test / "dogs" / "a.png", PIXELS[7])
    write(tmp_path / test / "cats" / "a.png", PIXELS[8])
    (train, part), names = read(tmp_path, False)
    assert names == ("cats", "dogs")
    assert (train[0] == PIXELS[:6]).all() and train[1].tolist() == [0, 0, 0, 1, 1, 1]
    assert (part[0] == PIXELS[[8, 7]]).all() and part[1].tolist() == [0, 1]


def test_val_is_not_read_beside_test(tmp_path: Path):
    for part in ("train", "test", "val"):
        write_pets(tmp_path / part, {"train": 3, "test": 2, "val": 1}[part])
    assert [len(labels) for _, labels in read(tmp_path, False).parts] == [6, 4]


def test_class_may_be_called_train(tmp_path: Path):
    write(tmp_path / "train" / "a.png")
    write(tmp_path / "bus" / "a.png", PIXELS[1])
    [(_, labels)], names = read(tmp_path, False)
    assert names == ("bus", "train") and labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    "name", ["a.bmp", "a.gif", "a.png", "a.ppm", "a.tif", "a.webp"]
)
def test_formats_without_loss_are_read_exactly(tmp_path: Path, name: str):
    few = PIXELS[3] // 128 * 128  # colours: all fit in a palette
    options = {"lossless": True} if name == "a.webp" else {}
    write(tmp_path / "cats" / name, few, **options)
    assert (read(tmp_path, False).parts[0][0] == few).all()


def test_jpeg_is_read_as_pillow_decodes_it(tmp_path: Path):
    file = write(tmp_path / "cats" / "a.jpeg")
    with Image.open(file) as image:
        assert (read(tmp_path, False).parts[0][0] == np.asarray(image)).all()


@pytest.mark.parametrize(
    ("mode", "name", "channels"),
    [
        ("1", "a.png", 1),
        ("L", "a.png", 1),
        ("LA", "a.png", 1),
        ("P", "a.png", 3),
        ("RGBA", "a.png", 3),
        ("CMYK", "a.tif", 3),
        ("YCbCr", "a.tif", 3),
    ],
)
def test_other_modes_become_grey_or_rgb(tmp_path: Path, mode, name, channels):
    image = Image.fromarray(PIXELS[2]).convert("L" if mode == "LA" else "RGB")
    image = image.convert(mode)
    (tmp_path / "cats").mkdir()
    image.save(tmp_path / "cats" / name)
    [(images, _)], _ = read(tmp_path, False)
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    assert images.shape == (1, 6, 5, channels)
    assert (images[0].squeeze() == expected).all()


def test_palette_with_transparency_is_read_in_its_colours(tmp_path: Path):
    image = Image.fromarray(PIXELS[2]).quantize(16)
    (tmp_path / "cats").mkdir()
    image.save(tmp_path / "cats" / "a.png", transparency=bytes(range(16)))
    expected = np.asarray(image.convert("RGB"))
    assert (read(tmp_path, False).parts[0][0] == expected).all()
