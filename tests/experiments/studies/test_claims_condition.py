"""Claim 2: steps against the condition number, measured and in theory."""

import jax
import numpy as np
import pytest

from experiments.studies.claims import condition
from experiments.studies.claims.condition import (
    count_steps,
    curvatures,
    slope,
    steps_in_theory,
    tunings,
)
from experiments.studies.claims.trajectory import closed_form

CONDITIONS = np.array([10.0, 40.0, 130.0])
STARTS = np.random.default_rng(8).normal(size=(2, condition.DIMENSIONS))


def by_closed_form(tuning, which, start):
    """The first step within the target, of paths known in closed form."""
    own = curvatures(CONDITIONS)[which]
    settled, beta = tuning.settled[which], tuning.beta[which]
    paths = [closed_form(settled, beta, curvature, 3000) for curvature in own]
    distances = np.linalg.norm(np.stack(paths, axis=1) * start, axis=1)
    return np.argmax(distances <= condition.TARGET * np.linalg.norm(start))


@pytest.mark.parametrize("key", ["sgd", "settled", "rate"])
def test_the_steps_counted_are_those_of_the_closed_form(key):
    tuning = tunings(CONDITIONS)[key]
    counted = count_steps(CONDITIONS, tuning, STARTS)
    assert counted.shape == (3, 2)
    expected = [
        [by_closed_form(tuning, which, start) for start in STARTS] for which in range(3)
    ]
    np.testing.assert_array_equal(counted, expected)


def test_tuned_momentum_needs_the_steps_of_its_double_roots():
    tuning = tunings(CONDITIONS)["tuned"]
    counted = count_steps(CONDITIONS, tuning, STARTS)
    # Parting the double roots, as `closed_form` does, may cost a step.
    expected = [
        [by_closed_form(tuning, which, start) for start in STARTS] for which in range(3)
    ]
    np.testing.assert_allclose(counted, expected, atol=1)


def test_theory_is_kappa_for_sgd_and_its_root_for_momentum():
    wide = 10.0 ** np.array([4, 5, 6])
    for key, expected in (("sgd", 1.0), ("tuned", 0.5), ("settled", 1.0)):
        steps = steps_in_theory(wide, tunings(wide)[key])
        found = slope(wide, steps[:, None]).item()
        assert found == pytest.approx(expected, abs=0.01)
    rates = condition.TARGET ** (1 / steps_in_theory(wide, tunings(wide)["tuned"]))
    np.testing.assert_allclose(rates, (wide**0.5 - 1) / (wide**0.5 + 1), rtol=1e-6)


def test_a_slope_is_recovered_for_every_start():
    conditions = np.logspace(1, 5, 9)
    steps = np.stack([3 * conditions**0.5, 0.2 * conditions**0.93], axis=1)
    np.testing.assert_allclose(slope(conditions, steps), [0.5, 0.93])


def test_what_never_arrives_has_no_number_of_steps(monkeypatch):
    monkeypatch.setattr(condition, "MOST_STEPS", 7)
    jax.clear_caches()  # the limit is read when it is compiled
    assert np.isnan(count_steps(CONDITIONS, tunings(CONDITIONS)["sgd"], STARTS)).all()
    jax.clear_caches()
