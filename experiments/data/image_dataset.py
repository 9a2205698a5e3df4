"""Labelled images for one experiment: loaded, split and checked, on the host."""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import folder, npz, tfds_reader
from experiments.records.config import UsageError

# Which images of an undivided data set are its test split. The seed is a constant, and
# no option sets it: every run of every plan is judged on the same images.
TEST_SHARE = 0.2
TEST_SEED = 1797
VALIDATION_SHARE = 0.2
EMBEDDED = "digits"

Labelled = tuple[np.ndarray, np.ndarray]  # images, labels


class Dataset(NamedTuple):
    """Images and their classes. The test arrays are for the last measurement only."""

    name: str
    train_images: np.ndarray  # uint8 [n, height, width, channels]
    train_labels: np.ndarray  # int32 [n], 0 .. classes − 1
    test_images: np.ndarray  # uint8 [m, height, width, channels]
    test_labels: np.ndarray  # int32 [m]
    classes: int
    class_names: tuple[str, ...] = ()  # where they are known; text of whoever wrote it


def load(dataset: str, data_dir: Path | None, *, skip_broken: bool = False) -> Dataset:
    """Reads a data set whole into memory.

    Args:
      dataset: "digits", scikit-learn's 1,797 handwritten digits at 24x24x1; or a path
        that ends in .npz (`npz_reader.read` says what it may hold); or the path of a
        directory of images, with a separator in it: "./pets" (`folder_reader.read`); or
        the name of a prepared image-classification data set of tensorflow-datasets,
        such as "cifar10", with its configuration where it has some: "emnist/letters".
      data_dir: where tensorflow-datasets prepared it. None stands for the environment
        variable TFDS_DATA_DIR, and without that for ~/tensorflow_datasets.
      skip_broken: whether images of a directory that can't be used are left out; if
        there are any, the data set is refused otherwise.

    Returns:
      The data set. An undivided one (digits, images and labels, one directory) gets a
      test split of 20%, stratified by label and always the same.

    Raises:
      UsageError: the data are missing, broken or unfit; the message says what to do.
    """
    path = Path(os.path.expanduser(dataset))  # as it is where there is no such user
    is_file = dataset.endswith(".npz")
    is_folder = not is_file and _is_path(dataset) and os.path.isdir(path)
    if skip_broken and not is_folder:
        raise UsageError(
            f"--skip-broken is about the images of a directory; --dataset {dataset} is "
            "none. Leave it out, or name one, such as --dataset ./images."
        )
    if data_dir is not None and (is_file or is_folder or dataset == EMBEDDED):
        raise UsageError(
            f"--data-dir is where tensorflow-datasets keeps its data sets; --dataset "
            f"{dataset} is none of them. Leave --data-dir out, or name one of them, "
            "such as --dataset cifar10."
        )
    where = f"--dataset {dataset}"
    if dataset == EMBEDDED:
        return _checked(where, *_stratified_split(where, *_digits()))
    if is_file:
        return _from_file(where, path)
    if is_folder:
        return _from_folder(where, path, skip_broken)
    decoded = tfds_reader.read(dataset, data_dir)
    return _checked(where, decoded[:2], decoded[2:4], int(decoded.classes))


