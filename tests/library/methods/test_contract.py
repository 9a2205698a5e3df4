"""What every method promises, whatever it computes.

First the public contract, `optax_momentum.testing`, then promises of this library.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from support.counting import CountingJit
from support.methods import METHODS, buffers, momentum_states

from optax_momentum import ema, heavy_ball, keras, testing
from optax_momentum.testing import agreement, composition, contract, dtypes, trees

BETA = 0.83
PARAMS = trees.default_params()
GRADIENTS = trees.gradients_like(PARAMS, steps=12)

every_method = pytest.mark.parametrize(
    "transformation",
    [pytest.param(m.build(BETA), id=name) for name, m in METHODS.items()],
)


def every_promise(*promises):
    return pytest.mark.parametrize("promise", promises, ids=testing.name_of)


def initial(transformation: optax.GradientTransformation, params: Any) -> Any:
    """Returns the first state as `Any`, since Optax's type for it has no attributes."""
    return transformation.init(params)


def gradients_at(step) -> Any:
    return trees.at(GRADIENTS, step)


def run(update, state: Any, steps=12) -> tuple[Any, Any]:
    """Returns the updates of every step, stacked, and the last state."""
    given = jax.tree.map(lambda g: g[:steps], GRADIENTS)
    return trees.run(lambda g, s, _: update(g, s), state, given, None)


@pytest.mark.slow
@every_method
@every_promise(
    *dtypes.OF_ANY,
    *contract.OF_ANY,
    *contract.OF_LINEAR,
    *agreement.OF_ANY,
    *agreement.OF_LINEAR,
    *testing.REFUSALS,
)
def test_method_keeps_the_contract(transformation, promise):
    promise(transformation, PARAMS)


# Optax's wrappers only see the state's leaves: one method of each structure suffices.
@pytest.mark.parametrize("name", ["aggmo", "ema, debiased", "heavy_ball, dampened"])
@every_promise(*composition.OF_ANY, *composition.OF_LINEAR)
def test_method_composes(name, promise):
    promise(METHODS[name].build(BETA), PARAMS)


@every_method
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_buffers_have_the_parameters_dtype_and_weights_float32(transformation, dtype):
    params = {"w": jnp.ones(3, dtype), "number": 1.0}
    for momentum in momentum_states(initial(transformation, params)):
        assert momentum.buffer["w"].dtype == dtype
        assert momentum.buffer["number"].dtype == jnp.float32
        assert momentum.weight.dtype == jnp.float32
    with jax.enable_x64(True):
        double = initial(transformation, jnp.ones(3, jnp.float64))
        for momentum in momentum_states(double):
            assert momentum.buffer.dtype == jnp.float64
            assert momentum.weight.dtype == jnp.float32


@every_method
def test_sums_of_bfloat16_gradients_run_in_float32(transformation):
    random = np.random.default_rng(17)
    narrow = jnp.asarray(random.normal(size=(9, 7)), jnp.bfloat16)
    half, full = (initial(transformation, jnp.zeros(7, jnp.float32)) for _ in range(2))
    for g in narrow:
        emitted, half = transformation.update(g, half)
        exact, full = transformation.update(g.astype(jnp.float32), full)
        testing.expect_same_bits("state", half, full)
        testing.expect_same_bits("updates", emitted, exact.astype(jnp.bfloat16))


@every_method
@pytest.mark.parametrize("absent", [None, optax.MaskedNode()])
def test_an_absent_subtree_keeps_its_buffers_and_the_rest_steps(transformation, absent):
    _, state = run(transformation.update, initial(transformation, PARAMS), steps=2)
    gradients = {"kernel": gradients_at(2)["kernel"], "bias": absent}
    updates, after = transformation.update(gradients, state)
    assert updates["bias"] == absent
    whole, _ = transformation.update(gradients_at(2), state)
    testing.expect_same_bits("the rest", updates["kernel"], whole["kernel"])
    for old, new in zip(buffers(state), buffers(after), strict=True):
        testing.expect_same_bits("its buffers", new["bias"], old["bias"])
        assert (new["kernel"] != old["kernel"]).any()


