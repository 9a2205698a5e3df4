"""States of PyTorch and Keras are converted bit for bit, or refused."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from support.named_arrays import ARRAYS, LAYOUT, LIKE, NAMES

from optax_momentum import heavy_ball, keras
from optax_momentum.convert import LINEAR, from_keras, from_torch, to_keras, to_torch


def group(indices, momentum=0.9, dampening=0.0) -> dict[str, Any]:
    return {"params": indices, "momentum": momentum, "dampening": dampening}


def state_dict(arrays=ARRAYS, groups=None) -> dict[str, Any]:
    entries = {i: {"momentum_buffer": array} for i, array in arrays.items()}
    return {"state": entries, "param_groups": groups or [group([0, 1])]}


def from_torch_(state_dict, **changed) -> Any:
    arguments = {"params": LIKE, "names": NAMES, "layout": LAYOUT, **changed}
    return from_torch(state_dict, **arguments)


def test_converted_leaves_keep_dtypes_and_shardings():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    params = {"kernel": jax.device_put(jnp.zeros((4, 3)), sharding)}
    entries = state_dict({0: np.ones((3, 4), np.float32)}, [group([0])])
    layout = {"kernel": LINEAR}
    state: Any = from_torch(entries, params, {0: "kernel"}, layout)
    expected: Any = heavy_ball(0.9).init(params)
    assert state.buffer["kernel"].sharding == sharding
    for got, fresh in zip(*map(jax.tree.leaves, (state, expected)), strict=True):
        assert (got.dtype, got.weak_type) == (fresh.dtype, fresh.weak_type)
        assert got.sharding == fresh.sharding


@pytest.mark.parametrize("dampening", [0.0, 0.4])
def test_from_torch_sets_step_and_weight_of_heavy_ball(dampening):
    transformation: Any = heavy_ball(0.9, dampening=dampening)
    expected = transformation.init(LIKE)
    for _ in range(4):
        _, expected = transformation.update(jax.tree.map(jnp.ones_like, LIKE), expected)
    state = from_torch_(state_dict(groups=[group([0, 1], 0.9, dampening)]), step=4)
    assert (int(state.step), state.step.dtype) == (4, expected.step.dtype)
    np.testing.assert_allclose(state.weight, expected.weight, rtol=1e-6)
    np.testing.assert_array_equal(state.buffer["dense"]["kernel"], ARRAYS[0].T)
    # Not 0, which would repeat the undampened first step.
    assert from_torch_(state_dict()).step == 1


@pytest.mark.parametrize("entry", [{}, {1: {}}, {1: {"momentum_buffer": None}}])
def test_a_parameter_without_gradient_so_far_has_a_zero_buffer(entry):
    given = state_dict({0: ARRAYS[0]})
    given["state"] |= entry
    state = from_torch_(given)
    np.testing.assert_array_equal(state.buffer["dense"]["bias"], np.zeros(3))
    assert state.step == 1
    without_buffers = {"state": entry, "param_groups": given["param_groups"]}
    fresh = from_torch_(without_buffers, step=3)
    jax.tree.map(np.testing.assert_array_equal, fresh, heavy_ball(0.9).init(LIKE))
    assert to_torch(fresh, given, NAMES, LAYOUT)["state"] == {}
    given["param_groups"] = [group([0, 1], 0.9, 0.3)]
    message = "1 (('dense', 'bias')) has no buffer yet and dampening is 0.3: PyTorch "
    with pytest.raises(ValueError, match=re.escape(message)):
        from_torch_(given)


def test_to_torch_replaces_the_named_buffers_and_nothing_else():
    given = state_dict({**ARRAYS, 2: np.ones(4)}, [group([0, 1]), group([2], 0.5)])
    names = {**NAMES, 2: None}
    state = from_torch_(given, names=names)
    moved = state._replace(buffer=jax.tree.map(lambda m: 2 * m, state.buffer))
    back = to_torch(moved, given, names, LAYOUT, as_tensor=lambda array: [array])
    assert back["param_groups"] is given["param_groups"]
    assert back["state"][2] is given["state"][2]
    for i in (0, 1):
        [buffer] = back["state"][i]["momentum_buffer"]
        np.testing.assert_array_equal(buffer, 2 * ARRAYS[i])
        np.testing.assert_array_equal(given["state"][i]["momentum_buffer"], ARRAYS[i])
    with pytest.raises(ValueError, match=re.escape("names has no entry for 2.")):
        to_torch(moved, given, NAMES, LAYOUT)


def test_groups_with_different_betas_are_refused():
    groups = [group([0], 0.9), group([1], 0.5)]
    reason = "from_torch: the groups have momentum 0.9 and 0.5, but a MomentumState has"
    with pytest.raises(ValueError, match=reason):
        from_torch_(state_dict(groups=groups))


def test_states_of_other_optimizers_are_refused():
    adam = {"exp_avg": np.ones(3), "exp_avg_sq": np.ones(3)}
    message = "state_dict['state'][0] holds ['exp_avg', 'exp_avg_sq'] but no "
    with pytest.raises(ValueError, match=re.escape(message)):
        from_torch_({"state": {0: adam}, "param_groups": [group([0, 1])]})
    message = "state_dict must be the result of torch.optim.SGD.state_dict(): "
    for wrong in [{"weight": np.ones(3)}, {"state": {}, "param_groups": [{"lr": 1}]}]:
        with pytest.raises(ValueError, match=re.escape(message)):
            from_torch_(wrong)
    with pytest.raises(ValueError, match="step must be 1 or more, got 0"):
        from_torch_(state_dict(), step=0)


VARIABLES = [np.int64(4), np.float32(0.25), ARRAYS[0].T, ARRAYS[1]]


def test_keras_variables_come_back_bit_for_bit():
    state = from_keras(VARIABLES, LIKE, NAMES, beta=0.9)
    back = to_keras(state, VARIABLES, NAMES)
    for got, expected in zip(back, VARIABLES, strict=True):
        np.testing.assert_array_equal(got, expected, strict=True)


def test_to_keras_replaces_the_iteration_and_the_named_velocities():
    state = from_keras(VARIABLES, LIKE, NAMES, beta=0.9)
    doubled = jax.tree.map(lambda m: 2 * m, state.buffer)
    state = state._replace(step=jnp.asarray(9), buffer=doubled)
    beyond = [*VARIABLES, np.ones(4)]
    values = to_keras(state, beyond, {**NAMES, 2: None})
    expected = [np.int64(9), VARIABLES[1], *(2 * v for v in VARIABLES[2:]), beyond[4]]
    for got, value in zip(values, expected, strict=True):
        np.testing.assert_array_equal(got, value, strict=True)
    with pytest.raises(ValueError, match=re.escape("names has no entry for 2.")):
        to_keras(state, beyond, NAMES)


def test_from_keras_sets_step_and_weight_of_keras():
    transformation: Any = keras(0.25, 0.9)
    expected = transformation.init(LIKE)
    for _ in range(4):
        _, expected = transformation.update(jax.tree.map(jnp.ones_like, LIKE), expected)
    state: Any = from_keras(VARIABLES, LIKE, NAMES, beta=0.9)
    assert (int(state.step), state.step.dtype) == (4, expected.step.dtype)
    np.testing.assert_allclose(state.weight, expected.weight, rtol=1e-6)


@pytest.mark.parametrize(
    "variables", [VARIABLES[::2], VARIABLES[1:], [np.int64(4)], [4.0, *VARIABLES[1:]]]
)
def test_keras_variables_without_iteration_or_rate_are_refused(variables):
    message = "variables must start with the iteration, an integer, and the learning "
    with pytest.raises(ValueError, match=message) as raised:
        from_keras(variables, LIKE, NAMES, beta=0.9)
    assert "Under a schedule, insert `optimizer.learning_rate`." in str(raised.value)
