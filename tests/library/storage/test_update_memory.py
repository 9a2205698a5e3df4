"""The compiled update with donation overwrites params and state: no more is needed."""

import jax
import jax.numpy as jnp
import optax
import pytest

from experiments.bench.update import compile_step
from optax_momentum import heavy_ball, keras, nesterov, pack, qhm, sgd

FLOAT32 = [jax.ShapeDtypeStruct((512, 1024), jnp.float32)] * 3
PARAMS = {"tree": FLOAT32, "packed": jax.eval_shape(pack, FLOAT32)}
OPTIMIZERS = {
    "chain": lambda: optax.chain(heavy_ball(0.8), optax.scale_by_learning_rate(0.3)),
    "keras": lambda: keras(0.3, 0.8),
    "keras, nesterov": lambda: keras(0.3, 0.8, nesterov=True),
    "nesterov": lambda: nesterov(0.3, 0.8),
    "sgd": lambda: sgd(0.3, 0.8),
    "sgd, decayed": lambda: sgd(0.3, 0.8, weight_decay=0.01, decay="decoupled"),
    "sgd, nesterov": lambda: sgd(0.3, 0.8, nesterov=True),
    "qhm": lambda: optax.chain(qhm(0.8, 0.7), optax.scale_by_learning_rate(0.3)),
}


@pytest.mark.parametrize("arrangement", PARAMS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_update_overwrites_params_and_state_and_needs_no_more(optimizer, arrangement):
    params = PARAMS[arrangement]
    memory = compile_step(OPTIMIZERS[optimizer](), params).memory_analysis()
    parameters = 3 * 512 * 1024 * 4
    assert memory.temp_size_in_bytes < 0.05 * parameters
    assert memory.alias_size_in_bytes >= 2 * parameters
