"""Ours continues a run of Optax's momentum, and Optax continues ours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_momentum import ema, heavy_ball, sgd
from optax_momentum.convert import from_optax, to_optax

BETA = 0.7
NOISE = np.random.default_rng(4).normal(size=(20, 3))


def rate(step):
    return 0.3 / (1 + jnp.asarray(step, jnp.float32))


OURS = {
    "sgd": (optax.sgd(rate, BETA), sgd(rate, BETA)),
    "nesterov": (
        optax.sgd(rate, BETA, nesterov=True),
        sgd(rate, BETA, nesterov=True),
    ),
    "trace": (optax.trace(BETA), heavy_ball(BETA)),
    "ema": (optax.ema(BETA), ema(BETA, debias=True)),
    "ema without debiasing": (optax.ema(BETA, debias=False), ema(BETA)),
}


def train(optimizer, theta, state, steps) -> tuple[Any, Any]:
    for step in steps:
        gradients = jax.tree.map(lambda x, n=NOISE[step]: 0.4 * x + n, theta)
        updates, state = optimizer.update(gradients, state, theta)
        theta = optax.apply_updates(theta, updates)
    return theta, state


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", OURS)
def test_a_run_goes_on_here_and_back_in_optax(name):
    theirs, ours = OURS[name]
    start = {"a": jnp.asarray([1.0, -2.0, 0.5])}
    with jax.numpy_dtype_promotion("standard"):  # Optax's debiasing needs it
        expected, last = train(theirs, start, theirs.init(start), range(20))
        theta, state = train(theirs, start, theirs.init(start), range(8))
        known = {"step": 8} if name == "trace" else {}
        theta, mine = train(
            ours, theta, from_optax(state, beta=BETA, **known), range(8, 15)
        )
        theta, state = train(
            theirs, theta, to_optax(mine, theirs.init(start)), range(15, 20)
        )
    np.testing.assert_allclose(theta["a"], expected["a"], rtol=1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(last)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_state_is_that_of_our_own_run():
    gradient, theta = jnp.ones(2), jnp.zeros(2)
    optimizer = heavy_ball(BETA)
    ours: Any = optimizer.init(theta)
    theirs = optax.trace(BETA).init(theta)
    for _ in range(5):
        _, ours = optimizer.update(gradient, ours)
        _, theirs = optax.trace(BETA).update(gradient, theirs)
    found: Any = from_optax(theirs, beta=BETA, step=5)
    for a, b in zip(ours, found, strict=True):
        assert a.dtype == b.dtype and a.weak_type == b.weak_type
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_what_is_no_momentum_is_refused():
    theta = jnp.zeros(2)
    with pytest.raises(ValueError, match="has 0 of"):
        from_optax(optax.adam(0.1).init(theta), beta=0.9)
    twice = optax.chain(optax.trace(0.9), optax.trace(0.5)).init(theta)
    with pytest.raises(ValueError, match="has 2 of"):
        from_optax(twice, beta=0.9, step=1)
    with pytest.raises(ValueError, match="nothing in the state counts the steps"):
        from_optax(optax.sgd(0.1, 0.9).init(theta), beta=0.9)
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\), got 1.0"):
        from_optax(optax.trace(0.9).init(theta), beta=1.0, step=1)
    state: Any = heavy_ball(0.9).init({"a": theta})
    with pytest.raises(ValueError, match="Pass the state of the same parameters"):
        to_optax(state, optax.trace(0.9).init(theta))
