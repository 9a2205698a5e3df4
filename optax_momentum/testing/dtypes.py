"""Types that stay: what any gradient transformation owes to mixed precision.

Each function takes a transformation and the parameters to try it on, and raises where
it breaks the promise.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_momentum.testing import trees
from optax_momentum.testing._verdicts import expect

FLOATS = ("bfloat16", "float32", "float16")
PAIRS = tuple((held, given) for held in FLOATS for given in FLOATS)


def the_state_never_changes_its_types(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """Tree, shape, dtype and weak type are init's, whatever dtype gradients have.

    So one jitted step and one scan serve all training.
    """
    for parameter, gradient in PAIRS:
        _check_types(transformation, params, parameter, gradient)
    with jax.enable_x64(True):
        _check_types(transformation, params, "float64", "float32")
        _check_types(transformation, params, "float32", "float64")


def a_python_number_makes_no_weak_state(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """Of a parameter such as 1.0, whose type is weak, the state is not."""
    del params
    state = transformation.init(1.0)
    leaves = jax.tree.leaves(trees.described(state))
    expect(
        not any(leaf.weak_type for leaf in leaves), "the first state is weakly typed"
    )
    _, after = transformation.update(jnp.ones((), jnp.float32), state, 1.0)
    broken = trees.difference(trees.described(after), trees.described(state))
    expect(not broken, f"after step 1 {broken}")


def updates_have_the_dtype_of_the_gradients(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """Also at the second step, and where the parameter has another."""
    for parameter, gradient in PAIRS:
        held, given = (_cast(params, dtype) for dtype in (parameter, gradient))
        state, case = transformation.init(held), f"{gradient} gradients of {parameter}"
        for step in (1, 2):
            updates, state = jax.eval_shape(transformation.update, given, state, held)
            found = {str(leaf.dtype) for leaf in jax.tree.leaves(updates)}
            message = (
                f"{case} parameters gave {', '.join(sorted(found))} at step {step}"
            )
            expect(found == {gradient}, message)


def strict_promotion_is_enough(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """JAX's strict dtype promotion and forbidden rank promotion hold inside."""
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        for parameter, gradient in (("float32", "bfloat16"), ("bfloat16", "float32")):
            held, given = (_cast(params, dtype) for dtype in (parameter, gradient))
            state = transformation.init(held)
            for _ in range(2):
                _, state = transformation.update(given, state, held)


OF_ANY = (
    the_state_never_changes_its_types,
    a_python_number_makes_no_weak_state,
    updates_have_the_dtype_of_the_gradients,
    strict_promotion_is_enough,
)


def _check_types(
    transformation: optax.GradientTransformation, params: Any, held: str, given: str
) -> None:
    """Raises where two steps change the state's types; runs one, and traces both."""
    params, gradients = _cast(params, held), _cast(params, given)
    state = transformation.init(params)
    before, case = trees.described(state), f"{given} gradients of {held} parameters"
    for step in (1, 2):
        _, state = jax.eval_shape(transformation.update, gradients, state, params)
        broken = trees.difference(state, before)
        expect(not broken, f"{case}: after step {step} {broken}")
    if "float32" in (held, given) and "bfloat16" in (held, given):
        _, after = transformation.update(gradients, transformation.init(params), params)
        broken = trees.difference(trees.described(after), before)
        expect(not broken, f"{case}: after an eager step {broken}")


def _cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
