"""All public functions work on states and parameters as `nnx.Optimizer` holds them.

It initializes from parameters inside `nnx.Variable`s, updates without them, and holds a
state whose every array is inside one.
"""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from optax_momentum import (
    adaptive_restart,
    aggmo,
    averaged_params,
    change_convention,
    change_storage,
    convert,
    ema,
    ema_coefficients,
    guard,
    heavy_ball_coefficients,
    lawa,
    lookahead_params,
    nesterov,
    outer_loop,
    parameter_ema,
    polyak_average,
    rescale_momentum,
    reset_momentum,
    sgd,
    sharded,
    sharding_plan,
    storage,
    testing,
    two_point_nesterov,
)
from optax_momentum.diagnostics import telemetry

INT8 = storage.int8(8, seed=3, min_size=1)
X = np.random.default_rng(3).normal(size=(5, 16)).astype(np.float32)
KERNELS = {"kernel": True, "bias": False}
NAMES = {"w": "kernel", "b": "bias"}


def mask(params) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)


def new_model(**options) -> Any:
    return nnx.Linear(16, 8, rngs=nnx.Rngs(0), **options)


def params_of(model) -> Any:
    return nnx.state(model, nnx.Param)


def held(transformation, **options) -> tuple[Any, Any]:
    model = new_model(**options)
    return model, nnx.Optimizer(model, transformation, wrt=nnx.Param)


pure = nnx.as_pure


def loss(model):
    return (model(X) ** 2).mean()


@nnx.jit
def step(model, optimizer):
    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients, value=value)
    return gradients, value


def sharded_sgd():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    inner = sgd(0.1, 0.8, storage=INT8)
    plan = sharding_plan(inner, params_of(new_model()), mesh, "data", min_size=1)
    return sharded(inner, plan)


