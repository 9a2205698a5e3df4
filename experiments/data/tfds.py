"""Data sets that tensorflow-datasets prepared, found and read without TensorFlow.

A prepared directory describes itself: its metadata name the features, the splits and
the files. So the code that downloads and prepares a data set isn't needed to read it.
"""

import difflib
import hashlib
import json
import logging
import os
import re
import shlex
import tempfile
import textwrap
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int64, UInt8
from platformdirs import user_cache_dir

from experiments.data.labeled import LabeledImages
from experiments.data.memory import check_fits
from experiments.data.resizing import to_square
from experiments.data.streaming import streamed
from experiments.records.config import UsageError

_READ_AT_ONCE = 512  # examples


class Decoded(NamedTuple):
    """Both splits and the number of classes. The cache files use the field names."""

    train_images: UInt8[np.ndarray, "train height width channels"]
    train_labels: Int64[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test height width channels"]
    test_labels: Int64[np.ndarray, " test"]
    classes: Int[np.ndarray, ""]  # as the metadata state it


def read(dataset: str, data_dir: Path | None, image_size: int | None = None) -> Decoded:
    """Reads the newest prepared version of a data set.

    Decoding is slow, so the arrays are cached in the user's cache directory, under a
    name that changes whenever a byte of the data set does.

    Args:
      dataset: name, such as "cifar10", or name/configuration: "emnist/letters".
      data_dir: where it was prepared; None for the directory that TFDS_DATA_DIR names,
        or ~/tensorflow_datasets if that isn't set.
      image_size: height and width to which all images are brought, see `to_square`;
        without it, all must have one size.

    Raises:
      UsageError: the data set isn't prepared there, or is broken, or isn't a set of
        labeled images.
    """
    folder = _find(dataset, data_dir)
    size = "" if image_size is None else f"-{image_size}px"
    digest = _content_digest(folder)
    name = f"{dataset.replace('/', '-')}-{folder.name}-{digest}{size}.npz"
    path = Path(user_cache_dir("optax_momentum")) / name
    # Whatever is wrong with a cached file, the data set itself can be decoded again.
    broken = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
    with suppress(*broken), path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        return Decoded(*(arrays[field] for field in Decoded._fields))
    decoded = _decode(folder, image_size)
    with suppress(OSError):  # without a cache, the next run only takes longer
        _store(path, decoded)
    return decoded


def stream(
    dataset: str, data_dir: Path | None, image_size: int | None = None
) -> tuple[LabeledImages, LabeledImages, int]:
    """Like `read`, but the images are left where they are: only labels are read.

    Whether all images can be read and have one size is found out when they are read.

    Returns:
      The training and the test split, and the number of classes as the metadata state
      it.
    """
    folder = _find(dataset, data_dir)
    builder, classes = _open(folder)
    splits = [
        _stream_split(f"{folder}: {split}", builder, split, image_size)
        for split in ("train", "test")
    ]
    return splits[0], splits[1], classes


def _find(dataset: str, data_dir: Path | None) -> Path:
    # Looked up here, because tensorflow-datasets reports a missing data set as an error
    # about its file format.
    folder = prepared_folder(dataset, data_dir)
    if folder is None:
        check_known(dataset)
        raise UsageError(
            f"{dataset} is not prepared in {data_directory(data_dir)}, which has no "
            f"{dataset}/VERSION/dataset_info.json. Download and prepare it with "
            f"`{prepare_command(dataset, data_dir)}`."
        )
    return folder


def data_directory(data_dir: Path | None) -> Path:
    """`data_dir`, else the directory TFDS_DATA_DIR names, else ~/tensorflow_datasets.

    Raises:
      UsageError: it is a file.
    """
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    # The ~ of an unknown user stays as it is.
    directory = Path(os.path.expanduser(data_dir or default))
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise UsageError(
            f"--data-dir {directory} (or TFDS_DATA_DIR) is a file; it must be the "
            "directory in which tensorflow-datasets keeps its data sets."
        )
    return directory


def prepared_folder(dataset: str, data_dir: Path | None) -> Path | None:
    """Finds the folder of the newest prepared version of a data set, if there is one.

    Raises:
      UsageError: `data_dir` is a file, or the version isn't in array_record format.
    """
    directory = data_directory(data_dir)
    if not is_name(dataset):
        return None  # perhaps a path that leads out of the directory
    inside = directory / dataset
    versions = {
        tuple(map(int, folder.name.split("."))): folder
        for folder in (inside.glob("*") if os.path.isdir(inside) else ())
        if re.fullmatch(r"\d+\.\d+\.\d+", folder.name)
        and os.path.isfile(folder / "dataset_info.json")
    }
    if not versions:
        return None
    folder = versions[max(versions)]
    _check_format(folder, prepare_command(dataset, data_dir))
    return folder


def is_name(dataset: str) -> bool:
    """Whether it may be the name of a data set, or NAME/CONFIGURATION."""
    return re.fullmatch(r"\w+(/\w[\w.-]*)?", dataset) is not None


def prepare_command(dataset: str, data_dir: Path | None) -> str:
    """The command line that downloads and prepares a data set."""
    option = data_dir_option(data_dir)
    return f"uv run --extra prepare python -m experiments prepare {dataset}{option}"


def data_dir_option(data_dir: Path | None) -> str:
    """The option and its value, after a space; empty for None."""
    return "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"


def is_known(dataset: str) -> bool:
    """Whether tensorflow-datasets can prepare `dataset`."""
    return dataset.partition("/")[0] in _known_names()


def check_known(dataset: str) -> None:
    """Raises `UsageError` unless tensorflow-datasets can prepare `dataset`."""
    if is_known(dataset):
        return
    name = dataset.partition("/")[0]
    close = difflib.get_close_matches(name.lower(), ["digits", *_known_names()])
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    if os.path.exists(dataset):
        hint = f" Did you mean ./{dataset}, which is here?"
    raise UsageError(
        f"{dataset} is neither digits, nor the path of an .npz file, nor that of a "
        "directory, such as ./images, nor a data set that tensorflow-datasets knows."
        f"{hint}"
    )


def _known_names() -> list[str]:
    import tensorflow_datasets as tfds  # slow to import

    return tfds.list_builders(with_community_datasets=False)


def _check_format(folder: Path, command: str) -> None:
    try:
        stated = json.loads((folder / "dataset_info.json").read_text())["fileFormat"]
    except (OSError, ValueError, KeyError, TypeError):
        stated = "an unknown format"
    if stated != "array_record":
        raise UsageError(
            f"{folder} is prepared as {stated}; only array_record can be read without "
            f"TensorFlow. Remove that folder and prepare it again with `{command}`."
        )


def _content_digest(folder: Path) -> str:
    """Of names, sizes and bytes: array_record pads files, so sizes say little."""
    sha256 = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        sha256.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as file:
            sha256.update(hashlib.file_digest(file, "sha256").digest())
    return sha256.hexdigest()[:16]


def _store(path: Path, decoded: Decoded) -> None:
    """Writes next to the file and renames, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        np.savez(temporary, allow_pickle=False, **decoded._asdict())
        temporary.replace(path)


def _decode(folder: Path, image_size: int | None) -> Decoded:
    builder, classes = _open(folder)
    return Decoded(
        *_decode_split(f"{folder}: train", builder, "train", image_size),
        *_decode_split(f"{folder}: test", builder, "test", image_size),
        np.asarray(classes),
    )


def _open(folder: Path) -> tuple[Any, Any]:
    """The builder of a data set of labeled images, and the number of its classes."""
    import tensorflow_datasets as tfds  # slow to import

    # It always warns that OpenCV would decode faster than Pillow.
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        # Any: its methods are decorated in a way that hides their arguments.
        builder: Any = tfds.builder_from_directory(folder)
    except Exception as error:  # the parsers of three formats raise many types
        raise UsageError(
            f"{folder}: the metadata can't be read ({_shorten(error)}). Remove the "
            "folder and prepare the data set again."
        ) from error
    described = builder.info.features
    is_dict = isinstance(described, tfds.features.FeaturesDict)
    features = dict(described.items()) if is_dict else {}
    image, label = features.get("image"), features.get("label")
    if not (
        isinstance(image, tfds.features.Image)
        and isinstance(label, tfds.features.ClassLabel)
    ):
        raise UsageError(
            f"{folder} is not a set of labeled images: it needs an image feature named "
            f"image and a class label named label, and has "
            f"{', '.join(sorted(features))}. Choose another data set."
        )
    infos = builder.info.splits
    splits = sorted(split for split in infos if infos[split].num_examples)
    if not {"train", "test"} <= set(splits):
        raise UsageError(
            f"{folder} needs the splits train and test, and has {', '.join(splits)}. "
            "Save its images and labels with numpy.savez and pass that .npz file: it "
            "is split when it is read."
        )
    return builder, label.num_classes


def _decode_split(
    where: str, builder: Any, split: str, image_size: int | None
) -> LabeledImages:
    """Uses one thread: several are slower, because Python's lock is hardly released."""
    examples: Any = builder.as_data_source(split)
    images, labels = [], []
    for index, example in enumerate(_read_examples(where, examples)):
        shape = images[0].shape if images else None
        images.append(_checked_image(where, index, example, image_size, shape))
        labels.append(example["label"])
        size = images[0].nbytes * len(examples)
        check_fits(
            where,
            size,
            "Pass --stream, or save a part of it with numpy.savez and pass that.",
        )
    _check_count(where, builder.info.splits[split])
    return LabeledImages(np.stack(images), np.asarray(labels))


def _checked_image(
    where: str,
    index: int,
    example: Any,
    image_size: int | None,
    shape: tuple[int, ...] | None,
) -> UInt8[np.ndarray, "height width channels"]:
    """The image of an example, resized if that is requested.

    Raises:
      UsageError: it isn't of bytes, or of another shape than the first image.
    """
    image = example["image"]
    if image_size is not None and image.dtype == np.uint8:
        image = to_square(image, image_size)
    shape = image.shape if shape is None else shape
    if image.shape != shape or image.dtype != np.uint8:
        raise UsageError(
            f"{where} example {index} is {image.dtype} of shape {image.shape} where "
            f"uint8 of shape {shape} is needed: all images must have one size. Pass "
            "--image-size 64, or another size, to resize them."
        )
    return image


class _Records:
    """The images of a split, each decoded from its record."""

    def __init__(self, where: str, examples: Any, image_size: int | None):
        self._where, self._examples, self._image_size = where, examples, image_size
        first = next(_read_block(where, examples, [0]))
        self.shape = _checked_image(where, 0, first, image_size, None).shape

    def read(
        self, places: Sequence[int]
    ) -> list[UInt8[np.ndarray, "height width channels"]]:
        examples = _read_block(self._where, self._examples, places)
        return [
            _checked_image(self._where, place, example, self._image_size, self.shape)
            for place, example in zip(places, examples, strict=True)
        ]


def _stream_split(
    where: str, builder: Any, split: str, image_size: int | None
) -> LabeledImages:
    import tensorflow_datasets as tfds  # slow to import

    undecoded = builder.as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    labels = [example["label"] for example in _read_examples(where, undecoded)]
    _check_count(where, builder.info.splits[split])
    source = _Records(where, builder.as_data_source(split), image_size)
    images = streamed(source, len(labels), source.shape)
    return LabeledImages(images, np.asarray(labels))


def _read_examples(where: str, examples: Any) -> Iterator[Any]:
    """Reads many at once, which takes half as long; one by one if one is broken."""
    for start in range(0, len(examples), _READ_AT_ONCE):
        indices = range(start, min(start + _READ_AT_ONCE, len(examples)))
        yield from _read_block(where, examples, indices)


def _read_block(where: str, examples: Any, indices: Sequence[int]) -> Iterator[Any]:
    try:
        block = examples.__getitems__([*indices])
    except Exception:  # the decoders of two formats raise many types
        block = (_read_example(where, examples, index) for index in indices)
    yield from block


def _read_example(where: str, examples: Any, index: int) -> Any:
    try:
        return examples[index]
    except Exception as error:  # the decoders of two formats raise many types
        raise UsageError(
            f"{where} example {index} can't be read ({_shorten(error)}). Remove the "
            "folder and prepare the data set again."
        ) from error


def _check_count(where: str, info: Any) -> None:
    """Raises `UsageError` for examples that the metadata, and so readers, leave out."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    count = len(ArrayRecordDataSource([*map(str, info.filepaths)]))
    if count != info.num_examples:
        raise UsageError(
            f"{where} has {count} examples, but {info.num_examples} according to its "
            "metadata. Remove the folder and prepare the data set again."
        )


def _shorten(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" …")
