"""What is asked of a bad input: to be refused; or else, what came of it."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum.testing import trees
from optax_momentum.testing.refusals import refused

BETA = 0.83


def expect_refused(names: tuple[str, ...], attempt: Callable[[], str]) -> None:
    """Raises AssertionError unless an error that has one of the names is raised.

    Args:
      names: what tells where: the argument, or the leaf's path.
      attempt: gives the bad input; returns what came of it if it was taken.
    """
    outcomes: list[str] = []
    try:
        refused("it", names, lambda: outcomes.append(attempt()))
    except AssertionError:
        if not outcomes:
            raise
        raise AssertionError(f"accepted: {outcomes[0]}") from None


def of_ones(transformation: optax.GradientTransformation) -> Any:
    """The updates of three steps, all of a gradient of 1."""
    params = jnp.zeros(())
    state = transformation.init(params)
    return trees.run(transformation.update, state, jnp.ones(3), params)[0]


def described(updates: Any) -> str:
    """What three gradients of 1 became."""
    numbers = [str(np.round(np.asarray(u, np.float64), 4).tolist()) for u in updates]
    return f"gradients of 1 give {', '.join(numbers)}"
