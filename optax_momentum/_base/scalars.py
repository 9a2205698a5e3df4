"""Hyper-parameters that may be numbers, arrays, tracers or schedules of the step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike


def is_concrete(x: object) -> bool:
    """False for a tracer, whose value is unknown; numbers and arrays can be checked."""
    return not isinstance(x, Tracer)


def at_step(scalar_or_schedule: Any, step: ArrayLike) -> Any:
    """The value at `step`, of a schedule or of a scalar that never changes."""
    return (
        scalar_or_schedule(step) if callable(scalar_or_schedule) else scalar_or_schedule
    )


def checked(
    check: Callable[[Any], None], scalar_or_schedule: Any
) -> Callable[[ArrayLike], Any]:
    """Reads a hyper-parameter: a scalar is checked now, a schedule's values as read."""
    if not callable(scalar_or_schedule):
        check(scalar_or_schedule)

    def read(step: ArrayLike) -> Any:
        value = at_step(scalar_or_schedule, step)
        check(value)
        return widen(value)

    return read


def widen(x: Any) -> Any:
    """Casts arrays to float32 or wider, so that 1 − β keeps its digits.

    Python numbers stay as they are: what is computed with them is in float64.
    """
    if isinstance(x, int | float):
        return x
    return jnp.asarray(x, common_dtype(jnp.result_type(x), jnp.float32))


def select(condition: Any, on_true: ArrayLike, on_false: ArrayLike) -> Any:
    """One of two scalars; `condition` may be a bool, 0 or 1, or a tracer of these."""
    if is_concrete(condition):
        return on_true if condition else on_false
    dtype = common_dtype(jnp.result_type(on_true), jnp.result_type(on_false))
    chosen = (jnp.asarray(on_true, dtype), jnp.asarray(on_false, dtype))
    return jnp.where(jnp.asarray(condition, bool), *chosen)


def common_dtype(*dtypes: Any) -> Any:
    """The dtype that holds the values of all, promotion being asked for by name."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)
