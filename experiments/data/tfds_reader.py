"""The arrays of a data set that tensorflow-datasets prepared, without TensorFlow.

A prepared directory describes itself, so none of the code that downloads or prepares a
data set runs to read one: its metadata name the features, the splits and the files.
"""

import hashlib
import logging
import tempfile
import textwrap
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from platformdirs import user_cache_dir

from experiments.data.memory import check_fits
from experiments.data.tfds_directory import (
    check_known,
    data_directory,
    prepare_command,
    prepared_folder,
)
from experiments.records.config import UsageError

_TOGETHER = 512  # examples


class Decoded(NamedTuple):
    """Both splits: images uint8 [n, height, width, channels], labels int64 [n]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: np.ndarray  # shape (), int64: how many the metadata name


def read(dataset: str, data_dir: Path | None) -> Decoded:
    """Reads the newest prepared version of a data set.

    Decoding is slow, so the arrays are kept in the user's cache directory, under a name
    that changes whenever a byte of the data set does.

    Args:
      dataset: name, such as "cifar10", or name/configuration: "emnist/letters".
      data_dir: where tensorflow-datasets keeps its data sets; None for its default.

    Raises:
      UsageError: it isn't prepared there, or broken, or no set of labelled images.
    """
    folder = prepared_folder(dataset, data_dir)
    if folder is None:
        check_known(dataset)
        raise UsageError(
            f"{dataset} is not prepared in {data_directory(data_dir)}, which has no "
            f"{dataset}/VERSION/dataset_info.json. Download and prepare it by "
            f"`{prepare_command(dataset, data_dir)}`."
        )
    name = f"{dataset.replace('/', '-')}-{folder.name}-{_content_digest(folder)}.npz"
    path = Path(user_cache_dir("optax_momentum")) / name
    # Whatever is wrong with a cached file, the data set itself can be decoded again.
    broken = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
    with suppress(*broken), path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        return Decoded(*(arrays[field] for field in Decoded._fields))
    decoded = _decode(folder)
    with suppress(OSError):  # without a cache the next run is slower, no more
        _store(path, decoded)
    return decoded


def _content_digest(folder: Path) -> str:
    """Of names, sizes and bytes: array_record pads files, so sizes alone say little."""
    sha256 = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        sha256.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as file:
            sha256.update(hashlib.file_digest(file, "sha256").digest())
    return sha256.hexdigest()[:16]


def _store(path: Path, decoded: Decoded) -> None:
    """Writes beside the file and renames, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        np.savez(temporary, allow_pickle=False, **decoded._asdict())
        temporary.replace(path)


def _decode(folder: Path) -> Decoded:
    import tensorflow_datasets as tfds  # slow to import

    # It warns, whatever one does with it, that OpenCV would decode faster than Pillow.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        # Any: its methods are decorated in a way that hides their arguments.
        builder: Any = tfds.builder_from_directory(folder)
    except Exception as error:  # of many types, from the parsers of three formats
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise UsageError(
            f"{folder}: the metadata can't be read ({reason}). Remove the folder and "
            "prepare the data set again."
        ) from error
    described = builder.info.features
    is_dict = isinstance(described, tfds.features.FeaturesDict)
    features = dict(described.items()) if is_dict else {}
    image, label = features.get("image"), features.get("label")
    if not (
        isinstance(image, tfds.features.Image)
        and isinstance(label, tfds.features.ClassLabel)
    ):
        found = ", ".join(sorted(features))
        raise UsageError(
            f"{folder} is no set of labelled images: it needs an image feature named "
            f"image and a class label named label, and has {found}."
        )
    infos = builder.info.splits
    splits = sorted(split for split in infos if infos[split].num_examples)
    if not {"train", "test"} <= set(splits):
        raise UsageError(
            f"{folder} needs the splits train and test, and has {', '.join(splits)}. "
            "Save its images and labels with numpy.savez: an .npz file is split here."
        )
    return Decoded(
        *_decode_split(f"{folder}: train", builder, "train"),
        *_decode_split(f"{folder}: test", builder, "test"),
        np.asarray(label.num_classes),
    )


def _decode_split(
    where: str, builder: Any, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """In one thread: more made this slower, as little of it is free of Python."""
    examples: Any = builder.as_data_source(split)
    images, labels = [], []
    for index, example in enumerate(_examples(where, examples)):
        images.append(example["image"])
        labels.append(example["label"])
        size = images[0].nbytes * len(examples)
        check_fits(where, size, "Save a part of it with numpy.savez.")
        if images[-1].shape != images[0].shape or images[-1].dtype != np.uint8:
            raise UsageError(
                f"{where} example {index} is {images[-1].dtype} of shape "
                f"{images[-1].shape} where uint8 of shape {images[0].shape} is needed: "
                "all images must have one size. Save them so with numpy.savez, and "
                "give that .npz file."
            )
    _check_count(where, builder.info.splits[split])
    return np.stack(images), np.asarray(labels)


def _examples(where: str, examples: Any) -> Iterator[Any]:
    """Some at a time, which takes half as long, or one by one up to a broken one."""
    for start in range(0, len(examples), _TOGETHER):
        indices = range(start, min(start + _TOGETHER, len(examples)))
        try:
            read = examples.__getitems__([*indices])
        except Exception:  # of many types, from the decoders of two formats
            read = (_example(where, examples, index) for index in indices)
        yield from read


def _example(where: str, examples: Any, index: int) -> Any:
    try:
        return examples[index]
    except Exception as error:  # likewise
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise UsageError(
            f"{where} example {index} can't be read ({reason}). Remove the folder "
            "and prepare the data set again."
        ) from error


def _check_count(where: str, info: Any) -> None:
    """Raises `UsageError` for examples that the metadata, and so readers, leave out."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    found = len(ArrayRecordDataSource([*map(str, info.filepaths)]))
    if found != info.num_examples:
        raise UsageError(
            f"{where} has {found} examples, and {info.num_examples} by its metadata. "
            "Remove the folder and prepare the data set again."
        )
