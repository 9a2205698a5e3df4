"""What must be refused: silence here is a run that goes wrong, seen days later.

A refusal is any exception that tells where: it names the leaf's path, or the argument.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_momentum.testing import trees
from optax_momentum.testing._verdicts import (
    DoesNotApply,
    Result,
    expect,
    judge,
    summarize_error,
)

ARGUMENT = ("beta", "momentum", "decay")  # what libraries call it


def check_refusals(
    transformation: optax.GradientTransformation, params: Any = None
) -> tuple[Result, ...]:
    """Hands a transformation what it can't compute with.

    Args:
      transformation: any.
      params: floating-point arrays to try it on; by default three small ones.
    """
    params = trees.default_params() if params is None else params
    return judge(REFUSALS, transformation, params)


def check_bad_beta(build: Callable[[Any], Any]) -> tuple[Result, ...]:
    """Builds a method with betas that are none.

    Args:
      build: maps β to the method; a refusal is an error that names the argument.
    """
    return judge(BAD_BETAS, build)


def integer_parameters(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """Their updates round to zero: they would never move."""
    path, leaf = trees.first_leaf(params)
    refused_init(transformation, params, path, jnp.ones(leaf.shape, jnp.int32))


def boolean_parameters(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """A flag among the parameters has no momentum."""
    path, leaf = trees.first_leaf(params)
    refused_init(transformation, params, path, jnp.ones(leaf.shape, bool))


def random_keys_among_the_parameters(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """A key is of a type of its own, which can't be added to."""
    path, _ = trees.first_leaf(params)
    refused_init(transformation, params, path, jax.random.key(0))


def text_among_the_parameters(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """A name that was left in the tree."""
    path, _ = trees.first_leaf(params)
    refused_init(transformation, params, path, "relu")


def a_gradient_that_would_broadcast(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """Shapes (1, 1) and (n, m) add up, to what nobody meant."""
    path, leaf = trees.first_leaf(params)
    refused_update(transformation, params, path, jnp.ones((1,) * leaf.ndim))


def an_integer_gradient(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """Counts that were taken for gradients."""
    path, leaf = trees.first_leaf(params)
    refused_update(transformation, params, path, jnp.ones(leaf.shape, jnp.int32))


def a_complex_gradient_of_a_real_parameter(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """Its imaginary part would be lost."""
    path, leaf = trees.first_leaf(params)
    refused_update(transformation, params, path, jnp.ones(leaf.shape, jnp.complex64))


def gradients_of_another_tree(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """One leaf more than init saw."""
    extended = {"first": params, "added": jnp.ones(2)}
    state = transformation.init({"first": params})
    refused("a leaf more", ("added",), transformation.update, extended, state, extended)


def a_state_that_was_restored_as_a_dictionary(
    transformation: optax.GradientTransformation, params: Any
) -> None:
    """As checkpoint libraries return it unless they are told the structure."""
    state = transformation.init(params)
    leaves = jax.tree.leaves_with_path(state)
    restored = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    refused("it", ("state",), transformation.update, params, restored, params)


REFUSALS = (
    integer_parameters,
    boolean_parameters,
    random_keys_among_the_parameters,
    text_among_the_parameters,
    a_gradient_that_would_broadcast,
    an_integer_gradient,
    a_complex_gradient_of_a_real_parameter,
    gradients_of_another_tree,
    a_state_that_was_restored_as_a_dictionary,
)


def a_negative_beta(build: Callable[[Any], Any]) -> None:
    """It turns the momentum round."""
    refused("-0.5", ARGUMENT, build, -0.5)


def a_beta_of_one(build: Callable[[Any], Any]) -> None:
    """It never forgets: an integrator."""
    refused("1.0", ARGUMENT, build, 1.0)


def a_beta_above_one(build: Callable[[Any], Any]) -> None:
    """It diverges."""
    refused("1.5", ARGUMENT, build, 1.5)


def a_beta_of_nan(build: Callable[[Any], Any]) -> None:
    """All parameters become NaN."""
    refused("nan", ARGUMENT, build, float("nan"))


def a_beta_of_several_numbers(build: Callable[[Any], Any]) -> None:
    """It would broadcast against the last axis of the parameters."""
    refused("[0.8, 0.9]", ARGUMENT, lambda: build(jnp.asarray([0.8, 0.9])))


BAD_BETAS = (
    a_negative_beta,
    a_beta_of_one,
    a_beta_above_one,
    a_beta_of_nan,
    a_beta_of_several_numbers,
)


def refused_init(transformation: Any, params: Any, path: Any, leaf: Any) -> None:
    """Raises unless such a leaf among the parameters, or its first step, is refused."""
    bad = trees.replaced(params, path, leaf)

    def begin():
        transformation.update(params, transformation.init(bad), bad)

    refused("it", (jax.tree_util.keystr(path),), begin)


def refused_update(transformation: Any, params: Any, path: Any, leaf: Any) -> None:
    """Raises unless such a gradient is refused."""
    bad, state = trees.replaced(params, path, leaf), transformation.init(params)
    where = (jax.tree_util.keystr(path),)
    case = f"{leaf.dtype}{list(leaf.shape)}"
    refused(case, where, transformation.update, bad, state, params)


def refused(
    case: str, names: tuple[str, ...], call: Callable[..., Any], *arguments: Any
) -> None:
    """Raises AssertionError unless the call raises an error that has one of the names.

    Args:
      case: what is given, as the message names it.
      names: what tells where: the leaf's path, or the argument.
      call: what must refuse it.
      *arguments: of the call.
    """
    try:
        call(*arguments)
    except DoesNotApply:
        raise
    except Exception as error:
        message = f"{case} is refused without saying where: {summarize_error(error)}"
        expect(any(name in str(error) for name in names), message)
        return
    raise AssertionError(f"{case} is accepted")
