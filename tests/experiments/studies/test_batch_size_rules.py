"""The rules of the study of batch sizes: betas, extension, and where it begins."""

import math

import pytest

from experiments.reporting.statistics import Interval
from experiments.studies.batch_size.rules import begins, extended, series

UP, NONE, DOWN = (
    Interval(0.02, 0.01, 0.03, 3),
    Interval(0.02, -0.01, 0.05, 3),
    Interval(-0.02, -0.03, -0.01, 3),
)


def test_held_half_life_is_the_same_number_of_images_at_every_batch_size():
    ways = series(0.85, anchor=32)
    assert ways["held"].beta(32) == 0.85
    assert ways["held"].beta(64) == pytest.approx(0.85**2, abs=1e-6)
    assert ways["held"].beta(8) == pytest.approx(0.85**0.25, abs=1e-6)
    half_life = 32 * math.log(0.5) / math.log(0.85)
    assert ways["held"].title == f"Momentum, half-life {half_life:.0f} images"
    for size in (8, 32, 200):
        steps = half_life / size
        assert ways["held"].beta(size) ** steps == pytest.approx(0.5, abs=1e-4)


def test_momentum_and_sgd_have_one_beta_at_every_batch_size():
    ways = series(0.85, anchor=32)
    assert [ways["momentum"].beta(size) for size in (8, 200)] == [0.85, 0.85]
    assert [ways["sgd"].beta(size) for size in (8, 200)] == [0.0, 0.0]


def test_held_beta_of_a_huge_batch_is_that_of_sgd():
    assert series(0.9, anchor=64)["held"].beta(100_000) == 0.0


@pytest.mark.parametrize(
    ("best", "wider"),
    [
        ([0.2, 0.2], (0.1, 0.2, 0.6)),
        ([0.1, 0.2], (0.05, 0.1, 0.2, 0.6)),
        ([0.2, 0.6], (0.1, 0.2, 0.6, 1.8)),
        ([0.6, 0.1, 0.2], (0.05, 0.1, 0.2, 0.6, 1.8)),
    ],
)
def test_rates_are_extended_beyond_an_end_where_one_arm_is_best(best, wider):
    assert extended((0.1, 0.2, 0.6), best) == wider


def test_extended_rates_keep_four_digits():
    assert extended((0.1, 0.3), [0.1]) == (0.03333, 0.1, 0.3)


@pytest.mark.parametrize(
    ("gains", "start"),
    [
        ([NONE, UP, UP], 64),
        ([UP, UP, UP], 16),
        ([UP, NONE, UP], 256),  # it has to stay
        ([UP, UP, NONE], None),
        ([NONE, NONE, DOWN], None),
        ([DOWN, NONE, UP], 256),
        ([UP, Interval(math.nan, math.nan, math.nan, 3), UP], 256),
        ([UP, UP, Interval(0.5, None, None, 1)], None),
    ],
)
def test_momentum_begins_where_every_larger_batch_s_interval_is_above_zero(
    gains, start
):
    smallest, middle, largest = gains
    assert begins({64: middle, 16: smallest, 256: largest}) == start
