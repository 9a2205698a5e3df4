"""Directories of images: what is read from them, how they are split, what is refused.

The first part tests `folder.read`, the second one `image_dataset.load` of a directory.
"""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.image_folders import PIXELS, write, write_pets
from support.small_images import png
from support.usage_errors import usage_error

from experiments.data import image_dataset
from experiments.data.folder import read
from experiments.records.config import UsageError


def test_images_are_read_in_the_order_of_their_names(tmp_path: Path):
    [(images, labels)], names = read(write_pets(tmp_path), False)
    assert names == ("cats", "dogs")
    assert images.dtype == np.uint8
    assert (images == PIXELS[:6]).all()
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("test", ["test", "val"])
def test_train_and_test_directories_are_read_as_splits(tmp_path: Path, test: str):
    write_pets(tmp_path / "train")
    write(tmp_path / test / "dogs" / "a.png", PIXELS[7])
    write(tmp_path / test / "cats" / "a.png", PIXELS[8])
    (train, part), names = read(tmp_path, False)
    assert names == ("cats", "dogs")
    assert (train[0] == PIXELS[:6]).all() and train[1].tolist() == [0, 0, 0, 1, 1, 1]
    assert (part[0] == PIXELS[[8, 7]]).all() and part[1].tolist() == [0, 1]


def test_val_is_not_read_if_there_is_a_test_directory(tmp_path: Path):
    for part in ("train", "test", "val"):
        write_pets(tmp_path / part, {"train": 3, "test": 2, "val": 1}[part])
    assert [len(labels) for _, labels in read(tmp_path, False).parts] == [6, 4]


def test_class_may_be_called_train(tmp_path: Path):
    write(tmp_path / "train" / "a.png")
    write(tmp_path / "bus" / "a.png", PIXELS[1])
    [(_, labels)], names = read(tmp_path, False)
    assert names == ("bus", "train") and labels.tolist() == [0, 1]


@pytest.mark.parametrize("format", ["bmp", "gif", "png", "ppm", "tif", "webp"])
def test_lossless_formats_are_read_exactly(tmp_path: Path, format: str):
    few = PIXELS[3] // 128 * 128  # colors: all fit into a palette
    options = {"lossless": True} if format == "webp" else {}
    write(tmp_path / "cats" / f"a.{format}", few, **options)
    assert (read(tmp_path, False).parts[0][0] == few).all()


