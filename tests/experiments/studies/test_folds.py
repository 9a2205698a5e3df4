"""Folds: every image validates once, every fold has all classes, none overlap."""

import re

import numpy as np
import pytest

from experiments.records.config import UsageError
from experiments.studies.crossval.folds import nested, stratified

LABELS = np.random.default_rng(3).permutation(np.repeat([0, 1, 4], [31, 20, 11]))


@pytest.mark.parametrize("count", [2, 5, 11])
def test_folds_validate_every_image_once_and_train_on_all_others(count):
    folds = stratified("--folds", LABELS, count)
    assert list(folds) == [f"fold {i} of {count}" for i in range(1, count + 1)]
    validated = np.concatenate([fold.validation for fold in folds.values()])
    assert sorted(validated) == list(range(len(LABELS)))
    for fold in folds.values():
        assert sorted(np.concatenate(fold)) == list(range(len(LABELS)))


def test_folds_have_equal_shares_of_every_class_to_within_one_image():
    folds = stratified("--folds", LABELS, 4).values()
    for label, images in ((0, 31), (1, 20), (4, 11)):
        counts = [int((LABELS[fold.validation] == label).sum()) for fold in folds]
        assert set(counts) <= {images // 4, -(-images // 4)}
    assert {len(fold.validation) for fold in folds} == {15, 16}


def test_folds_have_equal_sizes_if_their_count_divides_the_images():
    labels = LABELS[: len(LABELS) // 3 * 3]
    assert len({len(f.train) for f in stratified("--folds", labels, 3).values()}) == 1


def test_folds_depend_on_the_labels_alone():
    first, again = (stratified("--folds", LABELS, 3) for _ in range(2))
    other = stratified("--folds", LABELS[::-1], 3)
    for name in first:
        np.testing.assert_array_equal(first[name].validation, again[name].validation)
    assert any(
        not np.array_equal(first[name].validation, other[name].validation)
        for name in first
    )


def test_inner_folds_contain_no_image_that_their_outer_fold_validates_with():
    outer = stratified("--folds", LABELS, 4)
    inner = nested("--nested", LABELS, outer, 3)
    assert list(inner) == list(outer)
    names = [name for folds in inner.values() for name in folds]
    assert len(set(names)) == 12
    assert names[4] == "fold 2 of 4, inner fold 2 of 3"
    for name, folds in inner.items():
        for fold in folds.values():
            assert sorted(np.concatenate(fold)) == sorted(outer[name].train)
            assert set(LABELS[fold.validation]) == {0, 1, 4}


@pytest.mark.parametrize(
    ("count", "labels", "message"),
    [
        (1, LABELS, "--folds must be at least 2, got 1: each fold validates runs"),
        (-3, LABELS, "--folds must be at least 2, got -3"),
        (63, LABELS, "--folds 63 is more than the 62 training images; choose fewer"),
        (
            12,
            LABELS,
            "--folds 12 needs 12 training images of every class, but class 4 has "
            "11. Choose 11 folds, or add images of it.",
        ),
        (21, LABELS, "class 1 has 20, class 4 has 11. Choose 11 folds, or add"),
        (2, np.array([0, 0, 0, 5]), "but class 5 has 1. Add images of it."),
    ],
)
def test_impossible_folds_are_refused_in_one_line(count, labels, message):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        stratified("--folds", labels, count)
    assert "\n" not in str(caught.value)


def test_impossible_inner_folds_are_refused_with_the_name_of_their_option():
    outer = stratified("--folds", LABELS, 11)  # each trains on 10 images of class 4
    with pytest.raises(
        UsageError, match=r"^--nested 11 needs 11 training images .* 4 has 10"
    ):
        nested("--nested", LABELS, outer, 11)
