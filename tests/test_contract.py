"""What every method promises, whatever it computes: the contract."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from methods import METHODS

from optax_momentum import ema, heavy_ball, keras

BETA = 0.83
RNG = np.random.default_rng(11)
PARAMS = {
    "kernel": jnp.asarray(RNG.normal(size=(4, 6)), jnp.float32),
    "bias": [jnp.asarray(RNG.normal(size=5), jnp.float32), jnp.asarray(0.3)],
}
GRADIENTS = jax.tree.map(
    lambda p: jnp.asarray(RNG.normal(size=(12, *p.shape)), p.dtype), PARAMS
)

every_method = pytest.mark.parametrize(
    "transformation",
    [pytest.param(m.build(BETA), id=name) for name, m in METHODS.items()],
)


def initial(transformation: optax.GradientTransformation, params: Any) -> Any:
    """The first state; Optax's type for it hides what it is."""
    return transformation.init(params)


def gradients_at(step) -> Any:
    return jax.tree.map(lambda g: g[step], GRADIENTS)


def run(update, state: Any, steps=12):
    """The updates of every step, stacked, and the last state."""
    emitted = []
    for step in range(steps):
        updates, state = update(gradients_at(step), state)
        emitted.append(updates)
    return jax.tree.map(lambda *u: jnp.stack(u), *emitted), state


