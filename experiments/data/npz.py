"""The arrays of a user's own .npz file, with every example checked."""

import os
import textwrap
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.memory import check_fits
from experiments.records.config import UsageError

DIVIDED = (("x_train", "y_train"), ("x_test", "y_test"))
UNDIVIDED = (("images", "labels"),)


def read(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Reads images and labels; pickled objects are never loaded.

    Args:
      path: a file that holds x_train, y_train, x_test and y_test, or else images and
        labels; other arrays in it are left alone. Images are [n, height, width] or
        [n, height, width, channels]: integers 0..255 are taken as they are, floats
        0..1 are multiplied by 255 and rounded. Labels are integers from 0, [n] or
        [n, 1] (Keras's own layout).

    Returns:
      (images, labels) of the training and of the test split, or of the whole file if
      it is undivided: uint8 [n, height, width, channels] and integers [n].

    Raises:
      UsageError: the file isn't as described; the message names the first fault.
    """
    where = f"--dataset {path}"
    if not os.path.isfile(path):
        raise UsageError(f"{where}: there is no such file.")
    if not zipfile.is_zipfile(path):
        raise UsageError(
            f"{where}: this is no .npz file. Write one with numpy.savez; pickles are "
            "never loaded."
        )
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            layout = _layout(where, arrays)
            _check_size(where, arrays, layout)
            return [_pair(where, arrays, *keys) for keys in layout]
    except UsageError:
        raise
    except Exception as error:  # of many types, from the decoders of a zip file
        reason = textwrap.shorten(str(error), 120, placeholder=" …")
        raise UsageError(
            f"{where}: an array can't be read ({reason}). Write the file anew with "
            "numpy.savez, from arrays of numbers: pickled objects are never loaded."
        ) from error


def _layout(where: str, found: Iterable[str]) -> tuple[tuple[str, str], ...]:
    for layout in (DIVIDED, UNDIVIDED):
        if {key for pair in layout for key in pair} <= set(found):
            return layout
    raise UsageError(
        f"{where}: needs x_train, y_train, x_test and y_test, or images and labels; "
        f"it holds {', '.join(sorted(found)) or 'nothing'}."
    )


def _check_size(where: str, arrays: Any, layout: Iterable[tuple[str, str]]) -> None:
    """Raises `UsageError` before a bomb goes off.

    What a file says of its own size is what is decompressed of it at most.
    """
    keys = {key for pair in layout for key in pair}
    files = arrays.zip.infolist()
    size = sum(x.file_size for x in files if x.filename.removesuffix(".npy") in keys)
    check_fits(where, size, "Give a smaller file.")


def _pair(
    where: str, arrays: Mapping[str, np.ndarray], images_key: str, labels_key: str
) -> tuple[np.ndarray, np.ndarray]:
    images = _images(f"{where}: {images_key}", np.asarray(arrays[images_key]))
    labels = _labels(f"{where}: {labels_key}", np.asarray(arrays[labels_key]))
    if len(images) != len(labels):
        raise UsageError(
            f"{where}: {images_key} holds {len(images)} images and {labels_key} "
            f"{len(labels)} labels; there must be one label an image."
        )
    return images, labels


def _images(where: str, images: np.ndarray) -> np.ndarray:
    """As uint8 [n, height, width, channels], if that is what they can mean."""
    is_float = images.dtype.kind == "f"
    if not is_float and images.dtype.kind not in "iu":
        raise UsageError(
            f"{where} has dtype {images.dtype}; images must be uint8, or floats 0..1."
        )
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise UsageError(
            f"{where} has shape {images.shape}; images must have shape "
            "[n, height, width] or [n, height, width, channels], none of them 0."
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


def _labels(where: str, labels: np.ndarray) -> np.ndarray:
    """As integers [n], none of them negative or beyond int32."""
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
            "One-hot labels become that by .argmax(axis=1)."
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
