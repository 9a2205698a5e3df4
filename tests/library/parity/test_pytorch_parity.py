"""`heavy_ball` follows `torch.optim.SGD` for 200 recorded steps of changing rates."""

import jax.numpy as jnp
import optax
import pytest
from golden.problem import Setting, load
from golden.replay import assert_follows, replay, replay_missing

from optax_momentum import heavy_ball

GOLDEN = load("pytorch")
RATES = GOLDEN.problem["learning_rates"]
SCANNED = [name for name, setting in GOLDEN.settings.items() if not setting.missing]


pytestmark = pytest.mark.usefixtures("float64")


def pytorch_sgd(setting: Setting) -> optax.GradientTransformation:
    """Returns `torch.optim.SGD(**setting.options)`, composed in PyTorch's order."""
    options = dict(setting.options)
    maximize = options.pop("maximize", False)
    weight_decay = options.pop("weight_decay", 0.0)
    beta = options.pop("momentum")
    rates, betas = jnp.asarray(RATES), jnp.asarray(GOLDEN.problem["betas"])
    return optax.chain(
        optax.scale(-1.0 if maximize else 1.0),
        optax.add_decayed_weights(weight_decay),
        heavy_ball((lambda t: betas[t]) if setting.varying_beta else beta, **options),
        optax.scale_by_learning_rate(lambda t: rates[t]),
    )


@pytest.mark.parametrize("name", SCANNED)
def test_heavy_ball_follows_pytorch(name):
    got = replay(pytorch_sgd(GOLDEN.settings[name]), GOLDEN, name)
    assert_follows(got, GOLDEN, name)


def test_heavy_ball_follows_pytorch_where_gradients_are_none():
    name = "missing_gradients"
    assert GOLDEN.settings[name].options == {"momentum": 0.9, "dampening": 0.3}
    optimizer = optax.chain(
        heavy_ball(0.9, dampening=0.3),
        optax.scale_by_learning_rate(lambda step: jnp.asarray(RATES)[step]),
    )
    got = replay_missing(optimizer, GOLDEN, name)
    assert_follows(got, GOLDEN, name)
