"""Bad inputs 13 to 21: trees without leaves, and leaves that aren't real numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.conformance.bad_inputs.expectations import BETA, expect_refused
from experiments.conformance.bad_inputs.modes import Mode, eager, init_of_constant
from experiments.conformance.bad_inputs.systems import System
from optax_momentum.testing import (
    agreement,
    contract,
    expect,
    expect_same_bits,
    refusals,
    trees,
)


def a_tree_that_is_empty(system: System, mode: Mode) -> None:
    """Works, in a tuple, a dict and a list, and in others."""
    contract.empty_trees_are_trees(mode(system.heavy_ball(BETA)), None)


def a_tree_of_none_alone(system: System, mode: Mode) -> None:
    """Works: the updates are that tree."""
    transformation, tree = mode(system.heavy_ball(BETA)), {"a": None, "b": [None, None]}
    updates, _ = transformation.update(tree, transformation.init(tree), tree)
    expect(updates == tree, f"the updates are {updates}")


def a_gradient_of_none_once(system: System, mode: Mode) -> None:
    """Its update is None, its buffer is kept bit by bit, and the next step is fine."""
    transformation, params = mode(system.heavy_ball(BETA)), trees.default_params()
    with jax.disable_jit(mode is eager):
        contract.a_leaf_without_gradient_is_passed_on(transformation, params)
        contract.a_leaf_without_gradient_keeps_its_state(transformation, params)


def a_masked_leaf(system: System, mode: Mode) -> None:
    """`optax.MaskedNode` passes, and the other leaves are stepped as without it."""
    transformation, params = mode(system.heavy_ball(BETA)), trees.default_params()
    path, _ = trees.largest_leaf(params)

    def masked(tree: Any) -> Any:
        return trees.replaced(tree, path, optax.MaskedNode())

    def updates(gradients: Any, params: Any) -> Any:
        state = transformation.init(params)
        return trees.run(transformation.update, state, gradients, params)[0]

    gradients = trees.gradients_like(params, steps=3)
    got, want = updates(masked(gradients), masked(params)), updates(gradients, params)
    expect_same_bits("the updates", got, masked(want))


def an_integer_parameter(system: System, mode: Mode) -> None:
    """Refused by its path: rounded to integers, updates are not what they say."""
    optimizer, params = mode(system.sgd(0.1, BETA)), {"count": jnp.asarray([5])}

    def step() -> str:
        gradients = {"count": jnp.asarray([0.25])}
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        moved: Any = optax.apply_updates(params, updates)
        return f"an update of {updates['count'][0]:.3f} made {moved['count'][0]} of 5"

    expect_refused(("['count']",), step)


def a_gradient_of_float0(system: System, mode: Mode) -> None:
    """Taken as None, and passed on: JAX gives it to integers, without a gradient."""
    transformation = mode(system.heavy_ball(BETA))
    zero = {"kernel": jnp.zeros(2), "count": None}
    gradients = {"kernel": jnp.ones(2), "count": np.zeros(3, jax.dtypes.float0)}
    updates, state = transformation.update(gradients, transformation.init(zero), zero)
    without = {**gradients, "count": None}
    want = transformation.update(without, transformation.init(zero), zero)
    passed = getattr(updates["count"], "dtype", None) == jax.dtypes.float0
    expect(passed, f"it came back as {updates['count']}")
    expect_same_bits("the updates", {**updates, "count": None}, want[0])
    expect_same_bits("the state", state, want[1])


def a_boolean_or_a_random_key_among_the_parameters(system: System, mode: Mode) -> None:
    """Refused by its path."""
    transformation, params = mode(system.heavy_ball(BETA)), trees.default_params()
    refusals.boolean_parameters(transformation, params)
    refusals.random_keys_among_the_parameters(transformation, params)


def a_string_or_a_function_among_the_parameters(system: System, mode: Mode) -> None:
    """Refused by its path."""
    for leaf in ("relu", jax.nn.relu):
        params = {"kernel": jnp.ones(2), "activation": leaf}
        init = mode(init_of_constant(system.heavy_ball(BETA), params)).init
        refusals.refused("it", ("['activation']",), init, ())


def complex_numbers(system: System, mode: Mode) -> None:
    """As their real and imaginary parts, bit for bit."""
    with jax.disable_jit(mode is eager):
        agreement.complex_numbers_are_pairs_of_real_ones(
            mode(system.heavy_ball(BETA)), None
        )


LEAVES = (
    a_tree_that_is_empty,
    a_tree_of_none_alone,
    a_gradient_of_none_once,
    a_masked_leaf,
    an_integer_parameter,
    a_gradient_of_float0,
    a_boolean_or_a_random_key_among_the_parameters,
    a_string_or_a_function_among_the_parameters,
    complex_numbers,
)
