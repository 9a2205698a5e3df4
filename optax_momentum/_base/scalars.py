"""Hyperparameters: each may be a number, an array, a tracer or a schedule."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike


def is_concrete(x: object) -> bool:
    """False for a tracer, whose value is unknown while JAX traces."""
    return not isinstance(x, Tracer)


def checked_schedule(
    check: Callable[[object], None], scalar_or_schedule: ArrayLike | optax.Schedule
) -> Callable[[ArrayLike], float | jax.Array]:
    """Turns a hyperparameter into a schedule whose values are checked and promoted.

    A scalar is checked at once; the values of a schedule whenever they are read.
    """
    if not callable(scalar_or_schedule):
        check(scalar_or_schedule)

    def value_at(step: ArrayLike) -> float | jax.Array:
        scalar = scalar_or_schedule
        value = scalar(step) if callable(scalar) else scalar
        check(value)
        return promote_scalar(value)

    return value_at


def promote_scalar(x: ArrayLike) -> float | jax.Array:
    """Casts an array scalar to float32 or wider, so that 1 − β keeps its digits.

    A Python number stays one, and arithmetic with it runs in float64.
    """
    if isinstance(x, int | float):
        return x
    return jnp.asarray(x, common_dtype(jnp.result_type(x), jnp.float32))


def select(condition: ArrayLike, on_true: ArrayLike, on_false: ArrayLike) -> ArrayLike:
    """Returns one of two scalars; `condition` is a bool, 0, 1, or a tracer of these."""
    if is_concrete(condition):
        return on_true if condition else on_false
    dtype = common_dtype(jnp.result_type(on_true), jnp.result_type(on_false))
    options = (jnp.asarray(on_true, dtype), jnp.asarray(on_false, dtype))
    return jnp.where(jnp.asarray(condition, bool), *options)


def common_dtype(*dtypes: DTypeLike) -> np.dtype:
    """Returns the dtype that holds the values of all, also under strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)