def test_jpeg_is_read_as_pillow_decodes_it(tmp_path: Path):
    file = write(tmp_path / "cats" / "a.jpeg")
    with Image.open(file) as image:
        assert (read(tmp_path, False).parts[0][0] == np.asarray(image)).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_become_gray_or_rgb(tmp_path: Path, mode):
    channels = 1 if mode in ("1", "L", "LA") else 3
    image = Image.fromarray(PIXELS[2]).convert("L" if mode == "LA" else "RGB")
    image = image.convert(mode)
    (tmp_path / "cats").mkdir()
    image.save(tmp_path / "cats" / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png"))
    [(images, _)], _ = read(tmp_path, False)
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    assert images.shape == (1, 6, 5, channels)
    assert (images[0].squeeze() == expected).all()


def test_palette_with_transparency_is_read_as_its_colors(tmp_path: Path):
    image = Image.fromarray(PIXELS[2]).quantize(16)
    (tmp_path / "cats").mkdir()
    image.save(tmp_path / "cats" / "a.png", transparency=bytes(range(16)))
    expected = np.asarray(image.convert("RGB"))
    assert (read(tmp_path, False).parts[0][0] == expected).all()


def refusal(path: Path, skip_broken: bool = False) -> str:
    return usage_error(f"--dataset {path}: ", read, path, skip_broken)


def unusual_png(width: int, height: int, *, bits: int, color: int, rows: bytes):
    """A PNG that Pillow would not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def postscript() -> bytes:
    """EPS, for which Pillow would start another program."""
    file = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(file, "EPS")
    return file.getvalue()


WHOLE = png(PIXELS[0])
HALF = WHOLE[: len(WHOLE) // 2]
FLIPPED = WHOLE[:70] + bytes([WHOLE[70] ^ 255]) + WHOLE[71:]
BOMB = unusual_png(10_000, 10_000, bits=8, color=0, rows=b"\0" * 100)
DEEP = unusual_png(5, 6, bits=16, color=2, rows=(b"\0" + b"\1\2" * 15) * 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HALF, "1 broken, first cats/x.png (image file is truncated"),
        (FLIPPED, "1 broken, first cats/x.png ("),
        (b"", "1 not an image, first cats/x.png. Fix"),
        (b"words", "1 not an image, first cats/x.png. Fix"),
        (postscript(), "1 not an image, first cats/x.png. Fix"),
        (BOMB, "1 broken, first cats/x.png (Image size (100000000 pixels) ex"),
        (DEEP, "1 of more than 8 bits per channel, first cats/x.png. Fix"),
    ],
    ids=["half", "flipped", "empty", "words", "postscript", "bomb", "deep"],
)
def test_broken_file_is_named_and_skipped_only_on_request(tmp_path, content, message):
    root = write_pets(tmp_path / "pets")
    (root / "cats" / "x.png").write_bytes(content)
    assert refusal(root).startswith(f"1 of 7 files can't be used: {message}")
    assert refusal(root).endswith("pass --skip-broken to skip them.")
    assert (read(root, True).parts[0][0] == PIXELS[:6]).all()


def test_faults_are_counted_by_kind_and_the_first_of_each_kind_is_named(tmp_path: Path):
    root = write_pets(tmp_path / "pets")
    for name in ("dogs/b.png", "dogs/a.png"):
        (root / name).write_bytes(HALF)
    for name in ("notes.txt", "cats/list.csv", "cats/.DS_Store", "cats/a\nb.gif"):
        (root / name).write_text("words")
    for name in (".git", "birds", "cats/more"):
        (root / name).mkdir()
    write(root / "dogs" / "c.png", PIXELS[0][:4])
    write(root / "cats" / "gray.png", PIXELS[0, ..., 0])
    (root / "dogs" / "link.png").symlink_to(root / "cats" / "0.png")
    (root / "lions").symlink_to(root / "cats")

    message = refusal(root)
    for part in (
        "13 of 19 files can't be used: ",
        "2 broken, first dogs/a.png (",
        "1 outside the class directories, first notes.txt",
        "2 not an image, first 'cats/a\\nb.gif';",
        "2 hidden, first .git;",
        "1 empty class directory, first birds;",
        "1 not a regular file, first cats/more;",
        "2 not 5x6 RGB like most, first cats/gray.png (it is 5x6 gray)",
        "2 symbolic link, first dogs/link.png",
    ):
        assert part in message
    [(images, labels)], names = read(root, True)
    assert names == ("cats", "dogs")
    assert (images == PIXELS[:6]).all() and labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_named_pipe_is_not_opened(tmp_path: Path):
    write_pets(tmp_path)
    os.mkfifo(tmp_path / "cats" / "pipe.png")  # opening it would block forever
    assert "1 not a regular file, first cats/pipe" in refusal(tmp_path)


FLAT = "it has no subdirectories; put the images of each class in a subdirectory"
TRAIN = ["train/cats/a.png", "train/dogs/a.png"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], FLAT),
        (["a.png"], FLAT),
        (TRAIN, "there is neither test/ nor val/ next to train/. Pass "),
        (
            [*TRAIN, "test/cats/a.png"],
            "train/ and test/ must hold images of the same classes; only one of them "
            "has images of dogs.",
        ),
    ],
)
def test_directory_without_classes_is_refused(tmp_path: Path, files, message):
    for name in files:
        write(tmp_path / name)
    assert refusal(tmp_path).startswith(message)


def test_split_without_usable_images_is_refused(tmp_path: Path):
    write_pets(tmp_path / "train")
    (tmp_path / "test" / "cats").mkdir(parents=True)
    message = refusal(tmp_path, skip_broken=True)
    assert message == f"no usable image is left in {tmp_path / 'test'}; add some."


def test_directory_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch):
    def iterdir(path):
        raise PermissionError(13, "Permission denied", str(path))

    write_pets(tmp_path)
    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert refusal(tmp_path).startswith("a directory can't be read ([Errno 13] Perm")


def test_directory_without_a_test_part_is_split_by_class(tmp_path: Path):
    for index in range(20):
        name = "<script>" if index < 10 else "dogs"
        write(tmp_path / "pets" / name / f"{index:02}.png", PIXELS[index % 12] ^ index)
    loaded = image_dataset.load(f"{tmp_path}/pets", None)
    assert (loaded.name, loaded.classes) == ("pets", 2)
    assert loaded.class_names == ("<script>", "dogs")
    assert np.bincount(loaded.train_labels).tolist() == [8, 8]
    assert np.bincount(loaded.test_labels).tolist() == [2, 2]
    assert loaded.train_labels.dtype == np.int32
    again = image_dataset.load(f"{tmp_path}/pets/", None)
    assert image_dataset.digest(again) == image_dataset.digest(loaded)


def test_training_part_is_shuffled_so_that_some_of_each_class_is_held_out(tmp_path):
    for index in range(40):
        name = "cats" if index < 20 else "dogs"
        write(tmp_path / "train" / name / f"{index:02}.png", PIXELS[index % 12] ^ index)
    write_pets(tmp_path / "test", 2)
    loaded = image_dataset.load(str(tmp_path), None)
    label_of = {bytes(PIXELS[i % 12] ^ i): int(i >= 20) for i in range(40)}
    pairs = zip(loaded.train_images, loaded.train_labels, strict=True)
    assert sorted(map(bytes, loaded.train_images)) == sorted(label_of)
    assert all(label_of[bytes(image)] == label for image, label in pairs)
    assert set(image_dataset.hold_out(loaded).validation_labels) == {0, 1}
    assert loaded.test_labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((9, 1), "only one of class 'dogs', and the split .* Add one, "),
        ((2, 2), "20% of 4 images are too few .*or divide them into tr"),
        ((9, 0), "all labels are 0|at least two classes"),
    ],
)
def test_class_with_too_few_images_is_refused(tmp_path: Path, counts, message):
    for name, count in zip(("cats", "dogs"), counts, strict=True):
        for index in range(count):
            write(tmp_path / name / f"{index}.png", PIXELS[index])
    with pytest.raises(UsageError, match=f"^--dataset {tmp_path}: .*{message}"):
        image_dataset.load(str(tmp_path), None)


def test_class_that_is_entirely_held_out_is_refused_with_its_name(tmp_path: Path):
    for part in ("train", "test"):
        for index in range(12):
            write(tmp_path / part / "cats" / f"{index:02}.png", PIXELS[index])
    for number in range(7):  # of so many classes of one image, some are held out
        for part in ("train", "test"):
            write(tmp_path / part / f"rare {number}" / "a.png", PIXELS[number])
    message = r"no image of class 'rare \d' is left to train on, .* Add images of it\.$"
    with pytest.raises(UsageError, match=message):
        image_dataset.load(str(tmp_path), None)


def test_path_names_a_directory_and_a_plain_name_does_not(tmp_path: Path, monkeypatch):
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


def test_options_that_do_not_apply_to_the_data_set_are_refused(tmp_path: Path):
    write_pets(tmp_path, 5)
    path = re.escape(str(tmp_path))
    with pytest.raises(UsageError, match=f"--data-dir applies .*{path} is not one"):
        image_dataset.load(str(tmp_path), Path("anywhere"))
    for name in ("digits", "own.npz", "mnist"):
        message = f"--skip-broken applies .* images, and --dataset {name} is not one"
        with pytest.raises(UsageError, match=message):
            image_dataset.load(name, None, skip_broken=True)
    (tmp_path / "cats" / "x.png").write_text("words")
    with pytest.raises(UsageError, match="1 of 11 files can't be used: 1 not an image"):
        image_dataset.load(str(tmp_path), None)
    loaded = image_dataset.load(str(tmp_path), None, skip_broken=True)
    assert len(loaded.train_labels) == 8
