"""Verdicts on promises: kept, broken for a reason, or not applicable."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike


class Result(NamedTuple):
    """The verdict on one promise."""

    name: str  # the promise in words
    passed: bool | None  # None if it does not apply
    detail: str = ""  # how it was broken, or why it does not apply


class DoesNotApply(Exception):
    """Raised by a promise that its subject never made; the message says why."""


def judge(
    promises: Iterable[Callable[..., None]], *arguments: object
) -> tuple[Result, ...]:
    """Calls every promise with the arguments and collects the verdicts.

    Args:
      promises: functions that raise an exception if their promise is broken. The
        function's name becomes the name of the result.
      *arguments: the arguments of each call.

    Returns:
      One `Result` per promise, in order.
    """
    return tuple(_judge(promise, arguments) for promise in promises)


def name_of(promise: Callable[..., None]) -> str:
    """The promise in words: the function's name with spaces."""
    return getattr(promise, "__name__", str(promise)).replace("_", " ")


def _judge(promise: Callable[..., None], arguments: tuple[object, ...]) -> Result:
    name = name_of(promise)
    try:
        promise(*arguments)
    except DoesNotApply as reason:
        return Result(name, None, str(reason))
    except AssertionError as broken:
        return Result(name, False, str(broken))
    except Exception as error:  # any other exception breaks the promise too
        return Result(name, False, f"raises {summarize_error(error)}")
    return Result(name, True)


def summarize_error(error: Exception) -> str:
    """One short line: the error's type and the first sentence of its message."""
    message = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    message = f"{message[:157]}…" if len(message) > 158 else message
    return f"{type(error).__name__}: {message}"


def expect(condition: object, message: str) -> None:
    """Raises AssertionError with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def expect_same_bits(what: str, got: object, want: object) -> None:
    """Raises AssertionError unless two trees have equal structure, types and values.

    NaN equals NaN, and −0 equals 0.

    Args:
      what: the start of the message.
      got: a tree of arrays.
      want: the expected tree.
    """
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


def expect_close(what: str, got: ArrayLike, want: ArrayLike, tolerance: float) -> None:
    """Raises AssertionError unless |got − want| ≤ tolerance·max |want| everywhere.

    Args:
      what: the start of the message.
      got: an array of shape [steps, ...].
      want: the expected array, of the same shape.
      tolerance: the tolerance relative to the largest magnitude in `want`.
    """
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    expect(got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}")
    wrong = ~(np.abs(got - want) <= tolerance * np.max(np.abs(want), initial=0.0))
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0])
        numbers = f"{got[first]:.6g} instead of {want[first]:.6g}"
        raise AssertionError(f"{what}: at step {int(first[0]) + 1} {numbers}")
