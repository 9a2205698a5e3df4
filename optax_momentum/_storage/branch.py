"""Wrap work in a conditional, to save memory on XLA's CPU backend.

XLA:CPU allocates the intermediate values of a whole program at the same time, in
whatever order they are computed. The values inside a branch of `jax.lax.cond` are
allocated for that branch only, so branches that run one after another share memory.
"""

from collections.abc import Callable
from typing import Any

import jax


def as_cond_branch(
    always_true: jax.Array, function: Callable[..., Any]
) -> Callable[..., Any]:
    """Wraps the function in the true branch of a `jax.lax.cond`.

    The false branch, which never runs, returns the arguments. So there is a branch only
    if the results have the types of the arguments, including their sharding on a mesh;
    otherwise the function is called directly.

    Args:
      always_true: a predicate that always holds, but which the compiler can't prove.
      function: returns a tuple like its arguments.
    """

    def identity(*arguments: Any) -> Any:
        return arguments

    def run(*arguments: Any) -> Any:
        if jax.eval_shape(function, *arguments) != jax.eval_shape(identity, *arguments):
            return function(*arguments)
        return jax.lax.cond(always_true, function, identity, *arguments)

    return run
