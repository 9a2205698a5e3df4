"""Collectives, memory and errors of training with a divided state."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from optax_momentum import ema, reduce_scatter, sgd, sharded, sharding_plan, storage

MESH: Any = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
WHOLE, ROWS = NamedSharding(MESH, P()), NamedSharding(MESH, P("data"))
RANDOM = np.random.default_rng(8)
SHAPES = {"bias": (128,), "first": (128, 255), "second": (255, 128)}
PARAMS: Any = {k: RANDOM.normal(size=s) / 8 for k, s in SHAPES.items()}
PARAMS = jax.device_put(jax.tree.map(jnp.float32, PARAMS), WHOLE)
BATCHES: Any = RANDOM.normal(size=(4, 32, 128))
BATCHES = jax.device_put(jnp.float32(BATCHES), NamedSharding(MESH, P(None, "data")))
INT8 = sgd(0.01, 0.9, weight_decay=0.01, storage=storage.int8())


def loss(params, images):
    hidden = jnp.tanh(images @ params["first"])
    wrong = hidden @ params["second"] + params["bias"][None] - images
    return jnp.sum(wrong**2) / 32  # of the whole batch


def divided(inner) -> Any:
    plan = sharding_plan(inner, PARAMS, MESH, "data")
    return sharded(inner, plan), plan


def in_parts(plan, check_vma=True) -> Any:
    """A function that computes and reduce-scatters gradients in a `shard_map`."""

    specs: Any = {"in_specs": (P(), P("data")), "out_specs": plan.slices}

    @partial(jax.shard_map, mesh=MESH, check_vma=check_vma, **specs)
    def gradients(params, images):
        params = jax.lax.pcast(params, "data", to="varying")
        return reduce_scatter(jax.grad(loss)(params, images), plan)

    return gradients


def training(optimizer, gradients) -> Any:
    """One program that takes all steps and donates its parameters and state."""

    def step(carry, images):
        params, state = carry
        updates, state = optimizer.update(gradients(params, images), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), loss(params, images)

    def train(params, state, batches):
        (params, state), losses = jax.lax.scan(step, (params, state), batches)
        return params, state, losses

    return jax.jit(train, donate_argnums=(0, 1))


def fresh(tree) -> Any:
    return jax.tree.map(jnp.copy, tree)


def exchanges(text) -> list[tuple[str, str]]:
    """The kind and result type of every collective in a compiled program."""
    found = re.findall(
        r"= (\S+) (all-reduce|reduce-scatter|all-gather|all-to-all|collective-permute)"
        r"(?:-start)?\(",
        re.sub(r"\{[\d,]*\}", "", text),
    )
    return sorted((kind, result) for result, kind in found)


@pytest.mark.slow
@pytest.mark.parametrize("check_vma", [True, False])
def test_a_step_only_scatters_gradients_and_gathers_updates(check_vma):
    optimizer, plan = divided(INT8)
    train = training(optimizer, in_parts(plan, check_vma))
    lowered = train.lower(PARAMS, optimizer.init(PARAMS), BATCHES)
    text = lowered.as_text()
    assert text.count("stablehlo.reduce_scatter") == 2
    assert text.count("stablehlo.all_reduce") == 1  # of the bias
    compiled = exchanges(lowered.compile().as_text())
    assert compiled == [
        ("all-gather", "f32[128,255]"),
        ("all-gather", "f32[255,128]"),
        ("all-reduce", "f32[128]"),
        ("all-reduce", "f32[]"),  # the loss
        ("reduce-scatter", "f32[255,64]"),
        ("reduce-scatter", "f32[64,255]"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", [None, storage.bfloat16(), storage.int8()])
def test_training_equals_undivided_training_in_half_the_memory(encoding):
    inner = sgd(0.01, 0.9, weight_decay=0.01, storage=encoding)
    optimizer, plan = divided(inner)
    train = training(optimizer, in_parts(plan))
    train_undivided = training(inner, jax.grad(loss))
    state, whole = optimizer.init(PARAMS), inner.init(PARAMS)
    memory: Any = train.lower(PARAMS, state, BATCHES).compile().memory_analysis()
    params_bytes = sum(x.nbytes for x in PARAMS.values())
    state_bytes = memory.argument_size_in_bytes - params_bytes - BATCHES.nbytes // 2
    assert state_bytes == sum(shard.nbytes_per_device for shard in plan.shards)
    kernels = sum(shard.nbytes for shard in plan.shards if shard.axis is not None)
    assert state_bytes == sum(x.nbytes for x in jax.tree.leaves(whole)) - kernels // 2
    assert memory.alias_size_in_bytes == params_bytes + state_bytes
    params, state, losses = train(fresh(PARAMS), state, BATCHES)
    want, _, want_losses = train_undivided(fresh(PARAMS), whole, BATCHES)
    np.testing.assert_allclose(losses, want_losses, 1e-4)
    assert losses[-1] < losses[0]
    for a, b in zip(*map(jax.tree.leaves, (params, want)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
        assert a.sharding.is_fully_replicated
    for x, sharding in zip(*map(jax.tree.leaves, (state, plan.shardings)), strict=True):
        assert x.sharding.is_equivalent_to(sharding, x.ndim)


@pytest.mark.slow
def test_steps_compile_once_and_keep_parameters_replicated(caplog):
    """Without a `shard_map`, XLA itself inserts the collectives."""
    optimizer, plan = divided(INT8)

    @partial(jax.jit, donate_argnums=(1, 2))
    def step(learning_rate, params, state, images):
        inner = sgd(learning_rate, 0.9, weight_decay=0.01, storage=storage.int8())
        gradients = jax.grad(loss)(params, images)
        updates, state = sharded(inner, plan).update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params, state = fresh(PARAMS), optimizer.init(PARAMS)
    want: Any = PARAMS
    whole = INT8.init(PARAMS)
    update = jax.jit(INT8.update)
    for images in BATCHES:
        rate = jnp.asarray(0.01)
        with jax.log_compiles():
            params, state = step(rate, params, state, jax.device_put(images, ROWS))
        updates, whole = update(jax.grad(loss)(want, images), whole, want)
        want = optax.apply_updates(want, updates)
        assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(params))
        codes = state.buffer["first"].codes
        assert {s.data.shape for s in codes.addressable_shards} == {(64, 255)}
    finished = "Finished XLA compilation of jit(step)"
    assert sum(line.startswith(finished) for line in caplog.messages) == 1
    np.testing.assert_allclose(params["first"], want["first"], atol=2e-4)


@pytest.mark.slow
def test_reduce_scatter_refuses_gradients_that_jax_already_summed():
    _, plan = divided(ema(0.9))

    @partial(jax.shard_map, mesh=MESH, in_specs=(P(), P("data")), out_specs=plan.slices)
    def gradients(params, images):
        return reduce_scatter(jax.grad(loss)(params, images), plan)

    with pytest.raises(ValueError) as raised:
        gradients(PARAMS, BATCHES[0])
    assert str(raised.value) == (
        "reduce_scatter: gradients['bias'] is the same on all devices of 'data': it is "
        "already summed. Take the gradient at "
        "`jax.lax.pcast(params, 'data', to='varying')`."
    )


def test_sharded_refuses_an_update_inside_a_shard_map():
    optimizer, plan = divided(ema(0.9))
    state = optimizer.init(PARAMS)
    inside = jax.shard_map(
        lambda g: optimizer.update(g, state)[0], mesh=MESH, in_specs=P(), out_specs=P()
    )
    with pytest.raises(ValueError) as raised:
        inside(PARAMS)
    assert str(raised.value) == (
        "sharded: update must be called outside the `jax.shard_map` over 'data': "
        "inside, each device knows only its own part. Return the gradients from it "
        "through `reduce_scatter`."
    )
    with pytest.raises(NameError, match="unbound axis name: data"):
        reduce_scatter(PARAMS, plan)


def test_sharded_refuses_a_plan_with_an_abstract_mesh():
    plan = sharding_plan(ema(0.9), PARAMS, AbstractMesh((2,), ("data",)), "data")
    with pytest.raises(ValueError) as raised:
        sharded(ema(0.9), plan)
    assert str(raised.value) == (
        "sharded: the plan's mesh must have devices, got an AbstractMesh, which is for "
        "planning only. Make the plan with a `jax.sharding.Mesh`."
    )


def test_trees_that_the_plan_was_not_made_for_are_refused():
    optimizer, plan = divided(ema(0.9))
    state, other = optimizer.init(PARAMS), {"bias": PARAMS["bias"]}
    scatter = jax.shard_map(
        lambda g: reduce_scatter(g, plan), mesh=MESH, in_specs=P(), out_specs=P()
    )
    foreign = sharded(optax.trace(0.9), plan)
    foreign_state: Any = optax.trace(0.9).init(PARAMS)
    calls = [
        ("sharded: updates", lambda: optimizer.update(other, state)),
        ("sharded: params", lambda: optimizer.update(PARAMS, state, other)),
        ("sharded: params", lambda: optimizer.init(other)),
        ("sharded: the state", lambda: foreign.update(PARAMS, foreign_state)),
        ("sharded: the state", lambda: foreign.init(PARAMS)),
        ("reduce_scatter: gradients", lambda: scatter(other)),
    ]
    for what, call in calls:
        with pytest.raises(ValueError) as raised:
            call()
        assert str(raised.value) == (
            f"{what}: not the tree that the plan was made for. Make the plan from the "
            "optimizer and the params that you train."
        )
