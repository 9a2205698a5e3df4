"""Directories of images: the name of a subdirectory is the class of its images."""

import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from experiments.data.labeled import LabeledImages
from experiments.data.memory import check_fits
from experiments.records.config import UsageError

# Pillow's formats for pictures, without those for which it starts another program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# What Pillow's modes of at most 8 bits per channel are converted to.
_MODES: dict[str, str] = {
    **dict.fromkeys(("1", "L", "LA"), "L"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"), "RGB"),
}


class Folder(NamedTuple):
    """The images below a directory, and their classes."""

    parts: list[LabeledImages]  # training and test images, or all of them
    class_names: tuple[str, ...]  # of the labels 0, 1, ...


class _Picture(NamedTuple):
    path: Path
    class_name: str
    pixels: UInt8[np.ndarray, "height width channels"]


class _Fault(NamedTuple):
    """A file that can't be used."""

    path: Path
    kind: str  # what is wrong, in the same words for all files with this fault
    reason: str = ""


def read(path: Path, skip_broken: bool) -> Folder:
    """Reads all images below a directory, in the order of their names.

    Args:
      path: a directory with one subdirectory per class; or one whose subdirectories
        train and test (without test, val) are such directories, and then nothing else
        in it is read. Images are BMP, GIF, JPEG, PNG, PPM, TIFF or WebP; only the first
        frame is used. All must have one size, and all must be gray or all in color. A
        palette, CMYK or transparency becomes RGB. Symbolic links are not followed.
      skip_broken: whether to skip files that can't be used, which include images that
        differ from most in size, instead of refusing the directory.

    Returns:
      The training and the test images, or those of the whole directory if it isn't
      split; and the names of the classes, sorted.

    Raises:
      UsageError: there are no classes, the two parts have different classes, or files
        can't be used: the message counts the faults by kind and names the first file
        of each kind.
    """
    where = f"--dataset {path}"
    try:
        roots = _find_roots(where, path)
        parts = list(_read_parts(where, roots))
    except OSError as error:
        raise UsageError(f"{where}: a directory can't be read ({error}).") from error
    entries = [entry for part in parts for entry in part]
    shapes = Counter(x.pixels.shape for x in entries if isinstance(x, _Picture))
    usual = shapes.most_common(1)[0][0] if shapes else ()
    checked = [[_check_shape(entry, usual) for entry in part] for part in parts]
    faults = [x for part in checked for x in part if isinstance(x, _Fault)]
    if faults and not skip_broken:
        raise UsageError(f"{where}: {_summarize(path, faults, len(entries))}")
    pictures = [[x for x in part if isinstance(x, _Picture)] for part in checked]
    names = [sorted({x.class_name for x in part}) for part in pictures]
    if not all(names):
        empty = roots[names.index([])]
        raise UsageError(f"{where}: no usable image is left in {empty}; add some.")
    unshared = sorted(set(names[0]) ^ set(names[-1]))
    if unshared:
        both = " and ".join(f"{root.name}/" for root in roots)
        raise UsageError(
            f"{where}: {both} must hold images of the same classes; only one of them "
            f"has images of {_printable(unshared[0])}."
        )
    return Folder([_stack(part, names[0]) for part in pictures], tuple(names[0]))


def _find_roots(where: str, path: Path) -> list[Path]:
    """The directories of classes: `path`, or its train and its test directory."""
    train = path / "train"
    # A class may be called train, too: then train/ holds images, not directories.
    if not (_is_directory(train) and any(map(_is_directory, train.iterdir()))):
        if not any(map(_is_directory, path.iterdir())):
            raise UsageError(
                f"{where}: it has no subdirectories; put the images of each class in a "
                "subdirectory named after the class."
            )
        return [path]
    for name in ("test", "val"):
        if _is_directory(path / name):
            return [train, path / name]
    raise UsageError(
        f"{where}: there is neither test/ nor val/ next to train/. Pass {train} "
        "instead: a test split is then taken from it."
    )


def _read_parts(where: str, roots: Sequence[Path]) -> Iterator[list[_Picture | _Fault]]:
    """Everything in each directory, unless it doesn't fit into memory."""
    size = 0
    for root in roots:
        part = []
        for entry in _read_classes(root):
            part.append(entry)
            size += entry.pixels.nbytes if isinstance(entry, _Picture) else 0
            check_fits(f"{where}: the images", size, "Use fewer or smaller images.")
        yield part


def _read_classes(root: Path) -> Iterator[_Picture | _Fault]:
    for folder in sorted(root.iterdir()):
        if folder.name.startswith("."):
            yield _Fault(folder, "hidden")
        elif folder.is_symlink():
            yield _Fault(folder, "symbolic link")
        elif not folder.is_dir():
            yield _Fault(folder, "outside the class directories")
        elif not (files := sorted(folder.iterdir())):
            yield _Fault(folder, "empty class directory")
        else:
            yield from map(_read_image, files)


def _read_image(file: Path) -> _Picture | _Fault:
    if file.name.startswith("."):
        return _Fault(file, "hidden")
    if file.is_symlink():
        return _Fault(file, "symbolic link")
    if not file.is_file():
        return _Fault(file, "not a regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, which is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                mode = _MODES.get(image.mode)
                if mode is None or _is_deep(image):
                    return _Fault(file, "of more than 8 bits per channel")
                pixels = np.asarray(image.convert(mode))
    except UnidentifiedImageError:
        return _Fault(file, "not an image")
    except Exception as error:  # the decoders raise many types
        reason = textwrap.shorten(str(error), 120, placeholder=" …")
        return _Fault(file, "broken", reason.rstrip("."))
    return _Picture(file, file.parent.name, pixels.reshape(*pixels.shape[:2], -1))


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow would silently reduce 16 bits per channel to 8."""
    layouts = [str(tile[3]) for tile in getattr(image, "tile", ())]
    # "BGR;16" means 16 bits per pixel.
    return any(";16" in layout and "BGR" not in layout for layout in layouts)


def _check_shape(entry: _Picture | _Fault, usual: tuple[int, ...]) -> _Picture | _Fault:
    """Turns a picture into a fault if it doesn't have the usual shape."""
    if isinstance(entry, _Fault) or entry.pixels.shape == usual:
        return entry
    kind = f"not {_describe_shape(usual)} like most"
    return _Fault(entry.path, kind, f"it is {_describe_shape(entry.pixels.shape)}")


def _describe_shape(shape: Sequence[int]) -> str:
    height, width, channels = shape
    return f"{width}x{height} {'gray' if channels == 1 else 'RGB'}"


def _summarize(path: Path, faults: Sequence[_Fault], total: int) -> str:
    """One line that counts the faults of each kind and names the first of them."""
    kinds = []
    for kind, count in Counter(fault.kind for fault in faults).items():
        first = next(fault for fault in faults if fault.kind == kind)
        place = _printable(str(first.path.relative_to(path)))
        reason = f" ({first.reason})" if first.reason else ""
        kinds.append(f"{count} {kind}, first {place}{reason}")
    return (
        f"{len(faults)} of {total} files can't be used: {'; '.join(kinds)}. Fix or "
        "remove them, or pass --skip-broken to skip them."
    )


def _printable(name: str) -> str:
    """The name, escaped if it would break the line or can't be encoded."""
    return name if name.isprintable() else ascii(name)


def _stack(pictures: Sequence[_Picture], class_names: Sequence[str]) -> LabeledImages:
    labels = [class_names.index(picture.class_name) for picture in pictures]
    images = np.stack([picture.pixels for picture in pictures])
    return LabeledImages(images, np.array(labels))


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
