"""Averages of the parameters: each is what its equation says, in float32 or wider."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.averaged import UPDATES, averages
from support.trajectory import START

from optax_momentum import beta_from_half_life, lawa, parameter_ema, polyak_average

ITERATES = START + np.cumsum(np.float64(UPDATES), axis=0)


def expected_ema(rhos):
    average, want = np.float64(START), []
    for rho, theta in zip(rhos, ITERATES, strict=True):
        average = rho * average + (1 - rho) * theta
        want.append(average)
    return want


def test_ema_computes_its_equation_at_every_step():
    cold = averages(parameter_ema(0.8, warm_up=False))
    np.testing.assert_allclose(cold, expected_ema(np.full(17, 0.8)), 1e-5, 1e-5)
    t = np.arange(1, 18)
    warm = averages(parameter_ema(0.8))
    want = expected_ema(np.minimum(0.8, (t - 1) / t))
    np.testing.assert_allclose(warm, want, 1e-5, 1e-5)
    rhos = 0.9 - 0.03 * np.arange(17)
    scheduled = averages(
        parameter_ema(lambda step: jnp.asarray(rhos, jnp.float32)[step], warm_up=False)
    )
    np.testing.assert_allclose(scheduled, expected_ema(rhos), 1e-5, 1e-5)


def test_ema_that_warms_up_is_the_mean_of_the_first_iterates():
    got = averages(parameter_ema(0.8))
    for t in range(5):
        np.testing.assert_allclose(got[t], ITERATES[: t + 1].mean(axis=0), 1e-5, 1e-5)
    assert np.abs(got[5] - ITERATES[:6].mean(axis=0)).max() > 0.01


@pytest.mark.parametrize("start", [0, 5])
def test_polyak_average_is_the_mean_since_its_start(start):
    got = averages(polyak_average(start))
    for t in range(17):
        since = ITERATES[min(start, t) : t + 1]
        np.testing.assert_allclose(got[t], since.mean(axis=0), 1e-5, 1e-5)


def test_ema_of_rho_one_that_warms_up_is_polyaks_average():
    np.testing.assert_allclose(
        averages(parameter_ema(1.0)), averages(polyak_average()), 1e-6, 1e-6
    )


@pytest.mark.parametrize(("k", "every"), [(1, 1), (4, 1), (3, 2)])
def test_lawa_is_the_mean_of_the_last_kept_iterates(k, every):
    got = averages(lawa(k, every=every))
    for t in range(17):
        kept = ITERATES[every - 1 : t + 1 : every][-k:]
        want = kept.mean(axis=0) if len(kept) else START
        np.testing.assert_allclose(got[t], want, 1e-5, 1e-5)


def test_ema_of_a_larger_batch_spans_the_same_samples():
    # Between two updates of the small batch the parameters stand still.
    rho, large = (beta_from_half_life(600, batch_size=size) for size in (100, 300))
    still = UPDATES[:15] * (np.arange(15) % 3 == 0).reshape(15, 1, 1)
    small = averages(parameter_ema(rho, warm_up=False), updates=still)[2::3]
    got = averages(parameter_ema(large, warm_up=False), updates=still[::3])
    np.testing.assert_allclose(got, small, 1e-5, 1e-5)


def test_float64_parameters_are_averaged_in_float64():
    with jax.enable_x64(True):
        got = averages(parameter_ema(0.8), np.float64(START), np.float64(UPDATES))
        t = np.arange(1, 18)
        want = expected_ema(np.minimum(0.8, (t - 1) / t))
        np.testing.assert_allclose(got, want, 1e-13, 1e-13)


@pytest.mark.parametrize("rho", [0.7, 0.999, 1.0])
def test_an_average_of_what_stands_still_stands_still(rho):
    # ρ·θ̄ + (1 − ρ)·θ instead would move by the rounding of 1 − ρ, step for step.
    got = averages(parameter_ema(rho), updates=np.zeros_like(UPDATES))
    np.testing.assert_array_equal(got, np.broadcast_to(START, got.shape))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            partial(parameter_ema, 1.5),
            "parameter_ema: rho must lie in [0, 1], got 1.5.",
        ),
        (
            partial(parameter_ema, np.nan),
            "parameter_ema: rho must lie in [0, 1], got n",
        ),
        (partial(parameter_ema, warm_up=3), "parameter_ema: warm_up must be True or F"),
        (
            partial(polyak_average, -1),
            "polyak_average: start must be at least 0, got -1",
        ),
        (
            partial(lawa, 0),
            "lawa: k must be an int of at least 1, got 0. It is the num",
        ),
        (partial(lawa, -3), "lawa: k must be an int of at least 1, got -3."),
        (
            partial(lawa, 2, every=1.5),
            "lawa: every must be a whole number of at least 1",
        ),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
