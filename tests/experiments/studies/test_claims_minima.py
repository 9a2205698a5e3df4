"""Claim 3: which paths end in the basin of the global minimum."""

import numpy as np
import pytest

from experiments.studies.claims import minima
from experiments.studies.claims.minima import EQUAL, LANDSCAPES, SCALED, escapes

WELL = LANDSCAPES["well"]
AT_STEP = SCALED.index(EQUAL)
AT_RATE = int(np.argmin(np.abs(np.array(SCALED) - EQUAL / (1 - minima.BETA))))


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
def test_all_starts_are_in_wrong_basins_and_depend_on_the_seed(key):
    landscape = LANDSCAPES[key]
    starts = minima.wrong_starts(landscape, 60, [4])
    assert starts.shape == (60, 2)
    assert (starts >= landscape.low).all() and (starts <= landscape.high).all()
    no_noise = np.zeros((60, 30, 2), np.float32)
    at_smallest_step = escapes(landscape, 0.0, starts, no_noise)[0]
    assert not at_smallest_step.any()  # small steps stay in the basin of the start
    np.testing.assert_array_equal(starts, minima.wrong_starts(landscape, 60, [4]))
    assert (starts != minima.wrong_starts(landscape, 60, [5])).any()


def test_a_path_from_the_global_basin_ends_there_unless_it_diverges():
    starts = np.array([[-0.7, 0.3], [0.9, 0.3]])
    no_noise = np.zeros((2, 40, 2), np.float32)
    escaped = escapes(WELL, 0.0, starts, no_noise)
    assert escaped.shape == (len(SCALED), 2)
    assert escaped[SCALED.index(EQUAL)].tolist() == [True, False]
    assert not escaped[-1].any()  # the largest settled step diverges


def test_momentum_crosses_the_barrier_only_with_its_larger_step():
    start, no_noise = np.array([[1.5, 0.8]]), np.zeros((1, 200, 2), np.float32)
    momentum = escapes(WELL, 0.9, start, no_noise)[:, 0]
    sgd = escapes(WELL, 0.0, start, no_noise)[:, 0]
    assert not sgd[AT_STEP] and not momentum[AT_STEP] and momentum[AT_RATE]


def test_even_starts_choose_the_best_steps_and_odd_starts_compare_them():
    shape = len(SCALED), 8
    sgd, momentum = np.zeros(shape, bool), np.zeros(shape, bool)
    sgd[AT_STEP, :2] = True
    momentum[AT_STEP, 0] = True
    momentum[AT_RATE, :6] = True
    sgd[2, ::2] = True  # best on the even starts; the odd ones don't confirm it
    momentum[1, [0, 2, 1, 3, 5, 7]] = True  # best on the odd starts only
    gains = minima.compare({"sgd": sgd, "momentum": momentum})
    assert gains["equal_step"].mean == pytest.approx(1 / 8 - 2 / 8)
    assert gains["equal_rate"].mean == pytest.approx(6 / 8 - 2 / 8)
    assert gains["tuned"].mean == pytest.approx(3 / 4 - 0)
    assert (gains["equal_rate"].n, gains["tuned"].n) == (8, 4)


def test_the_noise_has_the_strength_of_its_landscape():
    loud = minima.Landscape(*WELL[:-1], noise=7.0)
    drawn = minima.draw_noise(loud, 30, [1])
    assert drawn.shape == (30, minima.STEPS, 2)
    assert drawn.std() == pytest.approx(7, rel=0.02)
