"""Packed parameters: the steps of the tree bit by bit, and a readable state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.methods import METHODS

from optax_momentum import sgd, storage
from optax_momentum._wrappers.pack import Packed, pack, unpack

BETA = 0.8


def tree_of(seed):
    """Leaves of three shapes and two dtypes, one of them of no axes, and a None."""
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "kernel": jax.random.normal(keys[0], (3, 5)),
        "half": jax.random.normal(keys[1], (7,), jnp.bfloat16),
        "none": None,
        "rest": [jax.random.normal(keys[2], ()), jax.random.normal(keys[3], (2, 1, 4))],
    }


def assert_identical(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def trained(transformation, params, gradients) -> tuple[Any, Any]:
    """Params and state after a step along each gradient."""

    @jax.jit
    def step(params, state, gradient):
        updates, state = transformation.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = transformation.init(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params, state


def test_packed_tree_comes_back_as_it_was():
    packed = pack(tree_of(0))
    assert {k: v.shape for k, v in packed.vectors.items()} == {
        "bfloat16": (7,),
        "float32": (24,),
    }
    assert_identical(unpack(packed), tree_of(0))
    number = pack({"number": 0.5})
    assert unpack(number)["number"] == 0.5
    assert not number.vectors["float32"].weak_type
    assert unpack(pack({})) == {}


@pytest.mark.parametrize("method", METHODS)
def test_packed_steps_are_those_of_the_tree(method):
    transformation = optax.chain(METHODS[method].build(BETA), optax.scale(-0.3))
    gradients = [tree_of(seed) for seed in (1, 2, 3)]
    expected = trained(transformation, tree_of(0), gradients)
    packed = trained(transformation, pack(tree_of(0)), map(pack, gradients))
    assert len(jax.tree.leaves(packed[0])) == 2  # one vector a dtype
    assert_identical(unpack(packed), expected)


def test_gradient_of_packed_is_the_packed_gradient():
    def loss(params):
        leaves = jax.tree.leaves(params)
        return sum(jnp.sum(jnp.sin(leaf.astype(jnp.float32))) for leaf in leaves)

    gradient = jax.jit(jax.grad(lambda packed: loss(unpack(packed))))
    compiled = gradient.lower(pack(tree_of(0))).as_text()
    assert compiled.count("stablehlo.concatenate") == 1  # bfloat16 has one leaf
    assert "stablehlo.pad" not in compiled
    assert_identical(
        unpack(gradient(pack(tree_of(0)))), jax.jit(jax.grad(loss))(tree_of(0))
    )


def test_state_saved_as_a_tree_goes_on_where_it_was():
    transformation = sgd(0.3, BETA, storage=storage.bfloat16(seed=3))
    params = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.ones(4)}
    packed = trained(transformation, pack(params), [pack(params)] * 2)
    saved = unpack(packed)
    assert saved[1].buffer["a"].shape == (2, 3)
    assert saved[1].buffer["a"].dtype == jnp.bfloat16
    restored = pack(saved, like=packed)
    assert isinstance(restored[1].buffer, Packed)
    assert_identical(restored, packed)


def test_unpack_of_several_runs_is_mapped_over_them():
    runs = jax.tree.map(
        lambda *vectors: jnp.stack(vectors), pack(tree_of(2)), pack(tree_of(3))
    )
    second = jax.tree.map(lambda leaf: leaf[1], jax.vmap(unpack)(runs))
    assert_identical(second, tree_of(3))


def test_like_of_other_leaves_is_refused():
    like = sgd(0.3, BETA).init(pack({"a": jnp.ones(2)}))
    state = sgd(0.3, BETA).init({"a": jnp.ones(3)})
    message = (
        "pack: like holds PyTreeDef({'a': *}) with shapes ((2,),), but the tree has "
        "PyTreeDef({'a': *}) with shapes ((3,),) there. Pass the result of `unpack`, "
        "and a like made from the same parameters."
    )
    with pytest.raises(ValueError) as refused:
        pack(state, like=like)
    assert str(refused.value) == message


def test_vector_that_is_encoded_is_refused_until_decoded():
    transformation = sgd(0.3, BETA, storage=storage.int8(min_size=8))
    params = pack({"a": jnp.ones((4, 16)), "b": jnp.ones(64)})
    _, state = trained(transformation, params, [params])
    with pytest.raises(ValueError, match=r"a vector of shape \(128,\), got a Blocks"):
        unpack(state.buffer)
    decoded = unpack(storage.values(state.buffer))
    np.testing.assert_array_equal(decoded["a"], jnp.ones((4, 16)))
    stacked = jax.tree.map(lambda vector: jnp.stack([vector, vector]), params)
    with pytest.raises(ValueError, match=r"for several runs at once, `jax.vmap` unpa"):
        unpack(stacked)
