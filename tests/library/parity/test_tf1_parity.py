"""`heavy_ball` and then the rate follow TensorFlow 1's MomentumOptimizer."""

import jax.numpy as jnp
import optax
import pytest
from golden.problem import Setting, load
from golden.replay import assert_follows, replay, replay_missing

from optax_momentum import heavy_ball

GOLDEN = load("tf1")
RATES = GOLDEN.problem["learning_rates"]
SCANNED = [name for name, setting in GOLDEN.settings.items() if not setting.missing]


pytestmark = pytest.mark.usefixtures("float64")


def tf1_momentum(setting: Setting) -> optax.GradientTransformation:
    """Returns `tf.compat.v1.train.MomentumOptimizer(rate, **setting.options)`."""
    rates, betas = jnp.asarray(RATES), jnp.asarray(GOLDEN.problem["betas"])
    beta = (lambda step: betas[step]) if setting.varying_beta else None
    return optax.chain(
        heavy_ball(
            setting.options["momentum"] if beta is None else beta,
            nesterov=setting.options.get("use_nesterov", False),
        ),
        optax.scale_by_learning_rate(lambda step: rates[step]),
    )


@pytest.mark.parametrize("name", SCANNED)
def test_heavy_ball_follows_tf1_momentum_optimizer(name):
    got = replay(tf1_momentum(GOLDEN.settings[name]), GOLDEN, name)
    assert_follows(got, GOLDEN, name)


def test_heavy_ball_follows_tf1_where_gradients_are_none():
    name = "missing_gradients"
    assert GOLDEN.settings[name].options == {"momentum": 0.9}
    got = replay_missing(tf1_momentum(GOLDEN.settings[name]), GOLDEN, name)
    assert_follows(got, GOLDEN, name)
