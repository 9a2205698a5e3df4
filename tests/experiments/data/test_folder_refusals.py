"""Directories of images: what is refused, or left out where that is asked for."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.image_folders import PIXELS, write, write_pets

from experiments.data.folder import read
from experiments.records.config import UsageError


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as refused:
        read(path, **{"skip_broken": False, **options})
    message = str(refused.value)
    assert message.startswith(f"--dataset {path}: ") and "\n" not in message
    return message.removeprefix(f"--dataset {path}: ")


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def png(width: int, height: int, *, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def whole_png(tmp_path: Path) -> bytes:
    return write(tmp_path / "whole.png").read_bytes()


def eps(content: bytes) -> bytes:
    """PostScript, which Pillow would have another program run."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.save(file, "EPS")
    return file.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return content[:70] + bytes([content[70] ^ 255]) + content[71:]


BOMB = png(10_000, 10_000, bits=8, colour=0, rows=b"\0" * 100)
DEEP = png(5, 6, bits=16, colour=2, rows=(b"\0" + b"\1\2" * 15) * 6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (half, "1 broken, first cats/x.png (image file is truncated"),
        (flipped, "1 broken, first cats/x.png ("),
        (lambda _: b"", "1 no image, first cats/x.png. Mend"),
        (lambda _: b"words", "1 no image, first cats/x.png. Mend"),
        (eps, "1 no image, first cats/x.png. Mend"),
        (
            lambda _: BOMB,
            "1 broken, first cats/x.png (Image size (100000000 pixels) ex",
        ),
        (lambda _: DEEP, "1 of more than 8 bits a channel, first cats/x.png. Mend"),
    ],
)
def test_broken_file_is_named_and_left_out_only_when_asked(tmp_path, spoil, message):
    root = write_pets(tmp_path / "pets")
    (root / "cats" / "x.png").write_bytes(spoil(whole_png(tmp_path)))
    assert refusal(root).startswith(f"1 of 7 files can't be used: {message}")
    assert refusal(root).endswith("pass --skip-broken to leave them out.")
    assert (read(root, True).parts[0][0] == PIXELS[:6]).all()


def test_faults_are_counted_by_kind_and_the_first_of_each_is_named(tmp_path: Path):
    root = write_pets(tmp_path / "pets")
    for name in ("b.png", "a.png"):
        (root / "dogs" / name).write_bytes(half(whole_png(tmp_path)))
    (root / "notes.txt").write_text("words")
    (root / "cats" / "list.csv").write_text("words")
    (root / "cats" / ".DS_Store").write_text("words")
    (root / ".git").mkdir()
    (root / "birds").mkdir()
    (root / "cats" / "more").mkdir()
    write(root / "dogs" / "c.png", PIXELS[0][:4])
    write(root / "cats" / "grey.png", PIXELS[0, ..., 0])
    (root / "dogs" / "link.png").symlink_to(root / "cats" / "0.png")
    (root / "lions").symlink_to(root / "cats")
    (root / "cats" / "a\nb.gif").write_text("words")
    message = refusal(root)
    for part in (
        "13 of 19 files can't be used: ",
        "2 broken, first dogs/a.png (",
        "1 outside the classes, first notes.txt",
        "2 no image, first 'cats/a\\nb.gif';",
        "2 hidden, first .git;",
        "1 an empty class, first birds;",
        "1 a directory in a class, or no file, first cats/more;",
        "2 not 5x6 RGB like most, first cats/grey.png (it is 5x6 grey)",
        "2 a symbolic link, first dogs/link.png",
    ):
        assert part in message
    [(images, labels)], names = read(root, True)
    assert names == ("cats", "dogs")
    assert (images == PIXELS[:6]).all() and labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_device_file_is_not_opened(tmp_path: Path):
    write_pets(tmp_path)
    os.mkfifo(tmp_path / "cats" / "pipe.png")  # whoever opened it would wait for ever
    assert "1 a directory in a class, or no file, first cats/pipe" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "there are no directories in it; put the images of each class in one of"),
        (["a.png"], "there are no directories in it; put the images of each class in"),
        (
            ["train/cats/a.png", "train/dogs/a.png"],
            "beside train/ there is neither test/ nor val/. Give ",
        ),
        (
            ["train/cats/a.png", "train/dogs/a.png", "test/cats/a.png"],
            "train/ and test/ must hold images of the same classes; only one of them "
            "has any of dogs.",
        ),
    ],
)
def test_directory_without_classes_is_refused(tmp_path: Path, files, message):
    for name in files:
        write(tmp_path / name)
    assert refusal(tmp_path).startswith(message)


def test_part_of_which_nothing_is_left_is_refused(tmp_path: Path):
    write_pets(tmp_path / "train")
    (tmp_path / "test" / "cats").mkdir(parents=True)
    message = refusal(tmp_path, skip_broken=True)
    assert message == f"no image is left in {tmp_path / 'test'}."


def test_directory_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch):
    def iterdir(path):
        raise PermissionError(13, "Permission denied", str(path))

    write_pets(tmp_path)
    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert refusal(tmp_path).startswith("a directory can't be read ([Errno 13] Perm")
