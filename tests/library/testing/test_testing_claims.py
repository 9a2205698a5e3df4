"""What follows from a claim: the closed forms agree with the plain loops."""

import numpy as np
import pytest
from support import reference
from support.linear_methods import average_claim, heavy_ball_claim, nesterov_claim

from optax_momentum import Coefficients
from optax_momentum.testing import Claim
from optax_momentum.testing import _claims as claims

BETA = 0.83
GRADIENTS = np.random.default_rng(23).normal(size=(30, 2))
RATES = 0.4 / (1 + np.arange(30))


@pytest.mark.parametrize(
    ("claim", "updates"),
    [
        (heavy_ball_claim(BETA), reference.heavy_ball(GRADIENTS, BETA)[0]),
        (
            Claim((Coefficients(BETA, 0.7),), first_gain=1.0),
            reference.heavy_ball(GRADIENTS, BETA, dampening=0.3)[0],
        ),
        (nesterov_claim(BETA), reference.heavy_ball(GRADIENTS, BETA, nesterov=True)[0]),
        (
            average_claim(BETA)._replace(debiased=True),
            reference.ema(GRADIENTS, BETA, debias=True)[0],
        ),
    ],
)
def test_the_sum_over_all_gradients_is_the_recurrence(claim, updates):
    got = claims.path(claim, lambda _, t: GRADIENTS[t], np.ones(2), RATES)
    want = reference.sgd(np.ones(2), updates, RATES)
    np.testing.assert_allclose(got, want, 1e-12, 1e-13)


@pytest.mark.parametrize("kernel", [(0.9, 1, 1, 0), (0.9, 1, 0.9, 1), (0.7, 0.3, 1, 0)])
def test_the_stability_limit_is_its_closed_form(kernel):
    beta, a, b, c = kernel
    limit = claims.stability_limit(Claim((Coefficients(*kernel),)), 2.5)
    want = 2 * (1 + beta) / (a * b + c * (1 + beta)) / 2.5
    np.testing.assert_allclose(limit, want, 1e-9)
