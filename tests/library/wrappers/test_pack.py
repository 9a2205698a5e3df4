"""`pack`: the same steps as on the tree, bit for bit, and a readable state."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.methods import METHODS

from optax_momentum import Packed, pack, sgd, storage, unpack
from optax_momentum.testing import expect_same_bits

BETA = 0.8


def tree_of(seed):
    """A tree with leaves of several shapes and two dtypes, a scalar and a None."""
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "kernel": jax.random.normal(keys[0], (3, 5)),
        "half": jax.random.normal(keys[1], (7,), jnp.bfloat16),
        "none": None,
        "rest": [jax.random.normal(keys[2], ()), jax.random.normal(keys[3], (2, 1, 4))],
    }


assert_identical = partial(expect_same_bits, "packed")


def trained(transformation, params, gradients) -> tuple[Any, Any]:
    """Returns the parameters and the state after one step per gradient."""

    @jax.jit
    def step(params, state, gradient):
        updates, state = transformation.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = transformation.init(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params, state


def test_unpack_inverts_pack():
    packed = pack(tree_of(0))
    shapes = {dtype: vector.shape for dtype, vector in packed.vectors.items()}
    assert shapes == {"bfloat16": (7,), "float32": (24,)}
    assert_identical(unpack(packed), tree_of(0))
    number = pack({"number": 0.5})
    assert unpack(number)["number"] == 0.5
    assert not number.vectors["float32"].weak_type
    assert unpack(pack({})) == {}


@pytest.mark.parametrize("method", METHODS)
def test_steps_on_packed_parameters_equal_those_on_the_tree(method):
    transformation = optax.chain(METHODS[method].build(BETA), optax.scale(-0.3))
    gradients = [tree_of(seed) for seed in (1, 2, 3)]
    expected = trained(transformation, tree_of(0), gradients)
    packed = trained(transformation, pack(tree_of(0)), map(pack, gradients))
    assert len(jax.tree.leaves(packed[0])) == 2  # one vector a dtype
    assert_identical(unpack(packed), expected)


def test_gradient_with_respect_to_packed_is_the_packed_gradient():
    def loss(params):
        leaves = jax.tree.leaves(params)
        return sum(jnp.sum(jnp.sin(leaf.astype(jnp.float32))) for leaf in leaves)

    gradient = jax.jit(jax.grad(lambda packed: loss(unpack(packed))))
    compiled = gradient.lower(pack(tree_of(0))).as_text()
    assert compiled.count("stablehlo.concatenate") == 1  # bfloat16 has one leaf
    assert "stablehlo.pad" not in compiled
    want = jax.jit(jax.grad(loss))(tree_of(0))
    assert_identical(unpack(gradient(pack(tree_of(0)))), want)


def test_packing_a_restored_state_with_like_gives_the_saved_state():
    transformation = sgd(0.3, BETA, storage=storage.bfloat16(seed=3))
    params = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.ones(4)}
    packed = trained(transformation, pack(params), [pack(params)] * 2)
    saved = unpack(packed)
    assert saved[1].buffer["a"].shape == (2, 3)
    assert saved[1].buffer["a"].dtype == jnp.bfloat16
    restored = pack(saved, like=packed)
    assert isinstance(restored[1].buffer, Packed)
    assert_identical(restored, packed)


def test_unpack_can_be_vmapped_over_runs():
    runs = jax.tree.map(lambda *v: jnp.stack(v), pack(tree_of(2)), pack(tree_of(3)))
    second = jax.tree.map(lambda leaf: leaf[1], jax.vmap(unpack)(runs))
    assert_identical(second, tree_of(3))


def test_pack_refuses_a_like_of_other_shapes():
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


def test_unpack_refuses_an_encoded_vector_until_it_is_decoded():
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
