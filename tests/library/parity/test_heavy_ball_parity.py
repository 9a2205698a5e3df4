"""`heavy_ball` follows 200 recorded steps of PyTorch and of TensorFlow 1."""

import jax.numpy as jnp
import optax
import pytest
from golden.problem import Golden, Setting, load
from golden.replay import assert_follows, replay, replay_missing

from optax_momentum import heavy_ball

GOLDEN = {library: load(library) for library in ("pytorch", "tf1")}
pytestmark = pytest.mark.usefixtures("float64")


def optimizer_of(golden: Golden, setting: Setting) -> optax.GradientTransformation:
    """Returns the recorded optimizer, composed in the order of `torch.optim.SGD`.

    TensorFlow's `tf.compat.v1.train.MomentumOptimizer` has some of its options.
    """
    options = dict(setting.options)
    scale = optax.scale(-1.0 if options.pop("maximize", False) else 1.0)
    decay = optax.add_decayed_weights(options.pop("weight_decay", 0.0))
    nesterov = options.pop("use_nesterov", options.pop("nesterov", False))
    beta = options.pop("momentum")
    rates, betas = map(
        jnp.asarray, (golden.problem[k] for k in ("learning_rates", "betas"))
    )
    beta_at = (lambda step: betas[step]) if setting.varying_beta else beta
    return optax.chain(
        scale,
        optax.identity() if setting.missing else decay,  # which needs every gradient
        heavy_ball(beta_at, nesterov=nesterov, **options),
        optax.scale_by_learning_rate(lambda step: rates[step]),
    )


@pytest.mark.parametrize(
    ("library", "name"),
    [(library, name) for library, golden in GOLDEN.items() for name in golden.settings],
)
def test_heavy_ball_follows_the_recorded_library(library, name):
    golden = GOLDEN[library]
    setting = golden.settings[name]
    follow = replay_missing if setting.missing else replay
    got = follow(optimizer_of(golden, setting), golden, name)
    assert_follows(got, golden, name)


def test_gradients_are_missing_in_a_run_of_each_library_without_decay():
    for golden in GOLDEN.values():
        [setting] = [s for s in golden.settings.values() if s.missing]
        assert setting.options.keys() <= {"momentum", "dampening"}
