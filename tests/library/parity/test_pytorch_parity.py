"""`heavy_ball` is `torch.optim.SGD`: 200 recorded steps, the learning rate changing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.problem import STEPS, Setting, gradient, load
from golden.replay import assert_follows, replay

from optax_momentum import heavy_ball

GOLDEN = load("pytorch")
RATES = GOLDEN.problem["learning_rates"]
SCANNED = [name for name, setting in GOLDEN.settings.items() if not setting.missing]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def pytorch_sgd(setting: Setting) -> optax.GradientTransformation:
    """`torch.optim.SGD(**setting.options)` in our parts and Optax's, in its order."""
    options = dict(setting.options)
    maximize = options.pop("maximize", False)
    weight_decay = options.pop("weight_decay", 0.0)
    beta = options.pop("momentum")
    rates, betas = jnp.asarray(RATES), jnp.asarray(GOLDEN.problem["betas"])
    return optax.chain(
        optax.scale(-1.0 if maximize else 1.0),
        optax.add_decayed_weights(weight_decay),
        heavy_ball(
            (lambda step: betas[step]) if setting.varying_beta else beta, **options
        ),
        optax.scale_by_learning_rate(lambda step: rates[step]),
    )


@pytest.mark.parametrize("name", SCANNED)
def test_heavy_ball_follows_pytorch(name):
    assert_follows(
        replay(pytorch_sgd(GOLDEN.settings[name]), GOLDEN, name), GOLDEN, name
    )


def test_heavy_ball_follows_pytorch_where_gradients_are_none():
    setting = GOLDEN.settings["missing_gradients"]
    assert 20 < GOLDEN.problem["missing"].sum() < STEPS - 20
    optimizer = heavy_ball(0.9, dampening=0.3)
    assert setting.options == {"momentum": 0.9, "dampening": 0.3}
    update = jax.jit(optimizer.update)
    params = GOLDEN.problem["start"]
    state = optimizer.init(params)
    kept = []
    for step, rate in enumerate(RATES):
        gradients = gradient(GOLDEN.problem, setting, step, params)
        updates, state = update(gradients, state)
        params = {  # optax.apply_updates refuses None
            leaf: p if updates[leaf] is None else p - rate * updates[leaf]
            for leaf, p in params.items()
        }
        kept.append({"parameters": params, "buffers": state.buffer})
    got = jax.tree.map(lambda *steps: np.stack(steps), *kept)
    assert_follows(got, GOLDEN, "missing_gradients")
