"""The memory of a step, and what a user may not ask of a storage."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from support.storages import BETA, INT8

from optax_momentum import ema, sgd, storage


def most_alive(jaxpr) -> int:
    """The most bytes that intermediate values take, if it runs from top to bottom."""
    last = {var: i for i, eqn in enumerate(jaxpr.eqns) for var in map(id, eqn.invars)}
    sizes, most = {}, 0
    for i, eqn in enumerate(jaxpr.eqns):
        inner = [p.jaxpr for p in jax.tree.leaves(eqn.params) if hasattr(p, "jaxpr")]
        within = max(map(most_alive, inner), default=0)
        sizes |= {id(v): v.aval.size * v.aval.dtype.itemsize for v in eqn.outvars}
        most = max(most, sum(sizes.values()) + within)
        sizes = {var: size for var, size in sizes.items() if last.get(var, -1) > i}
    return most


def test_leaves_are_decoded_one_at_a_time():
    """What is alive at once, beside the results, is what one leaf needs."""
    leaf = 128 * 128 * 4

    def alive(count):
        params = {f"{i:02}": jnp.zeros((128, 128)) for i in range(count)}
        transformation = ema(0.9, storage=storage.int8())
        state = transformation.init(params)
        return most_alive(jax.make_jaxpr(transformation.update)(params, state).jaxpr)

    assert alive(1) > 3 * leaf
    assert alive(12) == alive(1)


def test_memory_is_that_of_the_codes():
    """Of a donating step: what is held is 1.06 bytes, temporaries are of one leaf."""
    params = {"kernel": jnp.zeros((512, 512)), "bias": jnp.zeros(512)}
    optimizer = sgd(0.1, 0.9, storage=storage.int8())

    def step(params, state):
        updates, state = optimizer.update(params, state)
        return optax.apply_updates(params, updates), state

    jitted = jax.jit(step, donate_argnums=(0, 1))
    compiled = jitted.lower(params, optimizer.init(params)).compile()
    memory: Any = compiled.memory_analysis()
    size = 512 * 512
    held = memory.argument_size_in_bytes - 4 * (size + 512)
    assert held == 1.0625 * size + 4 * 512 + 2 * 4  # with the bias, step and weight
    assert memory.alias_size_in_bytes == memory.argument_size_in_bytes
    assert memory.temp_size_in_bytes < 3.5 * 4 * size


def test_jitted_init_searches_no_zeros_for_the_largest():
    """XLA does so when it compiles, one by one: seconds for a large leaf."""
    init = jax.jit(sgd(0.1, 0.9, storage=storage.int8()).init)
    text = init.lower(jnp.zeros((64, 100))).as_text()
    assert "stablehlo.reduce" not in text


def test_training_step_decodes_one_leaf_at_a_time():
    """As compiled: momentum in 8 bits needs a few leaves' room, not all leaves'."""
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

    assert temporaries(sgd(0.1, 0.9, storage=storage.int8())) < (
        temporaries(sgd(0.1, 0.9)) + 5
    )


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: storage.int8(48),
            ValueError,
            "storage.int8: block_size must be a power of two of at least 8, got 48. So "
            "many values share a scale of 4 bytes; take 64 or 128.",
        ),
        (lambda: storage.int8(4), ValueError, "at least 8, got 4"),
        (
            lambda: storage.int8(64.0),  # pyright: ignore[reportArgumentType]
            TypeError,
            "storage.int8: block_size must be an int, got 64.0 of type float. It "
            "counts values: 64, say.",
        ),
        (
            lambda: storage.int8(min_size=0),
            ValueError,
            "storage.int8: min_size must be at least 1, got 0.",
        ),
        (
            lambda: storage.bfloat16("0"),  # pyright: ignore[reportArgumentType]
            TypeError,
            "storage.bfloat16: seed must be an int, got '0' of type str. It seeds the "
            "rounding.",
        ),
        (
            lambda: storage.int8(seed=True),
            TypeError,
            "storage.int8: seed must be an int, got True of type bool.",
        ),
        (
            lambda: ema(0.9, storage="int8"),  # pyright: ignore[reportArgumentType]
            TypeError,
            "storage must be a Storage or None, got 'int8'. Pass what "
            "`storage.float32()`, `storage.bfloat16()` or `storage.int8()` returns.",
        ),
        (
            lambda: sgd(0.1, storage=storage.int8()),
            ValueError,
            "sgd: storage needs a beta, got None, which keeps no buffer. Pass "
            "beta=0.9.",
        ),
    ],
)
def test_bad_storage_is_refused_in_one_line(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("made, given", [(None, INT8), (INT8, None)])
def test_state_of_another_storage_is_refused(made, given):
    params = {"w": jnp.zeros((4, 16))}
    state = ema(BETA, storage=made).init(params)
    names = {None: "float32[4, 16]", INT8: "Blocks(codes='int8[4, 16]', "}
    with pytest.raises(ValueError) as raised:
        ema(BETA, storage=given).update(params, state)
    text = str(raised.value)
    assert text.startswith(f"update: the buffer at updates['w'] is {names[made]}")
    assert f"this storage makes it {names[given]}" in text
    assert text.endswith("or move the state by `change_storage`.")
