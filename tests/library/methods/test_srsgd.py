"""SRSGD, against the equations of its paper."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from support.counting import CountingJit
from support.noisy_quadratic import NOISY, START, train

from optax_momentum import srsgd


@pytest.mark.parametrize("every", [1, 7, 40, lambda t: jnp.where(t < 160, 8, 32)])
def test_srsgd_follows_its_papers_equations(every: Any):
    rates = 0.3 * 0.99 ** np.arange(400)
    constant = isinstance(every, int)
    period: Any = (lambda t: every) if constant else every
    theta = last = START
    want = []
    for t in range(400):
        want.append(theta)
        k = t % int(period(t))
        ahead = theta - rates[t] * NOISY[t](theta)
        theta = ahead + k / (k + 3) * (ahead - last)
        last = ahead

    optimizer = srsgd(lambda t: jnp.asarray(np.array(rates))[t], every)
    got, _ = train(optimizer, NOISY)
    np.testing.assert_allclose(got, want, 1e-11, 1e-12)


def test_steps_under_a_constant_gradient_grow_as_documented():
    optimizer = srsgd(0.5, 9)
    state = optimizer.init(jnp.zeros(()))
    for t in range(30):
        updates, state = optimizer.update(jnp.asarray(2.0), state)
        assert updates == pytest.approx(-0.5 * 2.0 * (1 + (t % 9) / 4), rel=1e-5)


def test_a_traced_period_compiles_once():
    update = CountingJit(lambda period, g, state: srsgd(0.5, period).update(g, state))
    for period in (3, 5):
        updates, state = None, srsgd(0.5, period).init(jnp.zeros(()))
        for _ in range(period + 1):
            updates, state = update(period, jnp.ones(()), state)
        assert updates == -0.5  # A restart takes a plain gradient step.
    assert update.traces == 1


def test_bad_arguments_are_refused():
    for value in (0, 0.5, float("nan"), float("inf")):
        message = f"srsgd: restart_every must lie in [1, inf), got {value}."
        with pytest.raises(ValueError, match=re.escape(message)):
            srsgd(0.1, value)
    with pytest.raises(ValueError, match="learning_rate must lie in"):
        srsgd(-0.1)
