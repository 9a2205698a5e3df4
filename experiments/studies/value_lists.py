"""Checks of the options that say what a study tries: values, and how many."""

from collections.abc import Collection, Sequence

from experiments.records.config import (
    UsageError,
    check_at_least_one,
    check_beta,
    check_rate,
    in_float32,
)


def check_different(option: str, values: Sequence[float | str], example: str) -> None:
    """Raises `UsageError` for an empty list, or for two values equal in float32."""
    if not values:
        raise UsageError(f"{option} is empty; name values, such as {option} {example}.")
    first_named: dict[float | str, float | str] = {}
    for value in values:
        trained = in_float32(value) if isinstance(value, float) else value
        if trained in first_named:
            first = first_named[trained]
            raise UsageError(
                f"{option} names {first} twice"
                + (f", as {value}" if value != first else "")
                + "; name each value once."
            )
        first_named[trained] = value


def check_names(option: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raises `UsageError` unless the names are different and all of them known."""
    check_different(option, names, " ".join(list(known)[:2]))
    for name in names:
        if name not in known:
            raise UsageError(
                f"{option} has no {name!r}; choose from {', '.join(known)}."
            )


def check_betas(values: Sequence[float]) -> None:
    """Raises `UsageError` unless `--betas` are different values in [0, 1)."""
    check_different("--betas", values, "0.9 0.99")
    for value in values:
        check_beta("--betas", value)


def check_rates(values: Sequence[float], *, extensible: bool = False) -> None:
    """Raises `UsageError` unless `--effective-rates` are different and positive.

    Args:
      values: the rates.
      extensible: whether more rates may follow, which takes two to begin with.
    """
    check_different("--effective-rates", values, "0.1 0.2")
    usual = "0.1 is the tutorial's, of learning rate 0.01 and beta 0.9"
    for value in values:
        check_rate("--effective-rates", value, usual)
    if extensible and len(values) < 2:
        raise UsageError(
            f"--effective-rates names {values[0]} alone; name at least two: if the "
            "first or the last is the best, more follow beyond it."
        )


def check_batch_sizes(sizes: Sequence[int]) -> None:
    """Raises `UsageError` unless `--batch-sizes` are different and at least 1."""
    check_different("--batch-sizes", sizes, "64 512")
    for size in sizes:
        check_at_least_one("--batch-sizes", size, "the images of a step")


def check_folds(option: str, count: int) -> None:
    """Raises `UsageError` for fewer than two folds."""
    if count < 2:
        raise UsageError(
            f"{option} must be at least 2, got {count}: each fold validates runs that "
            "train on the others."
        )


def check_tuning(tuning_seeds: int, extensions: int = 0) -> None:
    """Raises `UsageError` for impossible numbers of tuning runs and extensions."""
    check_at_least_one("--tuning-seeds", tuning_seeds, "the runs of each trial", 1_000)
    if extensions < 0:
        raise UsageError(
            f"--extensions must be at least 0, got {extensions}: how many times the "
            "values to try may be extended."
        )
