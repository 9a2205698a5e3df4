"""What came of a promise: kept, broken with a reason, or one that does not apply."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np


class Result(NamedTuple):
    """What came of one promise."""

    name: str  # the promise in words
    passed: bool | None  # None where it does not apply
    detail: str = ""  # how it was broken, or why it does not apply


class DoesNotApply(Exception):
    """Raised by a promise that what it is asked of never gave; says why."""


def judge(
    promises: Iterable[Callable[..., None]], *arguments: Any
) -> tuple[Result, ...]:
    """Calls every promise with the arguments; an exception is a broken promise.

    Args:
      promises: functions that raise where their promise is broken; each is named by
        its own name.
      *arguments: what they are called with.

    Returns:
      One `Result` a promise, in their order.
    """
    return tuple(_judge(promise, arguments) for promise in promises)


def name_of(promise: Callable[..., None]) -> str:
    """The promise in words."""
    return getattr(promise, "__name__", str(promise)).replace("_", " ")


def _judge(promise: Callable[..., None], arguments: tuple[Any, ...]) -> Result:
    name = name_of(promise)
    try:
        promise(*arguments)
    except DoesNotApply as reason:
        return Result(name, None, str(reason))
    except AssertionError as broken:
        return Result(name, False, str(broken))
    except Exception as error:  # whatever the transformation raises is its answer
        return Result(name, False, f"raises {summarize_error(error)}")
    return Result(name, True)


def summarize_error(error: Exception) -> str:
    """The error's type and the first sentence of its message, in one short line."""
    message = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    message = f"{message[:157]}…" if len(message) > 158 else message
    return f"{type(error).__name__}: {message}"


def expect(condition: Any, message: str) -> None:
    """Raises AssertionError with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def expect_same_bits(what: str, got: Any, want: Any) -> None:
    """Raises unless two trees are of one structure, one type and one value."""
    structures = jax.tree.structure(got), jax.tree.structure(want)
    message = f"{what}: the tree {structures[0]} instead of {structures[1]}"
    expect(structures[0] == structures[1], message)
    for (path, a), b in zip(
        jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        where = f"{what}{jax.tree_util.keystr(path)}"
        a, b = np.asarray(a), np.asarray(b)
        types = f"{a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}"
        expect((a.dtype, a.shape) == (b.dtype, b.shape), f"{where}: {types}")
        different = ~((a == b) | ((a != a) & (b != b)))
        if different.any():
            by = np.max(np.abs(a[different].astype(complex) - b[different]))
            count = f"{different.sum()} of {a.size} numbers differ"
            raise AssertionError(f"{where}: {count}, by at most {by:.1e}")


def expect_close(what: str, got: Any, want: Any, tolerance: float) -> None:
    """Raises unless |got − want| ≤ tolerance·max |want| everywhere.

    Args:
      what: begins the message.
      got: an array whose first axis are the steps.
      want: one of the same shape.
      tolerance: relative to the largest number of `want`.
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    expect(got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}")
    wrong = ~(np.abs(got - want) <= tolerance * np.max(np.abs(want), initial=0.0))
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0])
        numbers = f"{got[first]:.6g} instead of {want[first]:.6g}"
        raise AssertionError(f"{what}: at step {int(first[0]) + 1} {numbers}")
