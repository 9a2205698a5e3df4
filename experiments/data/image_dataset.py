"""The data set of an experiment: read, split and checked, on the host."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from experiments.data import folder, npz, tfds
from experiments.data.labeled import Changes, ImageArray, LabeledImages
from experiments.data.memory import check_fits
from experiments.data.resizing import to_square
from experiments.data.streaming import StreamedImages, check_streamable
from experiments.records.config import UsageError

# The test split of a data set that comes without one. The seed is a constant that no
# option sets, so that every run of every plan is tested on the same images.
TEST_SHARE = 0.2
TEST_SEED = 1797
VALIDATION_SHARE = 0.2
EMBEDDED = "digits"


class Dataset(NamedTuple):
    """Images and their classes. Only a run's last measurement reads the test arrays.

    Of streamed data, `StreamedImages` stand for the arrays of images.
    """

    name: str
    train_images: ImageArray
    train_labels: Int32[np.ndarray, " train"]  # 0 .. classes − 1
    test_images: ImageArray
    test_labels: Int32[np.ndarray, " test"]
    classes: int
    class_names: tuple[str, ...] = ()  # if known; untrusted text
    changes: Changes = Changes()  # between the stored data and these
    digest: str = ""  # of streamed images, which are not read again for it


class HoldOut(NamedTuple):
    """The training split of a data set, divided in two; the arrays are views."""

    images: ImageArray
    labels: Int32[np.ndarray, " train"]
    validation_images: ImageArray
    validation_labels: Int32[np.ndarray, " validation"]


def load(
    dataset: str,
    data_dir: Path | None,
    *,
    skip_broken: float = 0.0,
    image_size: int | None = None,
    stream: bool = False,
) -> Dataset:
    """Reads a whole data set, into memory unless it is streamed.

    Args:
      dataset: "digits", scikit-learn's 1,797 handwritten digits at 24x24x1; or a path
        that ends in .npz (see `npz.read`); or the path of a directory of images, with a
        separator in it: "./pets" (see `folder.read`); or the name of a prepared
        image-classification data set of tensorflow-datasets, such as "cifar10", with
        its configuration if it has several: "emnist/letters".
      data_dir: where tensorflow-datasets prepared it. None means the environment
        variable TFDS_DATA_DIR, or ~/tensorflow_datasets if that isn't set.
      skip_broken: the largest share of a directory's files that may be left out
        because they can't be used; with more, the directory is refused.
      image_size: height and width to which all images are brought, see `to_square`.
      stream: leaves the images of a directory or of tensorflow-datasets where they are,
        as `StreamedImages`, after reading each of them once for the digest.

    Returns:
      The data set. If it comes without a test split (digits, images and labels, one
      directory), 20% of it become one: stratified by label and always the same. Its
      `changes` say what was left out and converted.

    Raises:
      UsageError: the data are missing, broken or unsuitable; the message says what to
        do.
    """
    path = Path(os.path.expanduser(dataset))  # leaves the ~ of an unknown user
    is_file = dataset.endswith(".npz")
    is_folder = not is_file and _is_path(dataset) and os.path.isdir(path)
    if skip_broken and not is_folder:
        raise UsageError(
            "--skip-broken applies to a directory of images, and --dataset "
            f"{dataset} is not one. Omit it, or name a directory, such as --dataset "
            "./images."
        )
    if data_dir is not None and (is_file or is_folder or dataset == EMBEDDED):
        raise UsageError(
            "--data-dir applies to the data sets of tensorflow-datasets, and --dataset "
            f"{dataset} is not one. Omit it, or name one, such as --dataset cifar10."
        )
    if stream:
        check_streamable(dataset)
    _check_exists(dataset, path, data_dir)
    where = f"--dataset {dataset}"
    if dataset == EMBEDDED:
        read = _check(where, *_stratified_split(where, _read_digits()))
    elif is_file:
        read = _load_file(where, path)
    elif is_folder:
        read = _load_folder(where, path, skip_broken, image_size, stream)
    elif stream:
        read = _check(where, *tfds.stream(dataset, data_dir, image_size))
    else:
        decoded = tfds.read(dataset, data_dir, image_size)
        train = LabeledImages(decoded.train_images, decoded.train_labels)
        test = LabeledImages(decoded.test_images, decoded.test_labels)
        read = _check(where, train, test, int(decoded.classes))
    read = _resized(where, read, image_size)
    return _surveyed(read) if stream else _brightened(read)


def describe_changes(dataset: Dataset) -> list[str]:
    """What was left out and converted when the data were read, in sentences."""
    changes = dataset.changes
    sentences = []
    if changes.left_out:
        left_out = sum(changes.left_out.values())
        total = left_out + len(dataset.train_labels) + len(dataset.test_labels)
        reasons = ", ".join(f"{n:,} {kind}" for kind, n in changes.left_out.items())
        sentences.append(f"{left_out:,} of {total:,} files are left out: {reasons}.")
    if changes.image_size is not None:
        size = changes.image_size
        sentences.append(f"The middle of every image is resized to {size}x{size}.")
    return [*sentences, *changes.converted]


def hold_out(dataset: Dataset) -> HoldOut:
    """Holds out the last 20% of the training split for validation, as Keras does.

    `keras.Model.fit` with `validation_split=0.2` cuts at the same place: the first
    floor(n · 0.8) images are trained on, 40,000 of CIFAR-10's 50,000.
    """
    cut = math.floor(len(dataset.train_labels) * (1 - VALIDATION_SHARE))
    images, labels = dataset.train_images, dataset.train_labels
    return HoldOut(images[:cut], labels[:cut], images[cut:], labels[cut:])


def check_batch_size(batch_size: int, dataset: Dataset) -> None:
    """Raises `UsageError` if a batch is larger than the set of training images."""
    images = training_images(dataset)
    if batch_size > images:
        raise UsageError(
            f"--batch-size {batch_size} is larger than the {images} training images of "
            f"{dataset.name}; choose a smaller one."
        )


def fitting(sizes: Sequence[int], dataset: Dataset) -> tuple[int, ...]:
    """The batch sizes for which the data set has enough training images, in order."""
    return tuple(size for size in sizes if size <= training_images(dataset))


def check_fitting(sizes: Sequence[int], dataset: Dataset) -> None:
    """Raises `UsageError` if a batch has more images than the training set."""
    if too_large := sorted(set(sizes).difference(fitting(sizes, dataset))):
        raise UsageError(
            f"--batch-sizes has {too_large[-1]}, but {dataset.name} has "
            f"{training_images(dataset)} training images; choose smaller ones."
        )


def training_images(dataset: Dataset) -> int:
    """How many images remain for training after the hold-out."""
    return len(hold_out(dataset).labels)


def digest(dataset: Dataset) -> str:
    """Sixteen hex digits that differ when any value, shape, dtype or `classes` does."""
    return dataset.digest or _digest(dataset, _blocks)


def _digest(dataset: Dataset, blocks_of: Callable[[ImageArray], Iterable[Any]]) -> str:
    sha256 = hashlib.sha256(str(dataset.classes).encode())
    for array in dataset[1:5]:
        sha256.update(f"{array.dtype.str}{array.shape}".encode())
        for block in blocks_of(array):
            sha256.update(np.ascontiguousarray(block).data)
    return sha256.hexdigest()[:16]


def _blocks(array: ImageArray) -> Iterable[UInt8[np.ndarray, "..."]]:
    """The values of an array in their order: whole, or image by image."""
    if isinstance(array, StreamedImages):
        return array.read(np.arange(len(array)))
    return (array,)


def _read_digits() -> LabeledImages:
    """The digits, 8x8 with values 0..16, as uint8 [1797, 24, 24, 1]."""
    from sklearn.datasets import load_digits  # slow to import

    images, labels = map(np.asarray, load_digits(return_X_y=True))
    images = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return LabeledImages(images.repeat(3, axis=1).repeat(3, axis=2), labels)


def _check_exists(dataset: str, path: Path, data_dir: Path | None) -> None:
    """Raises `UsageError` for a path of nothing, or of a file that isn't read.

    A name with one slash may also be a configuration of tensorflow-datasets.
    """
    if not _is_path(dataset) or dataset.endswith(".npz") or os.path.isdir(path):
        return
    if os.path.exists(path):
        raise UsageError(
            f"--dataset {dataset}: of files, only .npz files are read. Unpack an "
            "archive of images and pass the directory, with a subdirectory per class."
        )
    if tfds.is_name(dataset) and (
        tfds.prepared_folder(dataset, data_dir) or tfds.is_known(dataset)
    ):
        return
    raise UsageError(
        f"--dataset {dataset}: there is no such directory. Correct the path, or omit "
        "the slash for a name of tensorflow-datasets."
    )


def _resized(where: str, dataset: Dataset, image_size: int | None) -> Dataset:
    """All images brought to a size, unless the reader has done that."""
    if image_size is None:
        return dataset
    dataset = dataset._replace(changes=dataset.changes._replace(image_size=image_size))
    _, height, width, channels = dataset.train_images.shape
    if height == width == image_size:
        return dataset
    images = len(dataset.train_images) + len(dataset.test_images)
    size = images * image_size**2 * channels
    check_fits(f"{where}: the images", size, "Choose a smaller --image-size.")
    train, test = (
        np.stack([to_square(image, image_size) for image in part])
        for part in (dataset.train_images, dataset.test_images)
    )
    return dataset._replace(train_images=train, test_images=test)


def _brightened(dataset: Dataset, brightest: int | None = None) -> Dataset:
    """Images of 0 and 1 as black and white: in bytes, 1 would be all but black."""
    if brightest is None:
        parts = dataset.train_images, dataset.test_images
        brightest = max(int(np.max(part)) for part in parts)
    if brightest != 1:
        return dataset
    said = "Integer images hold only 0 and 1, which are read as 0 and 255."
    changes = dataset.changes
    return dataset._replace(
        train_images=_scaled(dataset.train_images, 255),
        test_images=_scaled(dataset.test_images, 255),
        changes=changes._replace(converted=(*changes.converted, said)),
    )


def _scaled(images: ImageArray, factor: int) -> ImageArray:
    if isinstance(images, StreamedImages):
        brighter: Any = replace(images, factor=factor)
        return brighter
    return images * np.uint8(factor)


def _surveyed(dataset: Dataset) -> Dataset:
    """The streamed data set with its digest, after a look at each of its images."""
    brightest = 0

    def looked_at(array: ImageArray) -> Iterator[UInt8[np.ndarray, "..."]]:
        nonlocal brightest
        for block in _blocks(array):
            if isinstance(array, StreamedImages):
                brightest = max(brightest, int(block.max()))
            yield block

    found = _digest(dataset, looked_at)
    if brightest != 1:
        return dataset._replace(digest=found)
    dataset = _brightened(dataset, brightest)
    return dataset._replace(digest=digest(dataset))


def _is_path(dataset: str) -> bool:
    """Whether it may be a path; a plain name is one of tensorflow-datasets."""
    return dataset.startswith((".", "~")) or "/" in dataset or os.sep in dataset


def _load_file(where: str, path: Path) -> Dataset:
    parts, converted = npz.read(path)
    lowest = min(int(part.labels.min()) for part in parts if len(part.labels))
    if lowest > 0:
        raise UsageError(
            f"{where}: the labels begin at {lowest}, and 0 is the first class. "
            f"Subtract {lowest} from all of them."
        )
    remedy = "supply x_train, y_train, x_test, y_test"
    train, test = (
        parts if len(parts) == 2 else _stratified_split(where, parts[0], remedy)
    )
    dataset = _check(where, train, test)._replace(name=path.name)
    _check_gaps(where, dataset)
    dataset = dataset._replace(changes=Changes(converted=converted))
    remedy = "Shuffle a file sorted by label, or add images of a rare class."
    return _check_held_out(where, dataset, remedy)


def _check_gaps(where: str, dataset: Dataset) -> None:
    """Raises `UsageError` if a label below the largest one has no training image."""
    present = np.unique(dataset.train_labels)
    missing = np.flatnonzero(present != np.arange(len(present)))
    if len(missing):
        others = int(present[-1]) - len(present)
        more = f", nor one of {others:,} others" if others else ""
        raise UsageError(
            f"{where}: the largest label is {present[-1]}, but no training image has "
            f"label {missing[0]}{more}. Renumber the labels of all images without "
            "gaps, as numpy.unique(labels, return_inverse=True)[1] does."
        )


def _load_folder(
    where: str, path: Path, skip_broken: float, image_size: int | None, stream: bool
) -> Dataset:
    parts, names, changes = folder.read(path, skip_broken, image_size, stream=stream)
    if len(parts) == 2:
        train, test = parts
        # Shuffled: they are sorted by class, and the last of them are held out.
        order = np.random.default_rng(TEST_SEED).permutation(len(train.labels))
        train = train.take(order)
    else:
        remedy = "divide them into train/ and test/"
        train, test = _stratified_split(where, parts[0], remedy, names)
    dataset = _check(where, train, test, len(names))
    dataset = dataset._replace(
        name=path.resolve().name, class_names=names, changes=changes
    )
    return _check_held_out(where, dataset, "Add images of it.")


def _check_held_out(where: str, dataset: Dataset, remedy: str) -> Dataset:
    """The data set, unless all images of a class are held out for validation."""
    present = set(hold_out(dataset).labels.tolist())
    missing = next((c for c in range(dataset.classes) if c not in present), None)
    if missing is not None:
        raise UsageError(
            f"{where}: no image of {_describe(missing, dataset.class_names)} is left "
            "to train on, because the last 20% of the training images are held out for "
            f"validation. {remedy}"
        )
    return dataset


def _stratified_split(
    where: str, whole: LabeledImages, remedy: str = "", class_names: Sequence[str] = ()
) -> tuple[LabeledImages, LabeledImages]:
    """A training and a test split with the classes in the same proportions."""
    from sklearn.model_selection import train_test_split  # slow to import

    labels = whole.labels
    classes, first, counts = np.unique(labels, return_index=True, return_counts=True)
    if counts.min() < 2:
        rarest = counts.argmin()
        raise UsageError(
            f"{where}: image {first[rarest]} is the only one of "
            f"{_describe(classes[rarest], class_names)}, and the split into training "
            f"and test images needs two. Add one, or {remedy}."
        )
    if len(labels) * TEST_SHARE < len(classes):
        raise UsageError(
            f"{where}: 20% of {len(labels)} images are too few to test each of "
            f"{len(classes)} classes. Add images, or {remedy}."
        )
    indices = np.arange(len(labels))
    train, test = train_test_split(
        indices, test_size=TEST_SHARE, stratify=labels, random_state=TEST_SEED
    )
    return whole.take(np.asarray(train)), whole.take(np.asarray(test))


def _describe(label: int, class_names: Sequence[str]) -> str:
    return f"class {class_names[label]!r}" if class_names else f"class {label}"


def _check(
    where: str, train: LabeledImages, test: LabeledImages, classes: int | None = None
) -> Dataset:
    """The data set, if its splits match; without `classes`, there are max + 1."""
    if len(train.images) < 2 or len(test.images) < 1:
        raise UsageError(
            f"{where}: {len(train.images)} training and {len(test.images)} test images "
            "are too few; at least two and one are needed."
        )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UsageError(
            f"{where}: the training images have shape {train.images.shape[1:]} and the "
            f"test images {test.images.shape[1:]}; the shapes must be equal."
        )
    classes = int(train.labels.max()) + 1 if classes is None else classes
    if classes < 2:
        raise UsageError(f"{where}: all labels are 0; at least two classes are needed.")
    for split, labels in (("training", train.labels), ("test", test.labels)):
        outside = (labels < 0) | (labels >= classes)
        if outside.any():
            index = outside.argmax()
            raise UsageError(
                f"{where}: {split} image {index} has label {labels[index]}, outside "
                f"the classes 0 to {classes - 1} of the training split. Remove the "
                "image or correct its label."
            )
    return Dataset(
        where.removeprefix("--dataset "),
        train.images,
        train.labels.astype(np.int32),
        test.images,
        test.labels.astype(np.int32),
        classes,
    )
