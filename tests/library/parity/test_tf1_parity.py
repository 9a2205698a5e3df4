"""`heavy_ball` is TensorFlow 1's MomentumOptimizer: its rate, too, is outside."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.problem import STEPS, Setting, gradient, load
from golden.replay import assert_follows, replay

from optax_momentum import heavy_ball

GOLDEN = load("tf1")
RATES = GOLDEN.problem["learning_rates"]
SCANNED = [name for name, setting in GOLDEN.settings.items() if not setting.missing]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def tf1_momentum(setting: Setting) -> optax.GradientTransformation:
    """`tf.compat.v1.train.MomentumOptimizer(rate, **setting.options)`."""
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
    optimizer = tf1_momentum(GOLDEN.settings[name])
    assert_follows(replay(optimizer, GOLDEN, name), GOLDEN, name)


def test_heavy_ball_follows_tf1_where_gradients_are_none():
    setting = GOLDEN.settings["missing_gradients"]
    assert 20 < GOLDEN.problem["missing"].sum() < STEPS - 20
    assert setting.options == {"momentum": 0.9}
    update = jax.jit(tf1_momentum(setting).update)
    params = GOLDEN.problem["start"]
    state = tf1_momentum(setting).init(params)
    kept = []
    for step in range(STEPS):
        gradients = gradient(GOLDEN.problem, setting, step, params)
        updates, state = update(gradients, state)
        params = {  # optax.apply_updates refuses None
            leaf: p if updates[leaf] is None else p + updates[leaf]
            for leaf, p in params.items()
        }
        kept.append({"parameters": params, "buffers": optax.tree.get(state, "buffer")})
    got = jax.tree.map(lambda *steps: np.stack(steps), *kept)
    assert_follows(got, GOLDEN, "missing_gradients")
