"""Stratified folds of the training images, the same in every run of every plan."""

from collections.abc import Mapping

import numpy as np

from experiments.records.config import UsageError
from experiments.studies.context import Fold

_SEED = 1797  # a constant, and no option sets it: folds can't be tried until they suit


def stratified(option: str, labels: np.ndarray, count: int) -> dict[str, Fold]:
    """Cuts images into folds: each validates once, what the others train on.

    Every class has the same share of each fold, to within one image. The sizes of folds
    differ by at most one image, and no image is left out.

    Args:
      option: that sets the count, for the messages.
      labels: of the images, shape [images].
      count: of the folds.

    Returns:
      The folds by name, which tells their place and their count.

    Raises:
      UsageError: there can't be so many folds, or so few.
    """
    from sklearn.model_selection import StratifiedKFold  # slow to import

    _check(option, labels, count)
    cut = StratifiedKFold(count, shuffle=True, random_state=_SEED)
    parts = cut.split(np.zeros((len(labels), 1)), labels)
    return {
        f"fold {place} of {count}": Fold(train, validation)
        for place, (train, validation) in enumerate(parts, start=1)
    }


def nested(
    option: str, labels: np.ndarray, outer: Mapping[str, Fold], count: int
) -> dict[str, dict[str, Fold]]:
    """Cuts the training part of each outer fold into folds of its own.

    Args:
      option: that sets the count, for the messages.
      labels: of all images, shape [images].
      outer: folds of these images.
      count: of the inner folds.

    Returns:
      The inner folds, by the name of the outer one, then by a name of their own: no
      image that the outer fold validates with is in any of them.

    Raises:
      UsageError: there can't be so many folds, or so few.
    """
    return {
        name: {
            f"{name}, inner {inner}": Fold(*(fold.train[chosen] for chosen in own))
            for inner, own in stratified(option, labels[fold.train], count).items()
        }
        for name, fold in outer.items()
    }


def _check(option: str, labels: np.ndarray, count: int) -> None:
    """Raises `UsageError` unless each fold can have an image of each class."""
    if count < 2:
        raise UsageError(
            f"{option} must be at least 2, got {count}: each fold is validated on by "
            "what the others have trained."
        )
    if count > len(labels):
        raise UsageError(
            f"{option} {count} are more folds than the {len(labels)} images that there "
            "are to train on; choose fewer."
        )
    # A class of the data set without any training image is in no fold, as it should.
    classes, counts = np.unique(labels, return_counts=True)
    short = counts < count
    if short.any():
        rare = ", ".join(
            f"class {name} has {images}"
            for name, images in zip(classes[short], counts[short], strict=True)
        )
        fewer = f"Choose {counts.min()} folds, or add" if counts.min() > 1 else "Add"
        raise UsageError(
            f"{option} {count} need {count} images of every class to train on, but "
            f"{rare}. {fewer} images of it."
        )
