"""A user's .npz file: read without unpickling, with every example checked."""

import os
import textwrap
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from experiments.data.labeled import LabeledImages
from experiments.data.memory import check_fits
from experiments.records.config import UsageError

# The names of the arrays: images and labels of two splits, or of the whole data set.
_LAYOUTS = ((("x_train", "y_train"), ("x_test", "y_test")), (("images", "labels"),))
_CHANNELS = (1, 2, 3, 4)  # of gray, gray and alpha, RGB, RGB and alpha


class Archive(NamedTuple):
    """What an .npz file holds."""

    parts: list[LabeledImages]  # the training and the test split, or the whole
    converted: tuple[str, ...]  # what was changed, in sentences


def read(path: Path) -> Archive:
    """Reads images and labels; pickled objects are never loaded.

    Args:
      path: a file that holds x_train, y_train, x_test and y_test, or else images and
        labels. Other arrays in it are not read. Images have shape [n, height, width]
        or [n, height, width, channels]: integers in 0..255 are used unchanged, floats
        in 0..1 are multiplied by 255 and rounded. Labels are integers from 0, of shape
        [n] or, as Keras stores them, [n, 1].

    Returns:
      The training and the test split, or the whole file if it isn't split.

    Raises:
      UsageError: the file isn't as described; the message names the first fault.
    """
    where = f"--dataset {path}"
    if not os.path.isfile(path):
        raise UsageError(f"{where}: there is no such file.")
    if not zipfile.is_zipfile(path):
        raise UsageError(
            f"{where}: this is not an .npz file. Write one with numpy.savez; pickles "
            "are never loaded."
        )
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            layout = _find_layout(where, arrays)
            _check_size(where, arrays, layout)
            stored = [[np.asarray(arrays[key]) for key in pair] for pair in layout]
    except UsageError:
        raise
    except Exception as error:  # the decoders of a zip file raise many types
        reason = textwrap.shorten(str(error), 120, placeholder=" …")
        raise UsageError(
            f"{where}: an array can't be read ({reason}). Write the file again with "
            "numpy.savez, from arrays of numbers: pickled objects are never loaded."
        ) from error
    return _to_archive(where, layout, stored)


def _find_layout(where: str, keys: Iterable[str]) -> tuple[tuple[str, str], ...]:
    for layout in _LAYOUTS:
        if {key for pair in layout for key in pair} <= set(keys):
            return layout
    raise UsageError(
        f"{where}: the file needs x_train, y_train, x_test and y_test, or images and "
        f"labels; it holds {', '.join(sorted(keys)) or 'nothing'}."
    )


def _check_size(where: str, arrays: Any, layout: Iterable[tuple[str, str]]) -> None:
    """Raises `UsageError` for a zip bomb, before it is unpacked.

    The sizes that the file states are limits: no more than that is unpacked.
    """
    keys = {key for pair in layout for key in pair}
    files = arrays.zip.infolist()
    size = sum(x.file_size for x in files if x.filename.removesuffix(".npy") in keys)
    check_fits(where, size, "Use a smaller file.")


def _to_archive(
    where: str,
    layout: Iterable[tuple[str, str]],
    stored: Iterable[Sequence[np.ndarray]],
) -> Archive:
    """The arrays as labeled images; all splits are scaled alike."""
    named = list(zip(layout, stored, strict=True))
    for (images_key, _), (images, _) in named:
        _check_images(f"{where}: {images_key}", images)
    converted = []
    floats = [images for _, (images, _) in named if images.dtype.kind == "f"]
    black, white = _range(floats)
    if (black, white) != (0, 1):
        converted.append(f"Float images in {black}..{white} are read as 0..255.")
    parts = []
    for (images_key, labels_key), (images, labels) in named:
        if images.ndim == 4 and _is_channels_first(images.shape):
            images = np.moveaxis(images, 1, -1)
            converted.append(
                "Images of shape [n, channels, height, width] are read as "
                "[n, height, width, channels]."
            )
        images = _to_bytes(f"{where}: {images_key}", images, black, white)
        labels = _check_labels(f"{where}: {labels_key}", labels)
        if len(images) != len(labels):
            raise UsageError(
                f"{where}: {images_key} holds {len(images)} images and {labels_key} "
                f"{len(labels)} labels; there must be one label per image."
            )
        parts.append(LabeledImages(images, labels))
    return Archive(parts, tuple(dict.fromkeys(converted)))


def _check_images(where: str, images: np.ndarray) -> None:
    if images.dtype.kind not in "fiu":
        raise UsageError(
            f"{where} has dtype {images.dtype}; images must be integers in 0..255 or "
            "floats in 0..1."
        )
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise UsageError(
            f"{where} has shape {images.shape}; images must have shape "
            "[n, height, width] or [n, height, width, channels], without zeros."
        )


def _is_channels_first(shape: Sequence[int]) -> bool:
    return shape[1] in _CHANNELS and shape[3] not in _CHANNELS


def _range(images: Sequence[np.ndarray]) -> tuple[int, int]:
    """What black and white are in float images: 0 and 1, 0 and 255, or −1 and 1.

    A few values outside 0..1 are no other range, but faults of those images.
    """

    def count(condition: Callable[[np.ndarray], np.ndarray]) -> int:
        return sum(int(np.count_nonzero(condition(array))) for array in images)

    if not images:
        return 0, 1
    lowest, highest = min(x.min() for x in images), max(x.max() for x in images)
    if lowest >= 0 and 1 < highest <= 255:
        if count(lambda x: x > 1) > count(lambda x: (x > 0) & (x < 1)):
            return 0, 255
    elif -1 <= lowest <= -0.5 and highest <= 1:
        if 100 * count(lambda x: x < 0) >= sum(array.size for array in images):
            return -1, 1
    return 0, 1


def _to_bytes(
    where: str, images: np.ndarray, black: int, white: int
) -> UInt8[np.ndarray, "examples height width channels"]:
    is_float = images.dtype.kind == "f"
    low, high = (black, white) if is_float else (0, 255)
    valid = (images >= low) & (images <= high)  # False where an image is NaN
    if not valid.all():
        place = tuple(np.argwhere(~valid)[0])
        kind = "float" if is_float else "integer"
        raise UsageError(
            f"{where}[{place[0]}] holds {images[place]}; {kind} images must lie in "
            f"{low}..{high}. Rescale them, or leave that image out."
        )
    if is_float:
        # In float32 at least: a float16 can't tell 255 levels between −1 and 1.
        scale = np.float32(255 / (white - black))
        images = np.rint((images - np.float32(black)) * scale)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    return np.ascontiguousarray(images, np.uint8)


def _check_labels(where: str, labels: np.ndarray) -> Integer[np.ndarray, " examples"]:
    """Returns the labels if they are integers in the range of int32, from 0."""
    if labels.dtype.kind not in "iu":
        raise UsageError(
            f"{where} has dtype {labels.dtype}; labels must be integers, 0 for the "
            "first class."
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UsageError(
            f"{where} has shape {labels.shape}; labels must have shape [n] or [n, 1]. "
            "Convert one-hot labels with .argmax(axis=1)."
        )
    largest = np.iinfo(np.int32).max
    outside = (labels < 0) | (labels > largest)
    if outside.any():
        index = outside.argmax()
        below = np.count_nonzero(labels < 0)
        raise UsageError(
            f"{where}[{index}] is {labels[index]}; labels must lie in 0..{largest}, 0 "
            "for the first class."
            + (
                f" {below:,} of {len(labels):,} labels lie below 0: if that marks "
                "images without a label, leave these out; else renumber the labels."
                if below
                else ""
            )
        )
    return labels
