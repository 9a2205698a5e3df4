"""Promises about dtypes: what a transformation owes to mixed-precision training.

Each function takes a transformation and parameters to run it on, and raises
AssertionError if the transformation breaks the promise.
"""

import jax
import jax.numpy as jnp
import optax

from optax_momentum.testing import trees
from optax_momentum.testing._verdicts import expect

FLOATS = ("bfloat16", "float32", "float16")
PAIRS = tuple((parameter, gradient) for parameter in FLOATS for gradient in FLOATS)


def the_state_never_changes_its_types(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Structure, shapes, dtypes and weak types stay those of `init`.

    This holds for gradients of any dtype, so that one jitted step, or one scan, serves
    the whole run.
    """
    for parameter, gradient in PAIRS:
        _check_types(transformation, params, parameter, gradient)
    with jax.enable_x64(True):
        _check_types(transformation, params, "float64", "float32")
        _check_types(transformation, params, "float32", "float64")


def a_python_number_makes_no_weak_state(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """A weakly typed parameter such as 1.0 gets a state that is not weakly typed."""
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
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Also at the second step, and if the parameters have another dtype."""
    for parameter, gradient in PAIRS:
        cast, gradients = (_cast(params, dtype) for dtype in (parameter, gradient))
        state, case = transformation.init(cast), f"{gradient} gradients of {parameter}"
        for step in (1, 2):
            updates, state = jax.eval_shape(
                transformation.update, gradients, state, cast
            )
            dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(updates)}
            message = (
                f"{case} parameters gave {', '.join(sorted(dtypes))} at step {step}"
            )
            expect(dtypes == {gradient}, message)


def strict_promotion_is_enough(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """It works under JAX's strict dtype promotion and without rank promotion."""
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        for parameter, gradient in (("float32", "bfloat16"), ("bfloat16", "float32")):
            cast, gradients = (_cast(params, dtype) for dtype in (parameter, gradient))
            state = transformation.init(cast)
            for _ in range(2):
                _, state = transformation.update(gradients, state, cast)


OF_ANY = (
    the_state_never_changes_its_types,
    a_python_number_makes_no_weak_state,
    updates_have_the_dtype_of_the_gradients,
    strict_promotion_is_enough,
)


def _check_types(
    transformation: optax.GradientTransformation,
    params: optax.Params,
    parameter: str,
    gradient: str,
) -> None:
    """Raises if two traced steps, or one eager step, change the types of the state."""
    params, gradients = _cast(params, parameter), _cast(params, gradient)
    state = transformation.init(params)
    before = trees.described(state)
    case = f"{gradient} gradients of {parameter} parameters"
    for step in (1, 2):
        _, state = jax.eval_shape(transformation.update, gradients, state, params)
        broken = trees.difference(state, before)
        expect(not broken, f"{case}: after step {step} {broken}")
    if {parameter, gradient} == {"float32", "bfloat16"}:
        _, after = transformation.update(gradients, transformation.init(params), params)
        broken = trees.difference(trees.described(after), before)
        expect(not broken, f"{case}: after an eager step {broken}")


def _cast(tree: optax.Updates, dtype: str) -> optax.Updates:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
