"""Images in directories: the name of a directory is the class of what is in it."""

import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments.data.memory import check_fits
from experiments.records.config import UsageError

# Of all that Pillow reads, what holds a picture and starts no other program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# What the modes of 8 bits or fewer become.
_MODES: dict[str, str] = {
    **dict.fromkeys(("1", "L", "LA"), "L"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"), "RGB"),
}


class Folder(NamedTuple):
    """The images below a directory, and their classes."""

    parts: list[tuple[np.ndarray, np.ndarray]]  # like what `npz_reader.read` returns
    class_names: tuple[str, ...]  # of the labels 0, 1, ...


class _Picture(NamedTuple):
    path: Path
    class_name: str
    pixels: np.ndarray  # uint8 [height, width, channels]


class _Fault(NamedTuple):
    path: Path
    kind: str  # what all such are
    reason: str = ""


def read(path: Path, skip_broken: bool) -> Folder:
    """Reads all images below a directory, in the order of their names.

    Args:
      path: a directory with a subdirectory for each class; or with the subdirectories
        train and test (without it, val) of such, and then nothing beside them is read.
        Images are BMP, GIF, JPEG, PNG, PPM, TIFF or WebP, of several frames the first;
        all have one size, and all are grey or all in colour. A palette, CMYK or
        transparency becomes RGB. Symbolic links are not followed.
      skip_broken: whether to leave out what can't be used, as images that differ from
        most in size, instead of refusing all.

    Returns:
      (images, labels) of the training and of the test part, or of the whole directory
      if it is undivided: uint8 [n, height, width, channels], integers [n]; and the
      classes' names, sorted.

    Raises:
      UsageError: there are no classes, or not the same in both parts, or something
        can't be used: counted by what is wrong with it, the first of each kind named.
    """
    where = f"--dataset {path}"
    try:
        roots = _roots(where, path)
        found = list(_parts(where, roots))
    except OSError as error:
        raise UsageError(f"{where}: a directory can't be read ({error}).") from error
    everything = [each for part in found for each in part]
    shapes = Counter(x.pixels.shape for x in everything if isinstance(x, _Picture))
    usual = shapes.most_common(1)[0][0] if shapes else ()
    checked = [[_like_most(each, usual) for each in part] for part in found]
    faults = [x for part in checked for x in part if isinstance(x, _Fault)]
    if faults and not skip_broken:
        raise UsageError(f"{where}: {_counted(path, faults, len(everything))}")
    pictures = [[x for x in part if isinstance(x, _Picture)] for part in checked]
    names = [sorted({x.class_name for x in part}) for part in pictures]
    if not all(names):
        raise UsageError(f"{where}: no image is left in {roots[names.index([])]}.")
    apart = sorted(set(names[0]) ^ set(names[-1]))
    if apart:
        both = " and ".join(f"{root.name}/" for root in roots)
        raise UsageError(
            f"{where}: {both} must hold images of the same classes; only one of them "
            f"has any of {_shown(apart[0])}."
        )
    return Folder([_arrays(part, names[0]) for part in pictures], tuple(names[0]))


def _roots(where: str, path: Path) -> list[Path]:
    """Where the classes are: in `path`, or in its train and its test directory."""
    train = path / "train"
    # A class may be called train too: then there are images in it, not directories.
    if not (_is_directory(train) and any(map(_is_directory, train.iterdir()))):
        if not any(map(_is_directory, path.iterdir())):
            raise UsageError(
                f"{where}: there are no directories in it; put the images of each "
                "class in one of its own."
            )
        return [path]
    for name in ("test", "val"):
        if _is_directory(path / name):
            return [train, path / name]
    raise UsageError(
        f"{where}: beside train/ there is neither test/ nor val/. Give {train}, from "
        "which a test part is then split off."
    )


def _parts(where: str, roots: Sequence[Path]) -> Iterator[list[_Picture | _Fault]]:
    """All that is in each directory, unless it is more than memory holds."""
    size = 0
    for root in roots:
        part = []
        for each in _images(root):
            part.append(each)
            size += each.pixels.nbytes if isinstance(each, _Picture) else 0
            check_fits(f"{where}: the images", size, "Give fewer, or smaller ones.")
        yield part


def _images(root: Path) -> Iterator[_Picture | _Fault]:
    """All that is in the directory, whatever it turns out to be."""
    for folder in sorted(root.iterdir()):
        if folder.name.startswith("."):
            yield _Fault(folder, "hidden")
        elif folder.is_symlink():
            yield _Fault(folder, "a symbolic link")
        elif not folder.is_dir():
            yield _Fault(folder, "outside the classes")
        elif not (files := sorted(folder.iterdir())):
            yield _Fault(folder, "an empty class")
        else:
            yield from map(_image, files)


def _image(file: Path) -> _Picture | _Fault:
    if file.name.startswith("."):
        return _Fault(file, "hidden")
    if file.is_symlink():
        return _Fault(file, "a symbolic link")
    if not file.is_file():
        return _Fault(file, "a directory in a class, or no file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, which nobody reads here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as image:
                mode = _MODES.get(image.mode)
                if mode is None or _is_deep(image):
                    return _Fault(file, "of more than 8 bits a channel")
                pixels = np.asarray(image.convert(mode))
    except UnidentifiedImageError:
        return _Fault(file, "no image")
    except Exception as error:  # of many types, from the decoders of many formats
        reason = textwrap.shorten(str(error), 120, placeholder=" …")
        return _Fault(file, "broken", reason.rstrip("."))
    return _Picture(file, file.parent.name, pixels.reshape(*pixels.shape[:2], -1))


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow would cut 16 bits a channel down to 8, which it does unasked."""
    layouts = [str(tile[3]) for tile in getattr(image, "tile", ())]
    # "BGR;16" is 16 bits a pixel.
    return any(";16" in layout and "BGR" not in layout for layout in layouts)


def _like_most(each: _Picture | _Fault, usual: tuple[int, ...]) -> _Picture | _Fault:
    """A fault where a picture has another shape than most."""
    if isinstance(each, _Fault) or each.pixels.shape == usual:
        return each
    what = f"not {_size(usual)} like most"
    return _Fault(each.path, what, f"it is {_size(each.pixels.shape)}")


def _size(shape: Sequence[int]) -> str:
    height, width, channels = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"


def _counted(path: Path, faults: Sequence[_Fault], total: int) -> str:
    """What is wrong, in one line: how many of each kind, and the first of them."""
    kinds = []
    for kind, count in Counter(fault.kind for fault in faults).items():
        first = next(fault for fault in faults if fault.kind == kind)
        place = _shown(str(first.path.relative_to(path)))
        reason = f" ({first.reason})" if first.reason else ""
        kinds.append(f"{count} {kind}, first {place}{reason}")
    return (
        f"{len(faults)} of {total} files can't be used: {'; '.join(kinds)}. Mend or "
        "remove them, or pass --skip-broken to leave them out."
    )


def _shown(name: str) -> str:
    """A name as it is, or escaped where it would break the line."""
    return name if name.isprintable() else ascii(name)


def _arrays(
    pictures: Sequence[_Picture], class_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    labels = [class_names.index(picture.class_name) for picture in pictures]
    return np.stack([picture.pixels for picture in pictures]), np.array(labels)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
