"""Refusals: bad inputs that must raise an error, because silence would ruin a run.

Any exception counts as a refusal if its message names the path of the leaf or the
argument.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum.testing import trees
from optax_momentum.testing._verdicts import (
    DoesNotApply,
    Result,
    expect,
    judge,
    summarize_error,
)

ARGUMENT = ("beta", "momentum", "decay")  # the names that libraries give to β


def check_refusals(
    transformation: optax.GradientTransformation, params: optax.Params | None = None
) -> tuple[Result, ...]:
    """Checks that a transformation rejects inputs that it cannot compute with.

    Args:
      transformation: the transformation to check.
      params: a tree of floating-point arrays; by default three small arrays.

    Returns:
      One `Result` per bad input.
    """
    params = trees.default_params() if params is None else params
    return judge(REFUSALS, transformation, params)


def check_bad_beta(build: Callable[[ArrayLike], object]) -> tuple[Result, ...]:
    """Checks that a method rejects invalid values of β.

    Args:
      build: maps β to the method. A refusal is an error that names the argument.

    Returns:
      One `Result` per invalid value.

    >>> from optax_momentum import ema
    >>> all(result.passed for result in check_bad_beta(ema))
    True
    """
    return judge(BAD_BETAS, build)


def integer_parameters(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Updates of integers round to zero, so the parameters would never move."""
    path, leaf = trees.largest_leaf(params)
    refused_init(transformation, params, path, jnp.ones(leaf.shape, jnp.int32))


def boolean_parameters(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """A flag has no momentum."""
    path, leaf = trees.largest_leaf(params)
    refused_init(transformation, params, path, jnp.ones(leaf.shape, bool))


def random_keys_among_the_parameters(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Nothing can be added to a random key."""
    path, _ = trees.largest_leaf(params)
    refused_init(transformation, params, path, jax.random.key(0))


def text_among_the_parameters(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """A name may have been left in the tree."""
    path, _ = trees.largest_leaf(params)
    refused_init(transformation, params, path, "relu")


def a_gradient_that_would_broadcast(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Shapes (1, 1) and (n, m) broadcast when added, which is never intended."""
    path, leaf = trees.largest_leaf(params)
    refused_update(transformation, params, path, jnp.ones((1,) * leaf.ndim))


def an_integer_gradient(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Integers are not gradients; they may be counts."""
    path, leaf = trees.largest_leaf(params)
    refused_update(transformation, params, path, jnp.ones(leaf.shape, jnp.int32))


def a_complex_gradient_of_a_real_parameter(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Its imaginary part would be lost."""
    path, leaf = trees.largest_leaf(params)
    refused_update(transformation, params, path, jnp.ones(leaf.shape, jnp.complex64))


def gradients_of_another_tree(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """The gradients have one leaf more than the parameters given to `init`."""
    extended = {"first": params, "added": jnp.ones(2)}
    state = transformation.init({"first": params})
    refused("a leaf more", ("added",), transformation.update, extended, state, extended)


def a_state_that_was_restored_as_a_dictionary(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Checkpoint libraries return a dictionary unless given the structure."""
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


def a_negative_beta(build: Callable[[ArrayLike], object]) -> None:
    """It would reverse the momentum at every step."""
    refused("-0.5", ARGUMENT, build, -0.5)


def a_beta_of_one(build: Callable[[ArrayLike], object]) -> None:
    """The buffer would never forget a gradient."""
    refused("1.0", ARGUMENT, build, 1.0)


def a_beta_above_one(build: Callable[[ArrayLike], object]) -> None:
    """The buffer would diverge."""
    refused("1.5", ARGUMENT, build, 1.5)


def a_beta_of_nan(build: Callable[[ArrayLike], object]) -> None:
    """All parameters would become NaN."""
    refused("nan", ARGUMENT, build, float("nan"))


def a_beta_of_several_numbers(build: Callable[[ArrayLike], object]) -> None:
    """It would broadcast against the last axis of the parameters."""
    refused("[0.8, 0.9]", ARGUMENT, lambda: build(jnp.asarray([0.8, 0.9])))


BAD_BETAS = (
    a_negative_beta,
    a_beta_of_one,
    a_beta_above_one,
    a_beta_of_nan,
    a_beta_of_several_numbers,
)


def refused_init(
    transformation: optax.GradientTransformation,
    params: optax.Params,
    path: jax.tree_util.KeyPath,
    leaf: Any,
) -> None:
    """Raises unless `init` or the first `update` refuses this leaf as a parameter."""
    bad = trees.replaced(params, path, leaf)

    def init_and_update():
        transformation.update(params, transformation.init(bad), bad)

    refused("it", (jax.tree_util.keystr(path),), init_and_update)


def refused_update(
    transformation: optax.GradientTransformation,
    params: optax.Params,
    path: jax.tree_util.KeyPath,
    leaf: Any,
) -> None:
    """Raises unless `update` refuses this leaf as a gradient."""
    bad, state = trees.replaced(params, path, leaf), transformation.init(params)
    where = (jax.tree_util.keystr(path),)
    case = f"{leaf.dtype}{list(leaf.shape)}"
    refused(case, where, transformation.update, bad, state, params)


def refused(
    case: str, names: tuple[str, ...], call: Callable[..., object], *arguments: object
) -> None:
    """Raises AssertionError unless the call raises an error with one of the names.

    Args:
      case: the bad input, as the message names it.
      names: alternative names that the error must mention: the leaf's path, or the
        argument.
      call: the function that must raise the error.
      *arguments: the arguments of the call.
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