def assert_bits_equal(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@every_method
@pytest.mark.parametrize("parameter", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("gradient", ["float16", "bfloat16", "float32"])
def test_dtypes_are_the_parameters_in_the_state_and_the_gradients_outside(
    transformation, parameter, gradient
):
    params = {"w": jnp.ones(3, parameter), "number": 1.0}
    gradients = {"w": jnp.ones(3, gradient), "number": jnp.asarray(0.5)}
    state = initial(transformation, params)
    described = jax.tree.map(jax.typeof, state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    for _ in range(3):
        updates, state = transformation.update(gradients, state)
        assert jax.tree.map(jax.typeof, state) == described
        assert updates["w"].dtype == gradient
    assert state.buffer["w"].dtype == parameter
    assert state.weight.dtype == jnp.float32


@every_method
def test_float64_parameters_keep_float64_buffers_under_float32_gradients(
    transformation,
):
    with jax.enable_x64(True):
        state = initial(transformation, jnp.ones(3, jnp.float64))
        updates, state = transformation.update(jnp.ones(3, jnp.float32), state)
        assert (updates.dtype, state.buffer.dtype) == (jnp.float32, jnp.float64)
        assert state.weight.dtype == jnp.float32


@every_method
def test_sums_of_bfloat16_gradients_run_in_float32(transformation):
    narrow = jnp.asarray(RNG.normal(size=(9, 7)), jnp.bfloat16)
    half, full = (initial(transformation, jnp.zeros(7, jnp.float32)) for _ in range(2))
    for g in narrow:
        emitted, half = transformation.update(g, half)
        exact, full = transformation.update(g.astype(jnp.float32), full)
        assert_bits_equal(half, full)
        assert_bits_equal(emitted, exact.astype(jnp.bfloat16))


@every_method
@pytest.mark.parametrize("absent", [None, optax.MaskedNode()])
def test_a_leaf_without_gradient_emits_the_same_and_keeps_its_buffer(
    transformation, absent
):
    _, state = run(transformation.update, initial(transformation, PARAMS), steps=3)
    gradients = {"kernel": absent, "bias": [gradients_at(3)["bias"][0], absent]}
    updates, after = jax.jit(transformation.update)(gradients, state)
    assert updates["kernel"] == updates["bias"][1] == absent
    assert_bits_equal(after.buffer["kernel"], state.buffer["kernel"])
    assert_bits_equal(after.buffer["bias"][1], state.buffer["bias"][1])
    assert (after.buffer["bias"][0] != state.buffer["bias"][0]).any()
    assert jax.tree.structure(after) == jax.tree.structure(state)
    transformation.update(gradients_at(4), after)  # the next whole step is welcome


@every_method
def test_an_absent_subtree_keeps_its_buffers(transformation):
    _, state = run(transformation.update, initial(transformation, PARAMS), steps=2)
    gradients = {"kernel": gradients_at(2)["kernel"], "bias": None}
    updates, after = transformation.update(gradients, state)
    assert updates["bias"] is None
    assert_bits_equal(after.buffer["bias"], state.buffer["bias"])


@every_method
def test_step_counts_calls_and_saturates(transformation):
    _, state = run(transformation.update, initial(transformation, PARAMS), steps=5)
    assert state.step == 5
    last = jnp.iinfo(jnp.int32).max
    _, state = transformation.update(
        gradients_at(0), state._replace(step=jnp.asarray(last, jnp.int32))
    )
    assert state.step == last


@pytest.mark.parametrize("name", METHODS)
def test_one_compilation_serves_every_step_and_every_traced_beta(name):
    traces = []

    @jax.jit
    def update(beta, gradients, state):
        traces.append(None)
        return METHODS[name].build(beta).update(gradients, state)

    results = []
    for beta in (0.5, 0.83, 0.999):
        state = initial(METHODS[name].build(beta), PARAMS)
        results.append(run(partial(update, beta), state)[0]["kernel"])
    assert len(traces) == 1
    assert not np.array_equal(results[0], results[1])


@every_method
def test_jit_scan_and_vmap_agree_bit_for_bit(transformation):
    jitted, last = run(jax.jit(transformation.update), initial(transformation, PARAMS))

    def body(state, gradients):
        updates, state = transformation.update(gradients, state)
        return state, updates

    scan = jax.jit(lambda state: jax.lax.scan(body, state, GRADIENTS))
    scanned_last, scanned = scan(initial(transformation, PARAMS))
    assert_bits_equal(scanned, jitted)
    assert_bits_equal(scanned_last, last)

    def twice(tree):
        return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), tree)

    update = jax.jit(jax.vmap(transformation.update))
    state = twice(initial(transformation, PARAMS))
    for step in range(12):
        updates, state = update(twice(gradients_at(step)), state)
        want = jax.tree.map(lambda leaf, step=step: leaf[step], jitted)
        assert_bits_equal(jax.tree.map(lambda leaf: leaf[1], updates), want)


@every_method
def test_one_eager_step_is_the_jitted_one_to_an_ulp_of_its_terms(transformation):
    _, state = run(transformation.update, initial(transformation, PARAMS), steps=4)
    eager, _ = transformation.update(gradients_at(4), state)
    jitted, _ = jax.jit(transformation.update)(gradients_at(4), state)
    for a, b, g, m in zip(
        *map(jax.tree.leaves, (eager, jitted, gradients_at(4), state.buffer)),
        strict=True,
    ):
        # Fused multiply-adds differ by the rounding of one term, in each of two sums.
        terms = np.abs(m) + np.abs(g)
        assert (np.abs(np.asarray(a) - b) <= 2 * np.spacing(2 * terms)).all()


@every_method
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("gradients_sharded", [True, False])
def test_sharding_is_the_parameters_and_changes_no_bit(
    transformation, axis_type, gradients_sharded
):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(axis_type,))
    rows, everywhere = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())
    placement = rows if gradients_sharded else everywhere
    traces = []

    @jax.jit
    def update(gradients, state):
        traces.append(None)
        return transformation.update(gradients, state)

    one, two = jnp.asarray(PARAMS["kernel"]), jax.device_put(PARAMS["kernel"], rows)
    whole, split = initial(transformation, one), initial(transformation, two)
    for step in range(4):
        g = gradients_at(step)["kernel"]
        want, whole = jax.jit(transformation.update)(g, whole)
        got, split = update(jax.device_put(g, placement), split)
        assert split.buffer.sharding.is_equivalent_to(rows, 2)
        assert_bits_equal(got, want)
    assert len(traces) == 1
    g = jax.device_put(gradients_at(4)["kernel"], everywhere)
    _, split = transformation.update(g, split)
    assert split.buffer.sharding.is_equivalent_to(rows, 2)


def test_replicated_state_stays_replicated_under_sharded_gradients():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))
    rows, everywhere = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())
    state = initial(ema(BETA), jax.device_put(PARAMS["kernel"], everywhere))
    gradient = jax.device_put(gradients_at(0)["kernel"], rows)
    updates: tuple[Any, ...] = (ema(BETA).update, jax.jit(ema(BETA).update))
    for update in updates:
        _, after = update(gradient, state)
        assert after.buffer.sharding.is_equivalent_to(everywhere, 2)