TRANSFORMATIONS = {
    "guard, telemetry": lambda: guard(telemetry(sgd(0.1, 0.8, storage=INT8))),
    "aggmo, parameter_ema": lambda: optax.chain(
        aggmo([0.5, 0.8], storage=INT8), optax.scale(-0.1), parameter_ema(0.7)
    ),
    "restart, lawa": lambda: optax.chain(
        adaptive_restart(nesterov(0.1, 0.8, storage=INT8), "value"), lawa(2)
    ),
    "outer_loop, polyak_average": lambda: optax.chain(
        outer_loop(sgd(0.1, 0.8, storage=INT8), sgd(0.7), 2, reset_inner=True),
        polyak_average(),
    ),
    "masked": lambda: optax.masked(
        two_point_nesterov(0.1, 0.8, storage=storage.bfloat16()), mask
    ),
    "sharded": sharded_sgd,
    "without momentum": lambda: sgd(0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_jitted_updates_are_those_of_a_plain_tree_also_after_a_restore(name):
    transformation = TRANSFORMATIONS[name]()
    model, optimizer = held(transformation)
    params = pure(params_of(model))
    state = transformation.init(params)
    update = jax.jit(transformation.update)
    for number in range(3):
        if number == 2:
            saved = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(optimizer)))
            weights = params_of(model)
            model, optimizer = held(transformation)
            nnx.update(model, weights)
            fresh = nnx.state(optimizer)
            nnx.replace_by_pure_dict(fresh, saved)
            nnx.update(optimizer, fresh)
        gradients, value = step(model, optimizer)
        updates, state = update(pure(gradients), state, params, value=value)
        params = optax.apply_updates(params, updates)
    got = pure((params_of(model), optimizer.opt_state))
    assert jax.tree.structure(got) == jax.tree.structure((params, state))
    for a, b in zip(*map(jax.tree.leaves, (got, (params, state))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


SURGERY = {
    "reset": lambda state: reset_momentum(state),
    "reset by path": lambda state: reset_momentum(state, lambda p: p[0].key == "bias"),
    "rescale": lambda state: rescale_momentum(state, 0.3),
    "rescale by tree": lambda state: rescale_momentum(state, 0.3, KERNELS),
    "change_convention": lambda state: change_convention(
        state, heavy_ball_coefficients(0.8), ema_coefficients(0.8)
    ),
    "momentum_state": lambda state: (
        convert.momentum_state(
            state, convert.HeavyBall(0.1, 0.8), convert.Ema(0.5, 0.8)
        ).value
    ),
}


@pytest.mark.parametrize("encoding", [None, INT8], ids=["None", "int8"])
def test_surgery_keeps_the_variables(encoding):
    model, optimizer = held(sgd(0.1, 0.8, storage=encoding))
    step(model, optimizer)
    for name, operate in SURGERY.items():
        before = optimizer.opt_state
        optimizer.opt_state = operate(before)
        tree = jax.tree.structure(optimizer.opt_state)
        assert tree == jax.tree.structure(before), name
        testing.expect_same_bits(name, pure(optimizer.opt_state), operate(pure(before)))
        step(model, optimizer)  # Flax refuses a state outside its Variables.


def test_where_in_variables_selects_like_a_dict():
    model, optimizer = held(ema(0.8))
    step(model, optimizer)
    state = pure(optimizer.opt_state)
    want = reset_momentum(state, KERNELS)
    for where in (mask(params_of(model)), mask(nnx.as_pure(params_of(model)))):
        got = pure(reset_momentum(optimizer.opt_state, where))
        testing.expect_same_bits("reset", got, want)


@pytest.mark.slow
def test_storage_changes_to_int8_and_back():
    model, optimizer = held(sgd(0.1, 0.8))
    for encoding in (INT8, storage.float32()):
        step(model, optimizer)
        state = pure(optimizer.opt_state)
        optimizer.opt_state = change_storage(optimizer.opt_state, encoding)
        want = change_storage(state, encoding)
        testing.expect_same_bits("changed", pure(optimizer.opt_state), want)
        decoded = storage.values(optimizer.opt_state.buffer)
        testing.expect_same_bits("decoded", pure(decoded), storage.values(want.buffer))
        optimizer.tx = sgd(0.1, 0.8, storage=encoding)
    step(model, optimizer)


@pytest.mark.parametrize("average", [parameter_ema(0.7), lawa(2)])
def test_averages_are_returned_like_the_parameters(average):
    model, optimizer = held(optax.chain(sgd(0.1, 0.8), average))
    step(model, optimizer)
    params = params_of(model)
    averages = averaged_params(optimizer.opt_state, params)
    assert jax.tree.structure(averages) == jax.tree.structure(params)
    want = averaged_params(pure(optimizer.opt_state))
    testing.expect_same_bits("averages", pure(averages), want)
    testing.expect_same_bits("alone", pure(averaged_params(optimizer.opt_state)), want)
    nnx.update(model, averages)
    step(model, optimizer)


def test_the_look_ahead_point_is_returned_like_the_parameters():
    model, optimizer = held(two_point_nesterov(0.1, 0.8, storage=INT8))
    step(model, optimizer)
    params = params_of(model)
    ahead = lookahead_params(params, optimizer.opt_state, 0.8)
    assert jax.tree.structure(ahead) == jax.tree.structure(params)
    want = lookahead_params(pure(params), pure(optimizer.opt_state), 0.8)
    testing.expect_same_bits("ahead", pure(ahead), want)


def test_states_and_weights_convert_by_the_paths_of_the_plain_tree():
    model, optimizer = held(sgd(0.1, 0.8))
    step(model, optimizer)
    params = params_of(model)
    layout = {"kernel": convert.LINEAR}
    weights = convert.to_arrays(params, NAMES, layout)
    np.testing.assert_array_equal(weights["w"], np.transpose(model.kernel[...]))
    again = convert.from_arrays(weights, params, NAMES, layout)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    testing.expect_same_bits("weights", pure(again), pure(params))
    group = {"momentum": 0.8, "dampening": 0, "params": ["w", "b"]}
    torch = {"state": {}, "param_groups": [group]}
    torch = convert.to_torch(optimizer.opt_state, torch, NAMES, layout)
    state = convert.from_torch(torch, params, NAMES, layout)
    testing.expect_same_bits("PyTorch", pure(state), pure(optimizer.opt_state))
    variables = [0, 0.1, weights["b"], weights["w"].T]
    names = {0: "bias", 1: "kernel"}
    variables = convert.to_keras(optimizer.opt_state, variables, names)
    buffer = convert.from_keras(variables, params, names, beta=0.8).buffer
    assert variables[0] == 1
    testing.expect_same_bits("Keras", pure(buffer), pure(optimizer.opt_state.buffer))


@pytest.mark.slow
def test_variables_may_stay_in_the_trees_of_an_update():
    """As where `nnx.split` gives the parameters to `init` and `update` directly."""
    model = new_model()
    params, gradients = params_of(model), nnx.grad(loss)(model)
    wrapped = outer_loop(sgd(0.1, 0.8, storage=INT8), sgd(0.7), 2, reset_inner=True)
    optimizer = guard(telemetry(wrapped))
    state = optimizer.init(params)
    updates, after = jax.jit(optimizer.update)(gradients, state, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    plain = [pure(tree) for tree in (gradients, state, params)]
    want = jax.jit(optimizer.update)(*plain)
    testing.expect_same_bits("step", (pure(updates), pure(after)), want)


@pytest.mark.parametrize("encoding", [None, INT8], ids=["None", "int8"])
def test_hijax_variables_are_accepted(encoding):
    gradients = nnx.grad(loss)(new_model())  # Flax 0.12.8 has none of hijax variables.
    with nnx.var_defaults(hijax=True):
        transformation = optax.chain(
            sgd(0.1, 0.8, storage=encoding), parameter_ema(0.7)
        )
        model, optimizer = held(transformation)
        params = pure(params_of(model))
        state = transformation.init(params)
        for _ in range(2):
            optimizer.update(model, gradients)
            optimizer.opt_state = rescale_momentum(optimizer.opt_state, 0.5)
            updates, state = transformation.update(pure(gradients), state, params)
            params = optax.apply_updates(params, updates)
            state = rescale_momentum(state, 0.5)
        testing.expect_same_bits("hijax", pure(optimizer.opt_state), state)
        averages = averaged_params(optimizer.opt_state, params_of(model))
        testing.expect_same_bits("average", pure(averages), averaged_params(state))


@pytest.mark.slow
def test_codes_keep_the_sharding_metadata_of_the_parameter():
    """Scales have none: they have fewer elements along the axes that it names."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh):
        model, optimizer = held(
            optax.chain(sgd(0.1, 0.8, storage=INT8), lawa(3)),
            kernel_metadata={"out_sharding": (None, "x")},
        )
        for _ in range(3):
            step(model, optimizer)
        specs = nnx.get_partition_spec(nnx.state(optimizer.opt_state))
        kernel = optimizer.opt_state[0].buffer["kernel"]
        assert kernel.codes.get_metadata("out_sharding") == (None, "x")
        assert "out_sharding" not in kernel.scales.get_metadata()
        assert kernel.codes[...].sharding.is_equivalent_to(
            NamedSharding(mesh, P(None, "x")), 2
        )
        placed = jax.lax.with_sharding_constraint(nnx.state(optimizer.opt_state), specs)
        nnx.update(optimizer.opt_state, placed)
        step(model, optimizer)
