"""The variables of `keras.optimizers.SGD` as a state of `keras`, and back."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum._base.placement import conform_to
from optax_momentum._methods.conventions import keras
from optax_momentum._methods.momentum import MomentumState
from optax_momentum.convert.arrays import (
    Layouts,
    Names,
    check_keys,
    from_arrays,
    to_arrays,
)


def from_keras(
    variables: Sequence[Any],
    params: optax.Params,
    names: Names,
    layout: Layouts | None = None,
    *,
    beta: float,
) -> MomentumState:
    """The state in which `keras` continues a run of `keras.optimizers.SGD`. Exact.

    Args:
      variables: `optimizer.variables`: the iteration, the learning rate, and a velocity
        for each trainable variable, in their order. Under a schedule Keras has no
        learning rate there: insert `optimizer.learning_rate`.
      params: the parameters in JAX, or their `jax.ShapeDtypeStruct`s; the buffer gets
        their structure, shapes, dtypes and shardings.
      names: maps the place of every velocity, from 0 on, to the path of its leaf, such
        as "conv/kernel" or ("conv", "kernel"); to None what `params` does not hold.
      layout: as for `from_arrays`; None, since Keras and JAX store kernels alike.
      beta: Keras's momentum. The buffer does not depend on it; the state's `weight`,
        which debiasing reads, does, and is that of a constant learning rate.

    Returns:
      A state at the step of Keras's iteration.

    Raises:
      ValueError: as `from_arrays`; variables that do not begin with iteration and
        learning rate; beta outside [0, 1).
      TypeError: a variable that NumPy cannot read.

    >>> import jax.numpy as jnp
    >>> variables = [3, 0.5, jnp.ones((2, 1))]
    >>> from_keras(variables, {"dense": jnp.zeros((2, 1))}, {0: "dense"}, beta=0.5)
    MomentumState(step=Array(3, dtype=int32), buffer={'dense': Array([[1.],
           [1.]], dtype=float32)}, weight=Array(-0.875, dtype=float32))
    """
    iteration, learning_rate, velocities = _split(variables)
    state: Any = keras(learning_rate, beta).init(params)
    weight = -learning_rate * (1 - beta**iteration) / (1 - beta)
    return MomentumState(
        step=conform_to(state.step, jnp.asarray(iteration)),
        buffer=from_arrays(velocities, state.buffer, names, layout),
        weight=conform_to(state.weight, jnp.asarray(weight, jnp.float32)),
    )


def to_keras(
    state: MomentumState,
    variables: Sequence[Any],
    names: Names,
    layout: Layouts | None = None,
) -> list[np.ndarray]:
    """The inverse of `from_keras`: values to assign to `optimizer.variables` in turn.

    Args:
      state: of `keras`; of another convention, by way of `momentum_state`.
      variables: of the built Keras optimizer, as for `from_keras`; its learning rate,
        and the velocities that `names` maps to None, stay as they are.
      names: as for `from_keras`.
      layout: as for `from_keras`.

    Returns:
      The iteration, the learning rate, and the velocities as NumPy arrays.

    Raises:
      ValueError: as `from_keras`.
    """
    velocities = _split(variables)[2]
    check_keys(names, velocities)
    iteration, learning_rate = map(np.asarray, variables[:2])
    ours = to_arrays(state.buffer, names, layout)
    values = {place: np.asarray(theirs) for place, theirs in velocities.items()} | ours
    return [np.asarray(state.step, iteration.dtype), learning_rate, *values.values()]


def _split(variables: Sequence[Any]) -> tuple[int, float, dict[int, Any]]:
    """Iteration, learning rate, and the velocities by their places."""
    scalars = [np.asarray(variable) for variable in variables[:2]]
    types = [scalar.dtype for scalar in scalars if scalar.shape == ()]
    if len(types) < 2 or not (
        jnp.issubdtype(types[0], jnp.integer) and jnp.issubdtype(types[1], jnp.floating)
    ):
        raise ValueError(
            "variables must begin with the iteration, an integer, and the learning "
            f"rate, got {scalars}. Under a schedule, insert `optimizer.learning_rate`."
        )
    iteration, learning_rate = scalars
    return int(iteration), float(learning_rate), dict(enumerate(variables[2:]))