@every_method
def test_a_float0_gradient_is_treated_as_none(transformation):
    def loss(params):
        return jnp.sum(params["weight"][params["count"]])

    params: Any = {"weight": jnp.asarray([0.3, -1.7]), "count": jnp.asarray([1])}
    gradients: Any = jax.grad(loss, allow_int=True)(params)
    assert gradients["count"].dtype == jax.dtypes.float0
    state = initial(transformation, {**params, "count": None})
    updates, after = transformation.update(gradients, state)
    assert updates["count"] is gradients["count"]
    want, other = transformation.update({**gradients, "count": None}, state)
    testing.expect_same_bits("the rest", updates["weight"], want["weight"])
    testing.expect_same_bits("the state", after, other)


@every_method
def test_step_counts_update_calls_and_saturates(transformation):
    _, state = run(transformation.update, initial(transformation, PARAMS), steps=5)
    assert all(momentum.step == 5 for momentum in momentum_states(state))
    last = jnp.iinfo(jnp.int32).max
    _, state = transformation.update(
        gradients_at(0), optax.tree.set(state, step=jnp.asarray(last, jnp.int32))
    )
    assert all(momentum.step == last for momentum in momentum_states(state))


@every_method
@pytest.mark.parametrize("tree", [(), {}, [], None, {"a": None}, [()]])
def test_a_step_without_leaves_counts_as_a_step(transformation, tree):
    updates, state = transformation.update(tree, initial(transformation, tree))
    assert updates == tree
    for momentum in momentum_states(state):
        assert momentum.buffer == tree
        assert momentum.step == 1


@pytest.mark.parametrize("name", METHODS)
def test_all_traced_betas_share_one_compilation(name):
    @CountingJit
    def update(beta, gradients, state):
        return METHODS[name].build(beta).update(gradients, state)

    results = []
    for beta in (0.5, 0.83, 0.999):
        state = initial(METHODS[name].build(beta), PARAMS)
        results.append(run(partial(update, beta), state)[0]["kernel"])
    assert update.traces == 1
    assert not np.array_equal(results[0], results[1])


def test_replicated_state_stays_replicated_under_sharded_gradients():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))
    rows, everywhere = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())
    state = initial(ema(BETA), jax.device_put(PARAMS["kernel"], everywhere))
    gradient = jax.device_put(gradients_at(0)["kernel"], rows)
    updates: tuple[Any, ...] = (ema(BETA).update, jax.jit(ema(BETA).update))
    for update in updates:
        _, after = update(gradient, state)
        assert after.buffer.sharding.is_equivalent_to(everywhere, 2)


def test_scalars_of_the_state_are_on_the_parameters_device():
    second = jax.devices()[1]
    state = initial(ema(BETA), {"w": jax.device_put(jnp.ones(3), second)})
    assert state.step.devices() == state.weight.devices() == {second}
    spread = [jax.device_put(jnp.ones(3), device) for device in jax.devices()[:2]]
    state = initial(heavy_ball(BETA, dampening=0.3), spread)
    heavy_ball(BETA, dampening=0.3).update(spread, state)  # No device is preferred.


def test_beta_is_differentiable():
    def settled(beta):
        updates, _ = run(heavy_ball(beta).update, heavy_ball(beta).init(PARAMS))
        return jnp.sum(updates["kernel"][-1])

    slope = jax.grad(settled)(jnp.asarray(0.6))
    secant = (settled(0.6 + 1e-2) - settled(0.6 - 1e-2)) / 2e-2
    assert slope == pytest.approx(float(secant), rel=1e-2)


def test_beta_and_learning_rate_can_be_vmapped():
    rates, betas = jnp.asarray([0.1, 0.4]), jnp.asarray([0.3, 0.7])

    def second(rate, beta):
        transformation = keras(rate, beta)
        return run(transformation.update, initial(transformation, PARAMS), steps=2)[0]

    lanes = jax.vmap(second)(rates, betas)
    for lane, (rate, beta) in enumerate([(0.1, 0.3), (0.4, 0.7)]):
        want = second(rate, beta)["kernel"]
        np.testing.assert_allclose(lanes["kernel"][lane], want, 1e-6, 1e-7)
