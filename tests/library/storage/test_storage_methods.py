"""Every linear method with its buffer in each storage."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.methods import METHODS
from support.storages import (
    BETA,
    BFLOAT16,
    GRADIENTS,
    INT8,
    PARAMS,
    assert_close,
    decoded,
    every_storage,
    gradient,
    run,
)

from optax_momentum import (
    aggmo,
    ema,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    linear_momentum,
    nesterov,
    qhm,
    sgd,
    srsgd,
    storage,
    testing,
    two_point_nesterov,
)
from optax_momentum.testing import agreement, composition, contract, dtypes, trees

BUILDS = {
    "aggmo": partial(aggmo, [0.6, BETA, 0]),
    "ema": partial(ema, BETA),
    "heavy_ball": partial(heavy_ball, BETA, dampening=0.3),
    "keras": partial(keras, 0.1, BETA, nesterov=True),
    "linear_momentum": partial(linear_momentum, heavy_ball_coefficients(BETA)),
    "nesterov": partial(nesterov, 0.1, BETA),
    "qhm": partial(qhm, BETA, nu=0.35),
    "sgd": partial(sgd, 0.1, BETA, nesterov=True),
    "srsgd": partial(srsgd, 0.1),
    "two_point_nesterov": partial(two_point_nesterov, 0.1, BETA),
}
every_method = pytest.mark.parametrize("name", list(BUILDS))


def is_blocks(node):
    return isinstance(node, storage.Blocks)


@pytest.mark.slow
@every_method
def test_method_in_a_narrow_storage_is_close_to_the_exact_one(name):
    exact, _ = run(BUILDS[name]())
    same, _ = run(BUILDS[name](storage=storage.float32()))
    testing.expect_same_bits("float32", same, exact)
    for encoding, unit in (BFLOAT16, 2.0**-8), (INT8, 0.0158):
        updates, state = run(BUILDS[name](storage=encoding))
        stored = jax.tree.leaves(state, is_leaf=is_blocks)
        assert any(map(is_blocks, stored)) == (encoding is INT8)
        assert not np.array_equal(updates["w"], exact["w"])
        assert_close(updates, exact, 2 * unit / (1 - BETA))


@pytest.mark.parametrize("name", ["ema, debiased", "heavy_ball, nesterov", "qhm"])
def test_float32_buffer_of_bfloat16_parameters_matches_the_reference(name):
    gradients = jax.tree.map(lambda g: np.asarray(g[:12], np.float64), GRADIENTS)
    method = METHODS[name]
    transformation = method.build(BETA, storage=storage.float32())
    narrow = jax.tree.map(jnp.bfloat16, PARAMS)
    updates, state = run(transformation, 12, transformation.init(narrow))
    want, buffers = method.reference(gradients["w"], BETA)
    np.testing.assert_allclose(updates["w"], want, atol=2e-6)
    assert state.buffer["w"].dtype == jnp.float32
    np.testing.assert_allclose(state.buffer["w"], buffers[-1], atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "transformation",
    [ema(BETA, debias=True, storage=INT8), sgd(0.1, BETA, storage=BFLOAT16)],
    ids=["int8", "bfloat16"],
)
@pytest.mark.parametrize(
    "promise",
    [
        *dtypes.OF_ANY,
        *contract.OF_ANY,
        *contract.OF_LINEAR,
        agreement.scan_is_the_jitted_loop,
        agreement.vmap_is_the_jitted_loop,
        agreement.sharding_changes_no_bit_and_stays_as_it_was,
        agreement.zero_gradients_move_only_what_is_in_motion,
        *testing.REFUSALS,
        *composition.OF_ANY,
        *composition.OF_LINEAR,
    ],
    ids=testing.name_of,
)
def test_method_keeps_the_contract_in_a_narrow_storage(transformation, promise):
    promise(transformation, trees.default_params())


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    transformation = ema(BETA, debias=True, storage=INT8)
    _, want = run(transformation, 12)
    _, state = run(transformation, 7)
    leaves, tree = jax.tree.flatten(state)
    np.savez(tmp_path / "state.npz", *leaves)
    with np.load(tmp_path / "state.npz") as file:
        restored = jax.tree.unflatten(tree, [file[name] for name in file.files])
    for step in range(7, 12):
        _, restored = jax.jit(transformation.update)(gradient(step), restored)
    testing.expect_same_bits("resumed", restored, want)


@pytest.mark.slow
def test_one_lane_of_a_vmapped_sweep_equals_the_single_run():
    def final(beta):
        return run(ema(beta, storage=INT8))[1]

    betas = jnp.array([0.5, BETA, 0.9])
    lanes: Any = jax.jit(jax.vmap(final))(betas)
    lane = jax.tree.map(lambda x: x[1], lanes)
    testing.expect_same_bits("lane 1", lane, jax.jit(final)(betas[1]))
    by_lane = jax.vmap(storage.values)(lanes.buffer)
    testing.expect_same_bits("values", storage.values(lanes.buffer), by_lane)


@pytest.mark.slow
@every_storage
def test_beta_is_differentiable_through_the_step_but_not_the_rounding(encoding):
    _, state = run(ema(BETA, storage=encoding))

    def total(beta):
        updates: Any = ema(beta, storage=encoding).update(gradient(12), state)[0]
        return updates["w"].sum()

    want = (decoded(state)["w"] - gradient(12)["w"]).sum()
    np.testing.assert_allclose(jax.grad(total)(BETA), want, rtol=1e-5)
