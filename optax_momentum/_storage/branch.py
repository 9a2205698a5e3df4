"""Work whose intermediate values are gone before the next work begins.

XLA:CPU plans all of a program's intermediate values side by side, however the program
is written. What a branch of a condition needs, it plans for that branch alone.
"""

from collections.abc import Callable
from typing import Any

import jax


def in_a_branch(taken: jax.Array, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind a condition that always holds when it is to be called.

    Its results must be of the arguments' shapes and dtypes. Where the two also lie
    differently on a mesh there is no branch, for its other side returns the arguments.
    """

    def kept(*arguments: Any) -> Any:
        return arguments

    def branched(*arguments: Any) -> Any:
        if jax.eval_shape(function, *arguments) != jax.eval_shape(kept, *arguments):
            return function(*arguments)
        return jax.lax.cond(taken, function, kept, *arguments)

    return branched
