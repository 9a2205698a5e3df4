"""Lists of values on the command line: not empty, without twins, each one possible."""

from collections.abc import Sequence

from experiments.records.config import UsageError, check_beta, check_rate, in_float32


def check_betas(values: Sequence[float]) -> None:
    """Raises `UsageError` unless `--betas` are some different values in [0, 1)."""
    check_different("--betas", values, "0.9 0.99")
    for value in values:
        check_beta("--betas", value)


def check_rates(values: Sequence[float]) -> None:
    """Raises `UsageError` unless `--effective-rates` are different and positive."""
    check_different("--effective-rates", values, "0.1 0.2")
    usual = "0.1 is the tutorial's, of learning rate 0.01 and beta 0.9"
    for value in values:
        check_rate("--effective-rates", value, usual)


def check_different(option: str, values: Sequence[float], example: str) -> None:
    """Raises `UsageError` for no values, or two that are one, in float32."""
    if not values:
        raise UsageError(f"{option} is empty; name values, such as {option} {example}.")
    seen: dict[float, float] = {}
    for value in values:
        rounded = value if isinstance(value, int) else in_float32(value)
        if rounded in seen:
            raise UsageError(
                f"{option} names {seen[rounded]} twice"
                + (f", as {value}" if value != seen[rounded] else "")
                + "; name each value once."
            )
        seen[rounded] = value
