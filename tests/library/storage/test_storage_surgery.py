"""Surgery on states whose buffer is in a narrow storage, and their conversion."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.storages import (
    BETA,
    INT8,
    PARAMS,
    assert_close,
    decoded,
    every_storage,
    gradient,
    run,
)

from optax_momentum import (
    change_convention,
    change_storage,
    convert,
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    rescale_momentum,
    reset_momentum,
    storage,
    testing,
)
from optax_momentum.convert import LINEAR


@every_storage
@pytest.mark.parametrize("jitted", [False, True])
def test_reset_zeroes_the_chosen_leaf_and_no_other(encoding, jitted):
    transformation = heavy_ball(BETA, storage=encoding)
    _, state = run(transformation, 4)

    def reset(state):
        return reset_momentum(state, lambda path: path[0].key == "w")

    after = (jax.jit(reset) if jitted else reset)(state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert not decoded(after)["w"].any()
    testing.expect_same_bits("b", after.buffer["b"], state.buffer["b"])
    for where in (None, {"w": True, "b": True}):
        buffer = decoded(reset_momentum(state, where))
        assert not any(m.any() for m in jax.tree.leaves(buffer))


def test_reset_removes_nan_and_infinity():
    transformation = heavy_ball(BETA, storage=INT8)
    poisoned = {**gradient(0), "w": gradient(0)["w"].at[1, 2].set(jnp.inf)}
    _, state = transformation.update(poisoned, transformation.init(PARAMS))
    assert jnp.isnan(decoded(state)["w"][1, 2])
    assert jnp.isfinite(decoded(state)["w"]).sum() == 95
    assert not decoded(reset_momentum(state))["w"].any()


@every_storage
@pytest.mark.parametrize("factor", [0.3, -2.0])
def test_rescaling_scales_the_decoded_values(encoding, factor):
    _, state = run(heavy_ball(BETA, storage=encoding), 4)
    after = jax.jit(rescale_momentum)(state, factor)
    want = jax.tree.map(lambda m: factor * m, decoded(state))
    assert_close(decoded(after), want, 2.0**-8)
    np.testing.assert_allclose(after.weight, factor * state.weight, rtol=1e-6)
    one = rescale_momentum(state, factor, {"w": True, "b": False})
    testing.expect_same_bits("b", one.buffer["b"], state.buffer["b"])
    _, again = heavy_ball(BETA, storage=encoding).update(gradient(4), after)
    assert jax.tree.structure(again) == jax.tree.structure(state)


@every_storage
def test_convention_changes_in_a_narrow_storage(encoding):
    _, state = run(ema(BETA, storage=encoding), 6)
    old, new = ema_coefficients(BETA), heavy_ball_coefficients(BETA)
    moved = change_convention(state, old, new)
    want = jax.tree.map(lambda m: m / (1 - BETA), decoded(state))
    assert_close(decoded(moved), want, 2.0**-7)
    converted = convert.momentum_state(
        state, convert.Ema(0.1, BETA), convert.HeavyBall(0.1 * (1 - BETA), BETA)
    )
    assert converted.exact
    assert_close(decoded(converted.value), want, 2.0**-7)


@every_storage
def test_storage_changes_in_the_middle_of_a_run(encoding):
    _, state = run(ema(BETA, debias=True), 6)
    moved = jax.jit(lambda s: change_storage(s, encoding))(state)
    assert_close(decoded(moved), state.buffer, 0.0158)
    transformation = ema(BETA, debias=True, storage=encoding)
    fresh = transformation.init(PARAMS)
    assert jax.tree.structure(moved) == jax.tree.structure(fresh)
    got, _ = run(transformation, state=moved)
    want, _ = run(ema(BETA, debias=True), state=state)
    assert_close(got, want, 0.05)
    back = change_storage(moved, storage.float32())
    testing.expect_same_bits("back", back.buffer, decoded(moved))
    with pytest.raises(TypeError, match="storage must be a Storage, got None"):
        change_storage(moved, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="change_storage: there is no MomentumState"):
        change_storage({"w": jnp.ones(2)}, encoding)


@every_storage
def test_converters_export_the_decoded_buffer(encoding):
    _, state = run(heavy_ball(BETA, storage=encoding), 4)
    group = {"momentum": BETA, "dampening": 0, "params": [0, 1]}
    state_dict = {"state": {}, "param_groups": [group]}
    names, layout = {0: "w", 1: "b"}, {"w": LINEAR}
    theirs = convert.to_torch(state, state_dict, names, layout)
    want = np.asarray(decoded(state)["w"], np.float32)
    np.testing.assert_array_equal(theirs["state"][0]["momentum_buffer"], want.T)
    restored = convert.from_torch(theirs, PARAMS, names, layout, step=4)
    moved = change_storage(restored, encoding)
    testing.expect_same_bits("round trip", moved.buffer, state.buffer)
    _, velocity = run(keras(0.1, BETA, storage=encoding), 4)
    variables = [4, 0.1, np.zeros((6, 16)), np.zeros(8)]
    values = convert.to_keras(velocity, variables, names)
    want = np.asarray(decoded(velocity)["w"], np.float32)
    np.testing.assert_array_equal(values[2], want)


def test_from_arrays_refuses_an_encoded_buffer():
    state: Any = ema(BETA, storage=INT8).init(PARAMS)
    arrays = {0: np.zeros((6, 16)), 1: np.zeros(8)}
    with pytest.raises(ValueError) as raised:
        convert.from_arrays(arrays, state.buffer, {0: "w", 1: "b"}, None)
    assert str(raised.value) == (
        "from_arrays: like must be a tree of arrays, got a buffer in a `storage`. Fill "
        "a tree like the params, then convert the state with `change_storage`."
    )
