"""What one run is: a frozen record of every setting that its result depends on."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

# What is done about a step whose gradient, or whose result, is not finite. record: it
# is taken, and its NaN stands in the record: that a rate diverges is a result. skip: it
# is left out, whole, and counted. stop: the run ends before it.
Nonfinite = Literal["stop", "skip", "record"]


class UsageError(Exception):
    """A wish that can't be fulfilled, told in one line that names the remedy."""


@dataclass(frozen=True)
class Config:
    """One run: with the same code, equal configs give equal results."""

    dataset: str  # "digits", a name of tensorflow-datasets, or an .npz file's name
    data_digest: str  # of the arrays themselves: a changed file is another data set
    arm: str  # a key of `ARMS` or `STORAGES` in `experiments.arms`, or a user's own
    learning_rate: float  # the plan's; an arm may derive its own from it
    beta: float  # retention of the momentum buffer
    batch_size: int  # images a step
    epochs: int  # passes over the training images
    seed: int  # of the initial parameters and of the data order
    schedule: str = "constant"  # of the learning rate: a key of `SCHEDULES`
    network: str = "cnn"  # or FILE.py:function of the user's
    code: str = ""  # digests of files that the user named, of network and arms
    fold: str = "hold-out"  # which images it is trained on and validated with
    nonfinite: Nonfinite = "record"  # what is done about a gradient that is not
    test: bool = True  # whether the test images are read, after the last epoch

    def digest(self) -> str:
        """Sixteen hex digits that differ when any setting differs."""
        return digest(asdict(self))


def digest(values: Any) -> str:
    """Sixteen hex digits that differ when anything in a JSON value does."""
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_at_least_one(
    option: str, value: int, what: str, most: int = 1_000_000
) -> None:
    """Raises `UsageError` for a count below 1, or one that nobody has time for."""
    if value < 1:
        raise UsageError(f"{option} must be at least 1, got {value}: {what}.")
    if value > most:
        raise UsageError(f"{option} must be at most {most}, got {value}: {what}.")


def check_save_every(seconds: float) -> None:
    """Raises `UsageError` for what is no time between two checkpoints."""
    if not 0 <= seconds < math.inf:
        raise UsageError(
            f"--save-every must be at least 0 and finite, got {seconds}: the seconds "
            "between the checkpoints of a run."
        )


def check_rate(option: str, rate: float, usual: str) -> None:
    """Raises `UsageError` for a rate that float32 can lose.

    Within the bounds neither it nor what is made of it, α·(1 − β) and α/(1 − β) of any
    β that `check_beta` takes, is 0 or infinite there.
    """
    if not 1e-30 <= rate <= 1e30:
        raise UsageError(f"{option} must lie in [1e-30, 1e+30], got {rate}; {usual}.")


def check_beta(option: str, beta: float) -> None:
    """Raises `UsageError` unless 0 ≤ β < 1 in float32, where 0.99999998 is 1."""
    if not 0 <= beta <= 0.9999999:
        raise UsageError(
            f"{option} must lie in [0, 0.9999999], got {beta}; 0.9 is the tutorial's."
        )


def in_float32(value: float) -> float:
    """The value as runs are trained with it."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))
