"""Stratified folds of the training data, the same in every run of every plan."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from experiments.records.config import UsageError
from experiments.studies.subject import Fold
from experiments.studies.value_lists import check_folds

_SEED = 1797  # fixed, so that nobody can try folds until a result suits them

Labels = Int[np.ndarray, " examples"]


def stratified(
    option: str, labels: Labels, count: int, noun: str = "image"
) -> dict[str, Fold]:
    """Divides examples into folds: each validates what trains on all others.

    Every fold has the same share of each class, to within one example. The sizes of
    folds differ by at most one, and no example is left out. Their names are "fold 1 of
    5" and so on. Error messages name the option that sets the count, and an example.

    Raises:
      UsageError: the count is below 2, or above the examples of a class.
    """
    from sklearn.model_selection import StratifiedKFold  # slow to import

    _check(option, labels, count, noun)
    splitter = StratifiedKFold(count, shuffle=True, random_state=_SEED)
    parts = splitter.split(np.zeros((len(labels), 1)), labels)
    return {
        f"fold {place} of {count}": Fold(train, validation)
        for place, (train, validation) in enumerate(parts, start=1)
    }


def nested(
    option: str,
    labels: Labels,
    outer: Mapping[str, Fold],
    count: int,
    noun: str = "image",
) -> dict[str, dict[str, Fold]]:
    """Divides the training examples of each outer fold into inner folds.

    They contain no example with which the outer fold validates.

    Returns:
      By the name of the outer fold, its inner folds by their own names.

    Raises:
      UsageError: as `stratified`.
    """
    return {
        name: {
            f"{name}, inner {inner}": Fold(*(fold.train[rows] for rows in split))
            for inner, split in stratified(
                option, labels[fold.train], count, noun
            ).items()
        }
        for name, fold in outer.items()
    }


def _check(option: str, labels: Labels, count: int, noun: str) -> None:
    """Raises `UsageError` unless each fold can have an example of each class."""
    check_folds(option, count)
    if count > len(labels):
        raise UsageError(
            f"{option} {count} is more than the {len(labels)} training {noun}s; choose "
            "fewer folds."
        )
    # A class without any training example is rightly in no fold.
    classes, counts = np.unique(labels, return_counts=True)
    short = counts < count
    if short.any():
        rare = ", ".join(
            f"class {name} has {has}"
            for name, has in zip(classes[short], counts[short], strict=True)
        )
        fewer = f"Choose {counts.min()} folds, or add" if counts.min() > 1 else "Add"
        raise UsageError(
            f"{option} {count} needs {count} training {noun}s of every class, but "
            f"{rare}. {fewer} {noun}s of it."
        )
