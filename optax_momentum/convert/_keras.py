"""Conversion between the variables of `keras.optimizers.SGD` and a state of `keras`."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum._base.boxes import unboxed
from optax_momentum._base.placement import conform_to
from optax_momentum._methods.conventions import keras
from optax_momentum._methods.momentum import MomentumState
from optax_momentum.convert._arrays import (
    Layouts,
    Names,
    check_keys,
    from_arrays,
    to_arrays,
)


def from_keras(
    variables: Sequence[object],
    params: optax.Params,
    names: Names,
    layout: Layouts | None = None,
    *,
    beta: float,
) -> MomentumState:
    """Converts the variables of `keras.optimizers.SGD` to a state of `keras`.

    The conversion is exact: `keras` then continues the run.

    Args:
      variables: `optimizer.variables`: the iteration, the learning rate, and one
        velocity per trainable variable, in this order. Under a schedule, Keras omits
        the learning rate; insert `optimizer.learning_rate` there.
      params: the parameters in JAX, or their `jax.ShapeDtypeStruct`s. The buffer gets
        their structure, shapes, dtypes and shardings.
      names: maps the position of every velocity, counted from 0, to the path of its
        leaf, such as "conv/kernel" or ("conv", "kernel"), or to None if `params` lacks
        it.
      layout: as for `from_arrays`; None, because Keras and JAX store kernels alike.
      beta: Keras's momentum. Only the state's `weight`, which debiasing reads, depends
        on it. The weight assumes a constant learning rate.

    Returns:
      A state whose step is Keras's iteration.

    Raises:
      ValueError: as for `from_arrays`; variables does not start with iteration and
        learning rate; beta is outside [0, 1).
      TypeError: NumPy cannot read a variable.

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
    variables: Sequence[object],
    names: Names,
    layout: Layouts | None = None,
) -> list[np.ndarray]:
    """Converts a state to values for `optimizer.variables`; inverse of `from_keras`.

    Args:
      state: a state of `keras`; convert that of another convention with
        `momentum_state`.
      variables: the variables of the built Keras optimizer, as for `from_keras`. Its
        learning rate and the velocities that `names` maps to None are returned
        unchanged.
      names: as for `from_keras`.
      layout: as for `from_keras`.

    Returns:
      The iteration, the learning rate and the velocities, as NumPy arrays.

    Raises:
      ValueError: as for `from_keras`.
    """
    velocities = _split(variables)[2]
    check_keys(names, velocities)
    iteration, learning_rate = map(np.asarray, variables[:2])
    ours = to_arrays(state.buffer, names, layout)
    values = {i: np.asarray(velocity) for i, velocity in velocities.items()} | ours
    step = np.asarray(unboxed(state.step), iteration.dtype)
    return [step, learning_rate, *values.values()]


def _split(variables: Sequence[object]) -> tuple[int, float, dict[int, object]]:
    """Iteration, learning rate, and the velocities by position."""
    scalars = [np.asarray(variable) for variable in variables[:2]]
    types = [scalar.dtype for scalar in scalars if scalar.shape == ()]
    if len(types) < 2 or not (
        jnp.issubdtype(types[0], jnp.integer) and jnp.issubdtype(types[1], jnp.floating)
    ):
        raise ValueError(
            "variables must start with the iteration, an integer, and the learning "
            f"rate, got {scalars}. Under a schedule, insert `optimizer.learning_rate`."
        )
    iteration, learning_rate = scalars
    return int(iteration), float(learning_rate), dict(enumerate(variables[2:]))
