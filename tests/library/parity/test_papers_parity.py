"""QHM, AggMo and SRSGD follow their papers' equations for 200 steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.problem import Setting, learning_rates, load
from golden.replay import assert_follows, replay

from optax_momentum import aggmo, qhm, srsgd
from optax_momentum._methods.momentum import momentum_states

GOLDEN = load("papers")
pytestmark = pytest.mark.usefixtures("float64")


def settings_of(method: str) -> list[str]:
    """Returns the names of the recorded settings of a method."""
    return [name for name in GOLDEN.settings if name.split("_")[0] == method]


def rate_of(setting: Setting) -> optax.Schedule:
    rates = jnp.asarray(learning_rates(GOLDEN.problem, setting))
    return lambda step: rates[step]


def with_rate(momentum: Any, name: str) -> optax.GradientTransformation:
    rate = rate_of(GOLDEN.settings[name])
    return optax.chain(momentum, optax.scale_by_learning_rate(rate))


@pytest.mark.parametrize("name", settings_of("qhm"))
def test_qhm_follows_the_equations_of_its_paper(name):
    options: Any = GOLDEN.settings[name].options
    got = replay(with_rate(qhm(**options), name), GOLDEN, name)
    assert_follows(got, GOLDEN, name)


def velocities(state: optax.OptState) -> Any:
    """Returns AggMo's buffers with the paper's sign: leaf -> [K, *shape]."""
    buffers = [momentum.buffer for momentum in momentum_states(state)]
    return jax.tree.map(lambda *leaves: -jnp.stack(leaves), *buffers)


@pytest.mark.parametrize("name", settings_of("aggmo"))
def test_aggmo_follows_the_equations_of_its_paper(name):
    options: Any = GOLDEN.settings[name].options
    got = replay(with_rate(aggmo(**options), name), GOLDEN, name, velocities)
    recorded = GOLDEN.runs[name]["buffers"]
    with_buffer = np.flatnonzero(options["betas"])  # beta = 0 needs no buffer.
    for leaf, expected in recorded.items():
        want = expected[:, with_buffer]
        np.testing.assert_allclose(got["buffers"][leaf], want, 1e-11, 1e-12)
    assert_follows({**got, "buffers": recorded}, GOLDEN, name)


@pytest.mark.parametrize("name", settings_of("srsgd"))
def test_srsgd_follows_the_equations_of_its_paper(name):
    setting = GOLDEN.settings[name]
    options: Any = setting.options
    got = replay(srsgd(rate_of(setting), **options), GOLDEN, name)
    # The paper stores points; this library stores the difference of two points.
    points = GOLDEN.runs[name]["buffers"]
    for leaf, velocity in got["buffers"].items():
        start = GOLDEN.problem["start"][leaf][None]
        before = np.concatenate([start, points[leaf][:-1]])
        np.testing.assert_allclose(velocity, points[leaf] - before, 1e-9, 1e-11)
    assert_follows({**got, "buffers": points}, GOLDEN, name)