def hold_out(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cuts the last 20% of the training split off, where Keras cuts it.

    The place is that of `validation_split=0.2` in `keras.Model.fit`: floor(n · 0.8)
    images are trained on, 40,000 of CIFAR-10's 50,000.

    Returns:
      Training images and labels, validation images and labels: views, no copies.
    """
    kept = math.floor(len(dataset.train_labels) * (1 - VALIDATION_SHARE))
    images, labels = dataset.train_images, dataset.train_labels
    return images[:kept], labels[:kept], images[kept:], labels[kept:]


def check_batch_size(batch_size: int, dataset: Dataset) -> None:
    """Raises `UsageError` for a batch of more images than are trained on."""
    images = len(hold_out(dataset)[1])
    if batch_size > images:
        raise UsageError(
            f"--batch-size {batch_size} is larger than the {images} training images of "
            f"{dataset.name}; choose a smaller one."
        )


def digest(dataset: Dataset) -> str:
    """Sixteen hex digits that differ when any value, shape, dtype or `classes` does."""
    sha256 = hashlib.sha256(str(dataset.classes).encode())
    for array in dataset[1:5]:
        sha256.update(f"{array.dtype.str}{array.shape}".encode())
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()[:16]


def _digits() -> Labelled:
    """The digits, 8x8 with values 0..16, as uint8 [1797, 24, 24, 1]."""
    from sklearn.datasets import load_digits  # slow to import

    images, labels = map(np.asarray, load_digits(return_X_y=True))
    images = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return images.repeat(3, axis=1).repeat(3, axis=2), labels


def _is_path(dataset: str) -> bool:
    """Whether it may be a path: a plain name is one of tensorflow-datasets."""
    return dataset.startswith((".", "~")) or "/" in dataset or os.sep in dataset


def _from_file(where: str, path: Path) -> Dataset:
    parts = npz.read(path)
    divide = "supply x_train, y_train, x_test, y_test"
    train, test = (
        parts if len(parts) == 2 else _stratified_split(where, *parts[0], divide)
    )
    dataset = _checked(where, train, test)._replace(name=path.name)
    return _every_class_trained(
        where,
        dataset,
        f"The classes are 0 to {dataset.classes - 1}, the largest label: shuffle a "
        "file sorted by label, renumber labels with gaps, or add images of a rare "
        "class.",
    )


def _from_folder(where: str, path: Path, skip_broken: bool) -> Dataset:
    parts, names = folder.read(path, skip_broken)
    if len(parts) == 2:
        (images, labels), test = parts
        # They are in the order of their classes, and the last are held out.
        order = np.random.default_rng(TEST_SEED).permutation(len(labels))
        train = images[order], labels[order]
    else:
        divide = "divide them into train/ and test/"
        train, test = _stratified_split(where, *parts[0], divide, names)
    dataset = _checked(where, train, test, len(names))
    dataset = dataset._replace(name=path.resolve().name, class_names=names)
    return _every_class_trained(where, dataset, "Add images of it.")


def _every_class_trained(where: str, dataset: Dataset, remedy: str) -> Dataset:
    """The data set, unless the validation images are all that there is of a class."""
    present = set(hold_out(dataset)[1].tolist())
    missing = next((c for c in range(dataset.classes) if c not in present), None)
    if missing is not None:
        raise UsageError(
            f"{where}: no image of {_named(missing, dataset.class_names)} is left to "
            "train on, because the last 20% of the training images are held out for "
            f"validation. {remedy}"
        )
    return dataset


def _stratified_split(
    where: str,
    images: np.ndarray,
    labels: np.ndarray,
    divide: str = "",
    class_names: Sequence[str] = (),
) -> tuple[Labelled, Labelled]:
    """A training and a test part that have the classes in the same proportions."""
    from sklearn.model_selection import train_test_split  # slow to import

    classes, first, counts = np.unique(labels, return_index=True, return_counts=True)
    if counts.min() < 2:
        alone = counts.argmin()
        raise UsageError(
            f"{where}: image {first[alone]} is the only one of "
            f"{_named(classes[alone], class_names)}, and the split into training and "
            f"test images needs two. Add one, or {divide}."
        )
    if len(labels) * TEST_SHARE < len(classes):
        raise UsageError(
            f"{where}: 20% of {len(labels)} images are too few to test each of "
            f"{len(classes)} classes. Add images, or {divide}."
        )
    indices = np.arange(len(labels))
    train, test = train_test_split(
        indices, test_size=TEST_SHARE, stratify=labels, random_state=TEST_SEED
    )
    return (images[train], labels[train]), (images[test], labels[test])


def _named(label: int, class_names: Sequence[str]) -> str:
    return f"class {class_names[label]!r}" if class_names else f"class {label}"


def _checked(
    where: str, train: Labelled, test: Labelled, classes: int | None = None
) -> Dataset:
    """The data set, if its parts fit together; `classes` is by default max + 1."""
    (train_images, train_labels), (test_images, test_labels) = train, test
    if len(train_images) < 2 or len(test_images) < 1:
        raise UsageError(
            f"{where}: {len(train_images)} training and {len(test_images)} test images "
            "are too few; two and one are the least."
        )
    if train_images.shape[1:] != test_images.shape[1:]:
        raise UsageError(
            f"{where}: the training images have shape {train_images.shape[1:]} and the "
            f"test images {test_images.shape[1:]}; they must be equal."
        )
    classes = int(train_labels.max()) + 1 if classes is None else classes
    if classes < 2:
        raise UsageError(f"{where}: all labels are 0; at least two classes are needed.")
    for split, labels in (("training", train_labels), ("test", test_labels)):
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
        train_images,
        train_labels.astype(np.int32),
        test_images,
        test_labels.astype(np.int32),
        classes,
    )