def test_scalars_of_the_state_live_where_the_parameters_do():
    second = jax.devices()[1]
    state = initial(ema(BETA), {"w": jax.device_put(jnp.ones(3), second)})
    assert state.step.devices() == state.weight.devices() == {second}
    spread = [jax.device_put(jnp.ones(3), device) for device in jax.devices()[:2]]
    state = initial(heavy_ball(BETA, dampening=0.3), spread)
    heavy_ball(BETA, dampening=0.3).update(spread, state)  # no device is preferred


@every_method
def test_nothing_is_aliased_so_that_everything_can_be_donated(transformation):
    state = initial(transformation, PARAMS)
    updates, after = transformation.update(gradients_at(0), state)
    arrays = jax.tree.leaves((updates, after, state))
    pointers = {array.unsafe_buffer_pointer() for array in arrays}
    assert len(pointers) == len(arrays)

    def step(params, state, gradients):
        updates, state = transformation.update(gradients, state)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.copy, PARAMS)
    donating = jax.jit(step, donate_argnums=(0, 1))
    for k in range(3):
        params, state = donating(params, state, gradients_at(k))
    want, _ = run(
        jax.jit(transformation.update), initial(transformation, PARAMS), steps=3
    )
    moved = jax.tree.map(lambda p, u: p + jnp.sum(u, axis=0), PARAMS, want)
    for a, b in zip(*map(jax.tree.leaves, (params, moved)), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)


@every_method
def test_init_takes_shapes_in_place_of_arrays(transformation):
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), PARAMS)
    assert_bits_equal(initial(transformation, shapes), initial(transformation, PARAMS))
    abstract = jax.eval_shape(transformation.init, shapes)
    assert jax.tree.structure(abstract) == jax.tree.structure(
        initial(transformation, PARAMS)
    )


@every_method
def test_complex_gradients_equal_their_real_and_imaginary_parts(transformation):
    real, imaginary = RNG.normal(size=(2, 8, 5)).astype(np.float32)
    state = initial(transformation, jnp.zeros(5, jnp.complex64))
    parts = initial(transformation, jnp.zeros((2, 5)))
    update = jax.jit(transformation.update)
    for re, im in zip(real, imaginary, strict=True):
        u, state = update(jax.lax.complex(jnp.asarray(re), jnp.asarray(im)), state)
        v, parts = update(jnp.stack([re, im]), parts)
        assert_bits_equal(jnp.stack([u.real, u.imag]), v)
    assert state.buffer.dtype == jnp.complex64


@every_method
@pytest.mark.parametrize("tree", [(), {}, [], None, {"a": None}, [()]])
def test_an_empty_tree_is_a_tree(transformation, tree):
    updates, state = transformation.update(tree, initial(transformation, tree))
    assert updates == tree == state.buffer
    assert state.step == 1


@every_method
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2)])
def test_scalars_and_empty_arrays_are_leaves(transformation, shape):
    updates, state = transformation.update(
        jnp.ones(shape), initial(transformation, jnp.ones(shape))
    )
    assert updates.shape == state.buffer.shape == shape


@every_method
def test_zero_gradients_leave_a_fresh_state_and_move_a_settled_one(transformation):
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = transformation.update(zeros, initial(transformation, PARAMS))
    assert_bits_equal(jax.tree.map(jnp.abs, updates), zeros)
    _, state = run(transformation.update, initial(transformation, PARAMS), steps=3)
    updates, _ = transformation.update(zeros, state)
    assert all((u != 0).all() for u in jax.tree.leaves(updates))


def test_beta_is_differentiable():
    def settled(beta):
        updates, _ = run(heavy_ball(beta).update, heavy_ball(beta).init(PARAMS))
        return jnp.sum(updates["kernel"][-1])

    slope = jax.grad(settled)(jnp.asarray(0.6))
    secant = (settled(0.6 + 1e-2) - settled(0.6 - 1e-2)) / 2e-2
    assert slope == pytest.approx(float(secant), rel=1e-2)


def test_beta_and_learning_rate_are_vmapped():
    rates, betas = jnp.asarray([0.1, 0.4]), jnp.asarray([0.3, 0.7])

    def second(rate, beta):
        transformation = keras(rate, beta)
        return run(transformation.update, initial(transformation, PARAMS), steps=2)[0]

    lanes = jax.vmap(second)(rates, betas)
    for lane, (rate, beta) in enumerate([(0.1, 0.3), (0.4, 0.7)]):
        want = second(rate, beta)["kernel"]
        np.testing.assert_allclose(lanes["kernel"][lane], want, 1e-6, 1e-7)
