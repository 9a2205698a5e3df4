"""Claim 3: which starts end in the basin of the global minimum."""

import numpy as np
import pytest

from experiments.studies.claims import minima
from experiments.studies.claims.minima import (
    EQUAL,
    LANDSCAPES,
    SCALED,
    Landscape,
    compared,
    escaped,
    wrong_starts,
)

WELL = LANDSCAPES["well"]


@pytest.mark.parametrize("key", list(LANDSCAPES))
def test_the_minimum_of_a_landscape_is_its_lowest_point(key):
    landscape = LANDSCAPES[key]
    x, y = np.meshgrid(np.linspace(-3.5, 3.5, 1401), np.linspace(-3.5, 3.5, 1401))
    values = np.asarray(landscape.value(x.astype(np.float32), y.astype(np.float32)))
    at = np.unravel_index(values.argmin(), values.shape)
    lowest = x[at], y[at]
    np.testing.assert_allclose(lowest, landscape.minimum, atol=0.006)
    eps = 1e-2
    a, b = landscape.minimum
    values = landscape.value(a + eps * np.array([-1, 0, 1]), b + np.zeros(3))
    along_x = np.diff(np.asarray(values, float), 2).item() / eps**2
    assert along_x == pytest.approx(landscape.curvature, rel=0.02)


@pytest.mark.parametrize("key", list(LANDSCAPES))
def test_all_starts_are_in_wrong_basins_and_are_the_seeds_own(key):
    landscape = LANDSCAPES[key]
    starts = wrong_starts(landscape, 60, [4])
    assert starts.shape == (60, 2)
    assert (starts >= landscape.low).all() and (starts <= landscape.high).all()
    # Small steps stay in the basin that they start in.
    still = np.zeros((60, 30, 2), np.float32)
    smallest = escaped(landscape, 0.0, starts, still)[0]
    assert not smallest.any()
    np.testing.assert_array_equal(starts, wrong_starts(landscape, 60, [4]))
    assert (starts != wrong_starts(landscape, 60, [5])).any()


def test_a_start_in_the_right_basin_ends_there_and_one_that_diverges_does_not():
    starts = np.array([[-0.7, 0.3], [0.9, 0.3]])
    still = np.zeros((2, 40, 2), np.float32)
    ended = escaped(WELL, 0.0, starts, still)
    assert ended.shape == (len(SCALED), 2)
    at = SCALED.index(EQUAL)
    assert ended[at].tolist() == [True, False]
    assert not ended[-1].any()  # steps of 8 over the curvature are too large to stay


def test_momentum_rolls_over_a_barrier_where_its_larger_step_carries_it():
    start, still = np.array([[1.5, 0.8]]), np.zeros((1, 200, 2), np.float32)
    momentum = escaped(WELL, 0.9, start, still)[:, 0]
    sgd = escaped(WELL, 0.0, start, still)[:, 0]
    at_step, at_rate = SCALED.index(EQUAL), int(np.argmin(np.abs(np.array(SCALED) - 4)))
    assert not sgd[at_step] and not momentum[at_step] and momentum[at_rate]


def test_arms_are_compared_at_their_own_steps_and_judged_on_other_starts():
    shape = len(SCALED), 8
    sgd, momentum = np.zeros(shape, bool), np.zeros(shape, bool)
    at_step, at_rate = SCALED.index(EQUAL), int(np.argmin(np.abs(np.array(SCALED) - 4)))
    sgd[at_step, :2] = True
    momentum[at_step, 0] = True
    momentum[at_rate, :6] = True
    sgd[2, ::2] = True  # the best by even starts, which odd ones don't confirm
    momentum[1, [0, 2, 1, 3, 5, 7]] = True  # the best by odd ones, which don't choose
    found = compared({"sgd": sgd, "momentum": momentum})
    assert found["equal_step"].mean == pytest.approx(1 / 8 - 2 / 8)
    assert found["equal_rate"].mean == pytest.approx(6 / 8 - 2 / 8)
    assert found["tuned"].mean == pytest.approx(3 / 4 - 0)
    assert (found["equal_rate"].n, found["tuned"].n) == (8, 4)


def test_noise_is_of_the_landscapes_strength():
    loud = Landscape(*WELL[:-1], noise=7.0)
    drawn = minima.noise_of(loud, 30, [1])
    assert drawn.shape == (30, minima.STEPS, 2)
    assert drawn.std() == pytest.approx(7, rel=0.02)
