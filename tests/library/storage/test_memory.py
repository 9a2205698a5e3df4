"""The memory that a step needs: of the update alone, and with 8-bit buffers."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from experiments.bench.update import compile_step
from optax_momentum import ema, heavy_ball, keras, nesterov, pack, qhm, sgd, storage

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
def test_donated_update_overwrites_params_and_state(optimizer, arrangement):
    params = PARAMS[arrangement]
    memory = compile_step(OPTIMIZERS[optimizer](), params).memory_analysis()
    parameters = 3 * 512 * 1024 * 4
    assert memory.temp_size_in_bytes < 0.05 * parameters
    assert memory.alias_size_in_bytes >= 2 * parameters


def peak_bytes(jaxpr) -> int:
    """Returns the peak size of the intermediate values, run from top to bottom."""
    last = {var: i for i, eqn in enumerate(jaxpr.eqns) for var in map(id, eqn.invars)}
    sizes, peak = {}, 0
    for i, eqn in enumerate(jaxpr.eqns):
        inner = [p.jaxpr for p in jax.tree.leaves(eqn.params) if hasattr(p, "jaxpr")]
        inner_peak = max(map(peak_bytes, inner), default=0)
        sizes |= {id(v): v.aval.size * v.aval.dtype.itemsize for v in eqn.outvars}
        peak = max(peak, sum(sizes.values()) + inner_peak)
        sizes = {var: size for var, size in sizes.items() if last.get(var, -1) > i}
    return peak


def test_leaves_are_decoded_one_at_a_time():
    """Apart from the results, intermediate values peak at the size of one leaf."""
    leaf = 128 * 128 * 4

    def peak(count):
        params = {f"{i:02}": jnp.zeros((128, 128)) for i in range(count)}
        transformation = ema(0.9, storage=storage.int8())
        state = transformation.init(params)
        return peak_bytes(jax.make_jaxpr(transformation.update)(params, state).jaxpr)

    assert peak(1) > 3 * leaf
    assert peak(12) == peak(1)


def test_donated_int8_step_needs_memory_for_codes_and_one_decoded_leaf():
    params = {"kernel": jnp.zeros((512, 512)), "bias": jnp.zeros(512)}
    optimizer = sgd(0.1, 0.9, storage=storage.int8())

    def step(params, state):
        updates, state = optimizer.update(params, state)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    compiled = jitted.lower(params, optimizer.init(params)).compile()
    memory: Any = compiled.memory_analysis()
    size = 512 * 512
    state_bytes = memory.argument_size_in_bytes - 4 * (size + 512)
    # The kernel's codes and scales, the bias, the step and the weight.
    assert state_bytes == 1.0625 * size + 4 * 512 + 2 * 4
    assert memory.alias_size_in_bytes == memory.argument_size_in_bytes
    assert memory.temp_size_in_bytes < 3.5 * 4 * size


def test_jitted_init_computes_no_maximum_of_zeros():
    """XLA would evaluate it at compile time, which takes seconds for a large leaf."""
    init = jax.jit(sgd(0.1, 0.9, storage=storage.int8()).init)
    text = init.lower(jnp.zeros((64, 100))).as_text()
    assert "stablehlo.reduce" not in text


def test_compiled_training_step_decodes_one_leaf_at_a_time():
    """8-bit momentum adds temporaries of a few leaves, not of all 16."""
    leaf, count = jax.ShapeDtypeStruct((256, 256), jnp.float32), 16

    def temporaries(optimizer):
        def loss(params, x):
            for kernel in params:
                x = jnp.tanh(x @ kernel)
            return jnp.sum(x)

        def step(params, state, x):
            updates, state = optimizer.update(jax.grad(loss)(params, x), state)
            return optax.apply_updates(params, updates), state

        params = [leaf] * count
        state = jax.eval_shape(optimizer.init, params)
        x = jax.ShapeDtypeStruct((8, 256), jnp.float32)
        jitted = jax.jit(step, donate_argnums=(0, 1))
        memory: Any = jitted.lower(params, state, x).compile().memory_analysis()
        return memory.temp_size_in_bytes / leaf.size / leaf.dtype.itemsize

    narrow = sgd(0.1, 0.9, storage=storage.int8())
    assert temporaries(narrow) < temporaries(sgd(0.1, 0.9)) + 5
