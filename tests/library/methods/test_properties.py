"""Properties of every method, for randomly drawn betas, shapes, dtypes and trees.

Every run draws the same examples.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.linear_methods import LINEAR
from support.methods import METHODS
from support.trajectory import updates_and_states

from optax_momentum import Coefficients, testing
from optax_momentum.testing import Claim, trees
from optax_momentum.testing import _claims as claims

STEPS = 30
few = settings(derandomize=True, deadline=None, max_examples=12, database=None)
every_method = pytest.mark.parametrize("name", METHODS)

betas = st.floats(0.05, 0.98)
shapes = st.sampled_from([(), (1,), (0,), (3,), (2, 3)])
dtypes = st.sampled_from(["float32", "bfloat16", "float16"])
leaves = st.tuples(shapes, dtypes).map(lambda pair: jnp.ones(*pair))
parameters = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
        | st.tuples(inner, inner)
    ),
    max_leaves=4,
)


def has_one_kernel(claim: Claim) -> bool:
    """True if the updates are those of one kernel, without debiasing or decay."""
    decays = claim.coupled_decay or claim.decoupled_decay
    return len(claim.kernels) == 1 and not (claim.debiased or decays)


@cache
def quadratic(name: str) -> Any:
    """Returns a jitted function of scalars: x after every step on curvature·x²/2."""

    @jax.jit
    def descend(beta, rate, curvature, start):
        optimizer = LINEAR[name].build(rate, beta)

        def body(carry, _):
            x, state = carry
            update, state = optimizer.update(curvature * x, state)
            return (x + update, state), x + update

        carry = (start, optimizer.init(start))
        return jax.lax.scan(body, carry, length=STEPS)[1]

    return descend


@pytest.mark.parametrize(
    "name", [name for name in LINEAR if has_one_kernel(LINEAR[name].claim(0.5))]
)
@few
@given(
    beta=betas,
    share=st.floats(0.001, 0.99),
    curvature=st.floats(1e-3, 1e3),
    start=st.floats(1e-6, 1e6),
)
def test_the_quadratic_invariant_holds_in_every_regime(
    name, beta, share, curvature, start
):
    _, a, b, c = LINEAR[name].claim(beta).kernels[0]
    h = share * 2 * (1 + beta) / (a * b + c * (1 + beta))
    with jax.enable_x64(True):
        arguments = (beta, h / curvature, curvature, start)
        x = np.asarray(quadratic(name)(*map(jnp.float64, arguments)))
    p, q = 1 + beta - h * (a * b + c), beta * (1 - h * c)
    invariant = x[1:] ** 2 - p * x[1:] * x[:-1] + q * x[:-1] ** 2
    scale = x[2:] ** 2 + x[1:-1] ** 2 + x[:-2] ** 2
    error = np.abs(invariant[1:] - q * invariant[:-1])
    assert (error <= 1e-9 * scale + 1e-290).all()


@every_method
@few
@given(params=parameters, gradient=dtypes)
def test_any_tree_keeps_its_types_and_its_leaves_are_independent(
    name, params, gradient
):
    transformation: Any = METHODS[name].build(0.83)
    gradients = jax.tree.map(lambda p: jnp.full(p.shape, 0.5, gradient), params)
    state = transformation.init(params)
    update = transformation.update
    updates, after = jax.eval_shape(update, gradients, state, params)
    assert trees.difference(after, trees.described(state)) == ""
    assert updates == jax.eval_shape(lambda tree: tree, gradients)
    updates, _ = update(gradients, state, params)
    for path, got in jax.tree.leaves_with_path(updates):
        alone, g = (
            dict(jax.tree.leaves_with_path(t))[path] for t in (params, gradients)
        )
        want, _ = update(g, transformation.init(alone), alone)
        testing.expect_same_bits("alone", got, want)


@cache
def run(name: str) -> Any:
    """Returns a jitted function: β, gradients [step, 6] → the updates of every step."""
    return jax.jit(lambda beta, g: updates_and_states(METHODS[name].build(beta), g)[0])


@cache
def vmapped(name: str) -> Any:
    """Returns `run` for several sequences of gradients at once."""
    return jax.jit(jax.vmap(run(name), in_axes=(None, 0)))


def noise(seed: int, *shape: int) -> Any:
    drawn = np.random.default_rng(seed).normal(size=(STEPS, *shape, 6))
    return jnp.asarray(drawn, jnp.float32)


seeds = st.integers(0, 2**32 - 1)


@every_method
@few
@given(beta=betas, seed=seeds, exponent=st.integers(-20, 20))
def test_gradients_times_a_power_of_two_scale_every_update_exactly(
    name, beta, seed, exponent
):
    gradients, factor = noise(seed), 2.0**exponent
    once = run(name)(beta, gradients)
    np.testing.assert_array_equal(run(name)(beta, factor * gradients), factor * once)


@every_method
@few
@given(beta=betas, seed=seeds)
def test_gradients_superpose(name, beta, seed):
    first, second = noise(seed), noise(seed + 1)
    together = run(name)(beta, first + second)
    apart = run(name)(beta, first) + run(name)(beta, second)
    scale = np.abs(together).max()
    np.testing.assert_allclose(together, apart, 0, 2e-6 * scale + 1e-6 / (1 - beta))


@every_method
@few
@given(beta=betas, seed=seeds, order=st.permutations(range(6)))
def test_elements_are_treated_equally(name, beta, seed, order):
    gradients, order = noise(seed), jnp.asarray(order)
    straight = run(name)(beta, gradients)
    permuted = run(name)(beta, gradients[:, order])
    np.testing.assert_array_equal(permuted, straight[:, order])


@every_method
@few
@given(beta=betas, seed=seeds, poisoned_lane=st.integers(0, 3))
def test_equal_lanes_stay_equal_next_to_a_poisoned_one(name, beta, seed, poisoned_lane):
    gradients = jnp.repeat(noise(seed)[None], 4, axis=0)
    lanes = vmapped(name)
    clean = lanes(beta, gradients)
    poisoned = lanes(beta, gradients.at[poisoned_lane, 2].set(jnp.nan))
    assert jnp.isnan(poisoned[poisoned_lane, 2:]).all()
    for lane in set(range(4)) - {poisoned_lane}:
        np.testing.assert_array_equal(clean[lane], clean[poisoned_lane])
        np.testing.assert_array_equal(poisoned[lane], clean[lane])


@few
@given(beta=betas, gain=st.floats(0.05, 3), b=st.floats(0, 2), c=st.floats(0.01, 2))
def test_the_oracles_agree_with_each_other(beta, gain, b, c):
    claim = Claim((Coefficients(beta, gain, b, c),))
    rate, curvature = 0.4 * claims.stability_limit(claim, 1.7), 1.7
    visited = claims.path(
        claim, lambda x, _: curvature * x, np.ones(1), np.full(STEPS, rate)
    )
    matrix = claims.step_matrix(claim, rate, curvature)
    want = [np.linalg.matrix_power(matrix, t + 1)[0, 0] for t in range(STEPS)]
    np.testing.assert_allclose(visited[:, 0], want, 1e-9, 1e-12)
