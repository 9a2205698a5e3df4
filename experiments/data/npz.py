"""A user's .npz file: read without unpickling, with every example checked."""

import os
import textwrap
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from experiments.data.labeled import LabeledImages
from experiments.data.memory import check_fits
from experiments.records.config import UsageError

# The names of the arrays: images and labels of two splits, or of the whole data set.
_LAYOUTS = ((("x_train", "y_train"), ("x_test", "y_test")), (("images", "labels"),))


def read(path: Path) -> list[LabeledImages]:
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
            return [_read_pair(where, arrays, *keys) for keys in layout]
    except UsageError:
        raise
    except Exception as error:  # the decoders of a zip file raise many types
        reason = textwrap.shorten(str(error), 120, placeholder=" …")
        raise UsageError(
            f"{where}: an array can't be read ({reason}). Write the file again with "
            "numpy.savez, from arrays of numbers: pickled objects are never loaded."
        ) from error


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


def _read_pair(
    where: str, arrays: Mapping[str, np.ndarray], images_key: str, labels_key: str
) -> LabeledImages:
    images = _to_bytes(f"{where}: {images_key}", np.asarray(arrays[images_key]))
    labels = _check_labels(f"{where}: {labels_key}", np.asarray(arrays[labels_key]))
    if len(images) != len(labels):
        raise UsageError(
            f"{where}: {images_key} holds {len(images)} images and {labels_key} "
            f"{len(labels)} labels; there must be one label per image."
        )
    return LabeledImages(images, labels)


def _to_bytes(
    where: str, images: np.ndarray
) -> UInt8[np.ndarray, "examples height width channels"]:
    is_float = images.dtype.kind == "f"
    if not is_float and images.dtype.kind not in "iu":
        raise UsageError(
            f"{where} has dtype {images.dtype}; images must be integers in 0..255 or "
            "floats in 0..1."
        )
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise UsageError(
            f"{where} has shape {images.shape}; images must have shape "
            "[n, height, width] or [n, height, width, channels], without zeros."
        )
    largest = 1 if is_float else 255
    valid = (images >= 0) & (images <= largest)  # False where an image is NaN
    if not valid.all():
        place = tuple(np.argwhere(~valid)[0])
        kind = "float" if is_float else "integer"
        raise UsageError(
            f"{where}[{place[0]}] holds {images[place]}; {kind} images must lie in "
            f"0..{largest}. Rescale them, or leave that image out."
        )
    if is_float:
        images = np.rint(images * np.float32(255))
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
        raise UsageError(
            f"{where}[{index}] is {labels[index]}; labels must lie in 0..{largest}, 0 "
            "for the first class."
        )
    return labels
