"""Lists of values on the command line: not empty, without twins, each one possible."""

import math
from collections.abc import Sequence

import numpy as np

from experiments.config import UsageError


def check_betas(values: Sequence[float]) -> None:
    """Raises `UsageError` unless `--betas` are some different values in [0, 1)."""
    check_different("--betas", values, "0.9 0.99")
    for value in values:
        if not 0 <= _rounded(value) < 1:
            raise UsageError(
                f"--betas must lie in [0, 1), got {value}; 0.9 is the tutorial's."
            )


def check_rates(values: Sequence[float]) -> None:
    """Raises `UsageError` unless `--effective-rates` are different and positive."""
    check_different("--effective-rates", values, "0.1 0.2")
    for value in values:
        if not 0 < _rounded(value) < math.inf:
            raise UsageError(
                f"--effective-rates must be above 0 and finite, got {value}; 0.1 is "
                "the tutorial's, of learning rate 0.01 and beta 0.9."
            )


def check_different(option: str, values: Sequence[float], example: str) -> None:
    """Raises `UsageError` for no values, or two that are one, in float32."""
    if not values:
        raise UsageError(f"{option} is empty; name values, such as {option} {example}.")
    seen: dict[float, float] = {}
    for value in values:
        rounded = _rounded(value)
        if rounded in seen:
            raise UsageError(
                f"{option} names {seen[rounded]} twice"
                + (f", as {value}" if value != seen[rounded] else "")
                + "; name each value once."
            )
        seen[rounded] = value


def _rounded(value: float) -> float:
    """In float32, as runs are trained; counts as they are."""
    if isinstance(value, int):
        return value
    with np.errstate(over="ignore"):
        return float(np.float32(value))
