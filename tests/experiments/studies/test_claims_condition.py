"""Claim 2: steps against the condition number, measured and in theory."""

import jax
import numpy as np
import pytest

from experiments.reporting.drawing import BLUE, GREEN
from experiments.studies.claims import condition, trajectory_network
from experiments.studies.claims.condition import count_steps, slope, tunings
from experiments.studies.claims.trajectory import closed_form

CONDITIONS = np.array([10.0, 40.0, 130.0])
STARTS = np.random.default_rng(8).normal(size=(2, condition.DIMENSIONS))


def steps_by_closed_form(settled_step, beta, curvatures, start):
    """The first step within the target, on paths known in closed form."""
    paths = [closed_form(settled_step, beta, each, 3000) for each in curvatures]
    distances = np.linalg.norm(np.stack(paths, axis=1) * start, axis=1)
    return np.argmax(distances <= condition.TARGET * np.linalg.norm(start))


# `closed_form` moves the double roots of tuned momentum apart, which may cost a step.
@pytest.mark.parametrize(
    ("key", "tolerance"), [("sgd", 0), ("settled", 0), ("rate", 0), ("tuned", 1)]
)
def test_counted_steps_are_those_of_the_closed_form(key, tolerance):
    tuning = tunings(CONDITIONS)[key]
    counted = count_steps(CONDITIONS, tuning, STARTS)
    assert counted.shape == (3, 2)
    columns = tuning.settled_step, tuning.beta, condition.curvatures(CONDITIONS)
    expected = [
        [steps_by_closed_form(*row, start) for start in STARTS]
        for row in zip(*columns, strict=True)
    ]
    np.testing.assert_allclose(counted, expected, rtol=0, atol=tolerance)


def test_steps_grow_in_theory_as_kappa_for_sgd_and_as_its_root_for_momentum():
    wide = 10.0 ** np.array([4, 5, 6])
    for key, expected in (("sgd", 1.0), ("tuned", 0.5), ("settled", 1.0)):
        steps = condition.steps_in_theory(wide, tunings(wide)[key])
        assert slope(wide, steps[:, None]).item() == pytest.approx(expected, abs=0.01)
    steps = condition.steps_in_theory(wide, tunings(wide)["tuned"])
    rates = condition.TARGET ** (1 / steps)
    np.testing.assert_allclose(rates, (wide**0.5 - 1) / (wide**0.5 + 1), rtol=1e-6)


def test_sgd_is_blue_and_momentum_green_throughout():
    strokes = {key: stroke for key, (stroke, _) in condition._LOOKS.items()}
    for looks in (strokes, trajectory_network._LOOKS):
        for key, stroke in looks.items():
            assert stroke.color == (BLUE if key.startswith("sgd") else GREEN)
        assert len(set(looks.values())) == len(looks)  # their dashes differ


def test_the_slope_is_recovered_for_every_start():
    conditions = np.logspace(1, 5, 9)
    steps = np.stack([3 * conditions**0.5, 0.2 * conditions**0.93], axis=1)
    np.testing.assert_allclose(slope(conditions, steps), [0.5, 0.93])


def test_a_path_that_never_arrives_has_no_number_of_steps(monkeypatch):
    monkeypatch.setattr(condition, "MOST_STEPS", 7)
    jax.clear_caches()  # a compiled function contains the limit
    assert np.isnan(count_steps(CONDITIONS, tunings(CONDITIONS)["sgd"], STARTS)).all()
    jax.clear_caches()
