"""Directories of images: the name of a subdirectory is the class of its images."""

import math
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from experiments.data.labeled import Changes, LabeledImages
from experiments.data.memory import check_fits
from experiments.data.resizing import to_square
from experiments.data.streaming import map_in_threads, streamed
from experiments.records.config import UsageError

SKIP_BROKEN_SHARE = 0.1  # of the files, which --skip-broken leaves out at most
# Pillow's formats for pictures, without those for which it starts another program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# What Pillow's modes of at most 16 bits per channel are converted to.
_MODES: dict[str, str] = {
    **dict.fromkeys(("1", "L", "LA", "I;16", "I;16B", "I;16L"), "L"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"), "RGB"),
}
# How an image is turned upright, by the orientation in its EXIF data.
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What file managers and Jupyter write into directories; macOS also writes ._NAME.
_NOT_THE_USERS = {
    *(".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory"),
    *("__macosx", ".ipynb_checkpoints"),
}


class Folder(NamedTuple):
    """The images below a directory, and their classes."""

    parts: list[LabeledImages]  # training and test images, or all of them
    class_names: tuple[str, ...]  # of the labels 0, 1, ...
    changes: Changes


class _Picture(NamedTuple):
    path: Path
    class_name: str
    shape: tuple[int, ...]  # height, width, channels
    is_deep: bool  # it had 16 bits per channel
    pixels: UInt8[np.ndarray, "height width channels"] | None  # None if streamed


class _Fault(NamedTuple):
    """A file that can't be used."""

    path: Path
    kind: str  # what is wrong, in the same words for all files with this fault
    reason: str = ""


def read(
    path: Path,
    skip_broken: float = 0.0,
    image_size: int | None = None,
    *,
    stream: bool = False,
) -> Folder:
    """Reads all images below a directory, in the order of their names.

    Args:
      path: a directory with one subdirectory per class; or one whose subdirectories
        train and test (without test, val) are such directories, and then nothing else
        in it is read. Images are BMP, GIF, JPEG, PNG, PPM, TIFF or WebP; only the first
        frame is used. They are turned as their EXIF data say, and what is transparent
        shows white. All become RGB unless all are gray; of 16 bits per channel the
        upper 8 are used. Symbolic links are not followed, and what file managers write,
        such as Thumbs.db, is not looked at.
      skip_broken: the largest share of files that may be left out because they can't
        be used; 0 refuses the directory if there is one. Without `image_size`, these
        include images that differ from most in size.
      image_size: height and width to which all images are brought, see `to_square`;
        without it, all must have one size.
      stream: reads each image once, to check it, but keeps none: they are read again
        when they are needed.

    Returns:
      The training and the test images, or those of the whole directory if it isn't
      split; the names of the classes, sorted; and what was left out or changed.

    Raises:
      UsageError: there are no classes, the two parts have different classes, or more
        files than allowed can't be used: the message counts the faults by kind and
        names the first file of each kind.
    """
    where = f"--dataset {path}"
    try:
        roots = _find_roots(where, path)
        parts = list(_read_parts(where, roots, image_size, stream))
    except OSError as error:
        raise UsageError(f"{where}: a directory can't be read ({error}).") from error
    entries = [entry for part in parts for entry in part]
    readable = [entry for entry in entries if isinstance(entry, _Picture)]
    sizes = Counter(picture.shape[:2] for picture in readable)
    usual = sizes.most_common(1)[0][0] if sizes else ()
    checked = [[_check_size(entry, usual) for entry in part] for part in parts]
    faults = [x for part in checked for x in part if isinstance(x, _Fault)]
    if len(faults) > skip_broken * len(entries):
        summary = _summarize(path, faults, len(entries), skip_broken, sizes)
        raise UsageError(f"{where}: {summary}")
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
    used = [picture for part in pictures for picture in part]
    channels = max(picture.shape[2] for picture in used)
    return Folder(
        [_stack(part, names[0], channels, image_size) for part in pictures],
        tuple(names[0]),
        Changes(
            left_out=dict(Counter(fault.kind for fault in faults)),
            converted=_conversions(used),
        ),
    )


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


def _read_parts(
    where: str, roots: Sequence[Path], image_size: int | None, stream: bool
) -> Iterator[list[_Picture | _Fault]]:
    """Everything in each directory, unless it is kept and doesn't fit into memory."""
    size = 0
    for root in roots:
        found = list(_find_files(root))
        check = partial(_read_entry, image_size=image_size, keep=not stream)
        if stream:
            yield list(map_in_threads(check, found))
            continue
        part = []
        for entry in map(check, found):
            part.append(entry)
            if isinstance(entry, _Picture) and entry.pixels is not None:
                size += entry.pixels.nbytes
            remedy = "Pass --stream, or use fewer or smaller images."
            check_fits(f"{where}: the images", size, remedy)
        yield part


def _find_files(root: Path) -> Iterator[Path | _Fault]:
    """The files in all class directories, and what is no class directory."""
    for folder in _of_the_user(root):
        if folder.name.startswith("."):
            yield _Fault(folder, "hidden")
        elif folder.is_symlink():
            yield _Fault(folder, "symbolic link")
        elif not folder.is_dir():
            yield _Fault(folder, "outside the class directories")
        elif not (files := _of_the_user(folder)):
            yield _Fault(folder, "empty class directory")
        else:
            yield from files


def _of_the_user(folder: Path) -> list[Path]:
    """What a directory holds, without what file managers wrote into it."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower() not in _NOT_THE_USERS and not path.name.startswith("._")
    )


def _read_entry(
    entry: Path | _Fault, image_size: int | None, keep: bool
) -> _Picture | _Fault:
    """Reads an image, if it is one; drops the pixels unless they are to be kept."""
    read = entry if isinstance(entry, _Fault) else _read_image(entry, image_size)
    return read if keep or isinstance(read, _Fault) else read._replace(pixels=None)


def _read_image(file: Path, image_size: int | None) -> _Picture | _Fault:
    if file.name.startswith("."):
        return _Fault(file, "hidden")
    if file.is_symlink():
        return _Fault(file, "symbolic link")
    if not file.is_file():
        return _Fault(file, "not a regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                if image.mode not in _MODES:
                    return _Fault(file, "of more than 16 bits per channel")
                is_deep = _is_deep(image)
                pixels = _pixels(image)
    except UnidentifiedImageError:
        return _Fault(file, "not an image")
    except Exception as error:  # the decoders raise many types
        reason = textwrap.shorten(str(error), 120, placeholder=" …")
        return _Fault(file, "broken", reason.rstrip("."))
    if image_size is not None:
        pixels = to_square(pixels, image_size)
    return _Picture(file, file.parent.name, pixels.shape, is_deep, pixels)


def _is_deep(image: Image.Image) -> bool:
    """Whether 16 bits per channel are reduced to 8, which Pillow does silently."""
    layouts = [str(tile[3]) for tile in getattr(image, "tile", ())]
    # "BGR;16" means 16 bits per pixel.
    reduced = any(";16" in layout and "BGR" not in layout for layout in layouts)
    return reduced or image.mode.startswith("I;16")


def _pixels(image: Image.Image) -> UInt8[np.ndarray, "height width channels"]:
    """The image as one sees it: upright, over white, gray or RGB."""
    image.load()
    mode = _MODES[image.mode]
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # metadata that can't be read; the picture can
        turn = None
    if image.mode.startswith("I;16"):
        # The upper byte, as Pillow has it of 16 bits in color.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert(mode)
    pixels = np.asarray(image if turn is None else image.transpose(turn))
    return pixels.reshape(*pixels.shape[:2], -1)


def _check_size(entry: _Picture | _Fault, usual: tuple[int, ...]) -> _Picture | _Fault:
    """Turns a picture into a fault if it doesn't have the usual height and width."""
    if isinstance(entry, _Fault) or entry.shape[:2] == usual:
        return entry
    height, width = entry.shape[:2]
    kind = f"not {usual[1]}x{usual[0]} like most"
    return _Fault(entry.path, kind, f"it is {width}x{height}")


def _summarize(
    path: Path,
    faults: Sequence[_Fault],
    total: int,
    allowed: float,
    sizes: Counter[tuple[int, ...]],
) -> str:
    """One line that counts the faults of each kind and names the first of them."""
    kinds = []
    for kind, count in Counter(fault.kind for fault in faults).items():
        first = next(fault for fault in faults if fault.kind == kind)
        place = _printable(str(first.path.relative_to(path)))
        reason = f" ({first.reason})" if first.reason else ""
        kinds.append(f"{count} {kind}, first {place}{reason}")
    counted = f"{len(faults)} of {total} files can't be used"
    if allowed:
        counted += f", more than the {allowed:.0%} that may be left out"
    share = len(faults) / total
    skipping = "--skip-broken"
    if share > SKIP_BROKEN_SHARE:
        skipping = f"--skip-broken-up-to {math.ceil(100 * share) / 100}"
    remedies = "Fix or remove them, "
    if len(sizes) > 1:
        short = median(min(size) for size in sizes.elements())
        resizing = f"--image-size {min(64, int(short))}"
        remedies = f"Pass {resizing} to bring all images to one size, fix or remove "
        remedies += "the files, "
    return f"{counted}: {'; '.join(kinds)}. {remedies}or pass {skipping} to skip them."


def _printable(name: str) -> str:
    """The name, escaped if it would break the line or can't be encoded."""
    return name if name.isprintable() else ascii(name)


def _stack(
    pictures: Sequence[_Picture],
    class_names: Sequence[str],
    channels: int,
    image_size: int | None,
) -> LabeledImages:
    """The pictures, all with as many channels: what is gray may become RGB."""
    labels = np.array([class_names.index(picture.class_name) for picture in pictures])
    shape = (*pictures[0].shape[:2], channels)
    kept = [picture.pixels for picture in pictures if picture.pixels is not None]
    if kept:
        images = np.stack([np.broadcast_to(pixels, shape) for pixels in kept])
        return LabeledImages(images, labels)
    source = _Files([picture.path for picture in pictures], image_size, shape)
    return LabeledImages(streamed(source, len(pictures), shape), labels)


class _Files:
    """Images of files that have been checked; all are brought to one shape."""

    def __init__(
        self, files: Sequence[Path], image_size: int | None, shape: tuple[int, ...]
    ):
        self._files, self._image_size, self._shape = files, image_size, shape

    def read(
        self, places: Sequence[int]
    ) -> list[UInt8[np.ndarray, "height width channels"]]:
        return [self._read(self._files[place]) for place in places]

    def _read(self, file: Path) -> UInt8[np.ndarray, "height width channels"]:
        read = _read_image(file, self._image_size)
        pixels = None if isinstance(read, _Fault) else read.pixels
        fits = pixels is not None and pixels.shape[:2] == self._shape[:2]
        if pixels is None or not fits or pixels.shape[2] not in (1, self._shape[2]):
            raise UsageError(
                f"{file} has changed since it was checked. Repeat the command when no "
                "program writes to the directory any more."
            )
        return np.broadcast_to(pixels, self._shape)


def _conversions(pictures: Iterable[_Picture]) -> tuple[str, ...]:
    """What changed the values of some pictures, in sentences."""
    deep = sum(picture.is_deep for picture in pictures)
    if not deep:
        return ()
    return (f"The upper 8 of 16 bits per channel are used ({deep:,} images).",)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
