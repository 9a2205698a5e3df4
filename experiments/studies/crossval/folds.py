"""Stratified folds of the training images, the same in every run of every plan."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from experiments.records.config import UsageError
from experiments.studies.context import Fold
from experiments.studies.value_lists import check_folds

_SEED = 1797  # fixed, so that nobody can try folds until a result suits them

Labels = Int[np.ndarray, " images"]


def stratified(option: str, labels: Labels, count: int) -> dict[str, Fold]:
    """Divides images into folds: each validates what trains on all others.

    Every fold has the same share of each class, to within one image. The sizes of folds
    differ by at most one image, and no image is left out. Their names are "fold 1 of 5"
    and so on. Error messages name the option that sets the count.

    Raises:
      UsageError: the count is below 2, or above the images of a class.
    """
    from sklearn.model_selection import StratifiedKFold  # slow to import

    _check(option, labels, count)
    splitter = StratifiedKFold(count, shuffle=True, random_state=_SEED)
    parts = splitter.split(np.zeros((len(labels), 1)), labels)
    return {
        f"fold {place} of {count}": Fold(train, validation)
        for place, (train, validation) in enumerate(parts, start=1)
    }


def nested(
    option: str, labels: Labels, outer: Mapping[str, Fold], count: int
) -> dict[str, dict[str, Fold]]:
    """Divides the training images of each outer fold into inner folds.

    They contain no image with which the outer fold validates.

    Returns:
      By the name of the outer fold, its inner folds by their own names.

    Raises:
      UsageError: as `stratified`.
    """
    return {
        name: {
            f"{name}, inner {inner}": Fold(*(fold.train[rows] for rows in split))
            for inner, split in stratified(option, labels[fold.train], count).items()
        }
        for name, fold in outer.items()
    }


def _check(option: str, labels: Labels, count: int) -> None:
    """Raises `UsageError` unless each fold can have an image of each class."""
    check_folds(option, count)
    if count > len(labels):
        raise UsageError(
            f"{option} {count} is more than the {len(labels)} training images; choose "
            "fewer folds."
        )
    # A class without any training image is rightly in no fold.
    classes, counts = np.unique(labels, return_counts=True)
    short = counts < count
    if short.any():
        rare = ", ".join(
            f"class {name} has {images}"
            for name, images in zip(classes[short], counts[short], strict=True)
        )
        fewer = f"Choose {counts.min()} folds, or add" if counts.min() > 1 else "Add"
        raise UsageError(
            f"{option} {count} needs {count} training images of every class, but "
            f"{rare}. {fewer} images of it."
        )
