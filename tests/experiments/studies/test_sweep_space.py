"""The space of a sweep: its axes, edges and extensions, and the points in it."""

import math

import numpy as np
import pytest
from support.usage_errors import usage_error

from experiments.studies.sweep import space
from experiments.studies.sweep.space import Axis, Side, Space, Trial, extension

SPACE = Space(Axis(0.02, 2.0), Axis(0.004, 0.5))
LOW_RATE, HIGH_RATE = (Side("effective_rate", high) for high in (False, True))
LOW_OTHER, HIGH_OTHER = (Side("one_minus_beta", high) for high in (False, True))


def trial(rate: float, other: float = 0.05) -> Trial:
    return Trial("momentum", rate, other, 64)


def test_axis_is_logarithmic_and_its_values_have_four_digits():
    axis = Axis(0.003, 0.3)
    assert axis.at(0.25) / axis.at(0.0) == pytest.approx(100**0.25, rel=1e-3)
    assert axis.share(0.003 * 100**0.7) == pytest.approx(0.7)
    assert axis.at(1 / 3) == 0.01392  # what a table shows is what was trained


def test_beta_has_no_rounding_error_of_the_subtraction():
    assert 1 - 0.07 != 0.93 and trial(0.1, 0.07).beta == 0.93


@pytest.mark.parametrize(
    ("rate", "other", "expected"),
    [
        (0.2, 0.05, []),
        (0.02 * 100**0.124, 0.05, [LOW_RATE]),
        (0.02 * 100**0.13, 0.05, []),
        (0.02 * 100**0.876, 0.05, [HIGH_RATE]),
        (0.2, 0.004 * 125**0.05, [LOW_OTHER]),
        (1.9, 0.49, [HIGH_RATE, HIGH_OTHER]),
    ],
)
def test_edge_is_the_outermost_eighth_of_an_axis(rate, other, expected):
    assert space.edges(SPACE, trial(rate, other)) == expected


def test_sgd_is_never_at_an_edge_of_beta():
    assert space.edges(SPACE, Trial("sgd", 0.2, 1.0, 64)) == []
    assert space.edges(SPACE, Trial("sgd", 1.9, 1.0, 64)) == [HIGH_RATE]


def test_extension_is_a_strip_of_decade_the_declared_axis():
    strip, whole = extension(SPACE, SPACE, HIGH_RATE)
    assert strip == Space(Axis(2.0, 20.0), SPACE.one_minus_beta)
    assert whole == Space(Axis(0.02, 20.0), SPACE.one_minus_beta)
    strip, whole = extension(SPACE, whole, LOW_RATE)
    assert strip.effective_rate == (
        0.002,
        0.02,
    )  # a decade again, not a decade and decade
    assert whole.effective_rate == (0.002, 20.0)


def test_one_minus_beta_never_grows_beyond_sgd():
    strip, whole = extension(SPACE, SPACE, HIGH_OTHER)
    assert strip.one_minus_beta == (0.5, 1.0)
    assert not space.can_extend(whole, HIGH_OTHER)
    assert space.can_extend(whole, LOW_OTHER)
    narrow = SPACE._replace(one_minus_beta=Axis(2e-4, 0.5))
    strip, whole = extension(narrow, narrow, LOW_OTHER)
    assert strip.one_minus_beta == (1e-4, 2e-4)
    assert not space.can_extend(whole, LOW_OTHER)


@pytest.mark.parametrize("sampler", space.SAMPLERS.values())
def test_points_differ_and_lie_inside_the_box(sampler):
    plane, line = sampler(24, SPACE, SPACE, 0)
    assert len(plane) == len(line) == len(set(plane)) == len(set(line)) == 24
    rates, others = np.array(plane).T
    assert (rates > 0.02).all() and (rates < 2).all()
    assert (others > 0.004).all() and (others < 0.5).all()
    assert min(line) > 0.02 and max(line) < 2


@pytest.mark.parametrize("sampler", space.SAMPLERS.values())
def test_points_are_evenly_spread_on_logarithmic_axes(sampler):
    plane, line = sampler(64, SPACE, SPACE, 0)
    for axis, values in zip(SPACE, np.array(plane).T, strict=True):
        quarters = [math.floor(4 * axis.share(value)) for value in values]
        assert np.bincount(quarters).tolist() == [16, 16, 16, 16]
    eighths = [math.floor(8 * SPACE.effective_rate.share(rate)) for rate in line]
    assert np.bincount(eighths).tolist() == [8] * 8


def test_sobol_rates_of_sgd_are_those_of_momentum():
    plane, line = space.sobol(24, SPACE, SPACE, 0)
    assert line == [rate for rate, _ in plane]


@pytest.mark.parametrize("sampler", space.SAMPLERS.values())
@pytest.mark.parametrize("side", [HIGH_RATE, LOW_OTHER])
def test_extension_is_as_dense_as_the_space_and_repeats_no_point(sampler, side):
    first = sampler(24, SPACE, SPACE, 0)
    strip, _ = extension(SPACE, SPACE, side)
    following = sampler(24, SPACE, strip, 24)
    assert len(following.plane) == len(following.line) == 12
    assert not set(first.plane) & set(following.plane)
    assert not set(first.line) & set(following.line)
    axis = getattr(strip, side.axis)
    column = np.array(following.plane)[:, Space._fields.index(side.axis)]
    assert (column > axis.low).all() and (column < axis.high).all()


def test_extended_grid_stays_evenly_spaced():
    strip, whole = extension(SPACE, SPACE, HIGH_RATE)
    planned = space.grid(24, SPACE, SPACE, 0), space.grid(24, SPACE, strip, 24)
    plane = planned[0].plane + planned[1].plane
    rates = sorted({rate for rate, _ in plane})
    assert len(rates) == 9 and len(plane) == 36
    np.testing.assert_allclose(np.diff(np.log10(rates)), 1 / 3, rtol=1e-3)
    assert rates[0] / whole.effective_rate.low == pytest.approx(10 ** (1 / 6), rel=1e-3)


def test_extensions_along_beta_give_sgd_new_rates():
    decade = SPACE._replace(one_minus_beta=Axis(0.05, 0.5))
    strip, whole = extension(decade, decade, LOW_OTHER)
    again, _ = extension(decade, whole, LOW_OTHER)
    lines = [
        rate
        for box, before in ((decade, 0), (strip, 24), (again, 36))
        for rate in space.grid(24, decade, box, before).line
    ]
    assert len(set(lines)) == len(lines) == 48


@pytest.mark.parametrize(
    ("trials", "expected"), [(16, (4, 4)), (24, (6, 4)), (32, (8, 4)), (36, (6, 6))]
)
def test_sides_of_a_grid_are_even_and_nearly_equal(trials, expected):
    assert space.sides(trials) == expected


@pytest.mark.parametrize(("trials", "nearest"), [(1, 16), (12, 16), (25, 32), (23, 24)])
def test_trials_that_fill_no_grid_are_refused_with_a_number_that_does(trials, nearest):
    refused = usage_error("--trials ", space.sides, trials)
    assert refused == (
        f"{trials} do not fill a grid, whose sides must be even and at least 4: give "
        f"--trials {nearest}, or --sampler sobol."
    )
