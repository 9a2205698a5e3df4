"""What one run is: a frozen record of every setting that its result depends on."""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeAlias

import numpy as np

# A JSON value. A recursive union would need a cast wherever one is read.
JSON: TypeAlias = Any

# What a run does about a step whose gradient, or whose result, is not finite. record:
# take it, and let the record show NaN, for divergence is a result. skip: leave out the
# whole step and count it. stop: end the run before the step.
Nonfinite = Literal["stop", "skip", "record"]


class UsageError(Exception):
    """A request that can't be fulfilled, in one line that names the remedy."""


@dataclass(frozen=True)
class Config:
    """One run: with the same code, equal configs give equal results."""

    dataset: str  # "digits", a name of tensorflow-datasets, or an .npz file's name
    data_digest: str  # of the arrays, so that a changed file is another data set
    arm: str  # key of `ARMS` or `STORAGES` in `optimizers.arms`, or a user's optimizer
    learning_rate: float  # as planned; an optimizer may derive its own from it
    beta: float  # share of the momentum buffer that a step keeps
    batch_size: int  # images in one step
    epochs: int  # passes over the training images
    seed: int  # of initial parameters and data order
    schedule: str = "constant"  # of the learning rate: a key of `SCHEDULES`
    network: str = "cnn"  # or a user's FILE.py:function
    code: str = ""  # digests of the user's files for network and optimizers
    fold: str = "hold-out"  # which images are trained on and which validate
    nonfinite: Nonfinite = "record"  # what to do about a gradient that is not finite
    test: bool = True  # whether the test images are read, after the last epoch
    augment: str = "none"  # how training examples vary: a key of `AUGMENTATIONS`
    label_smoothing: float = 0.0  # share of the target spread over all classes
    weight_decay: float = 0.0  # times the parameter, added to its gradient
    decay_kernels_only: bool = False  # whether leaves of fewer than two axes are spared

    def digest(self) -> str:
        """Sixteen hex digits that differ when any setting differs."""
        return digest(self.to_record())

    def to_record(self) -> dict[str, JSON]:
        """The settings under their names in files, which digests are made of."""
        return serialized(self, first=_FIRST)

    def later_settings(self) -> dict[str, JSON]:
        """The settings added after the first format, where they differ from defaults.

        The plan of a study names them.
        """
        record = self.to_record()
        return {name: record[name] for name in record if name not in _FIRST}

    @classmethod
    def from_record(cls, values: Mapping[str, JSON]) -> "Config":
        """The inverse of `to_record`, also for records without later settings."""
        return cls(**values)


# The settings of the first format. A setting added later is left out of records at its
# default, so that earlier digests stay what they are.
_FIRST = frozenset(
    "dataset data_digest arm learning_rate beta batch_size epochs seed schedule "
    "network code fold nonfinite test".split()
)


def serialized(
    record: Any,
    first: frozenset[str] = frozenset(),
    names: Mapping[str, str] | None = None,
) -> dict[str, JSON]:
    """A dataclass or NamedTuple under the names that its fields have in files.

    Args:
      record: what to write. A field that has a default is left out where it has it:
        such fields came later, and must not change the digests of earlier records.
      first: fields that are written although they have a default.
      names: the name in files of each field that is called otherwise in Python.
    """
    if isinstance(record, tuple):
        values: dict[str, JSON] = record._asdict()  # type: ignore[attr-defined]
        defaults = record._field_defaults  # type: ignore[attr-defined]
    else:
        values = asdict(record)
        defaults = {field.name: field.default for field in fields(record)}
    names = names or {}
    return {
        names.get(name, name): value
        for name, value in values.items()
        if name in first or name not in defaults or value != defaults[name]
    }


def digest(values: JSON) -> str:
    """Sixteen hex digits that differ when anything in a JSON value does."""
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def significant(value: float, digits: int) -> float:
    """The value rounded to so many significant digits.

    Rates are rounded before they are trained, so that a table shows what was trained.
    """
    return float(f"{value:.{digits}g}")


def rounded_rate(rate: float) -> float:
    """A computed learning rate to six digits, without the noise of 1 − β in binary."""
    return significant(rate, 6)


def recorded_digest(config: Config, finished: Collection[str] = ()) -> str:
    """The digest by which a finished run is found again.

    Some studies did not round their learning rates in format 1: `lr-decay` recorded
    0.009999999999999998 where it records 0.01 today. Both are one run.

    Args:
      config: of the run.
      finished: digests of finished runs. If one of them differs from this config only
        by 1 in the sixth digit of the learning rate, as numbers do that were rounded
        twice, it is returned.
    """
    rate = rounded_rate(config.learning_rate)
    last = 10.0 ** (math.floor(math.log10(rate)) - 5) if rate > 0 else 0.0
    digests = [
        replace(config, learning_rate=rounded_rate(rate + offset)).digest()
        for offset in (0.0, last, -last)[: 3 if finished else 1]
    ]
    return next((each for each in digests if each in finished), digests[0])


def earlier_configs(config: Config) -> list[Config]:
    """The config as format 1 may have had it, with its learning rate less rounded."""
    effective = float(f"{config.learning_rate / (1 - config.beta):.4g}")
    rate = effective * (1 - config.beta)
    rates = rate, float(f"{rate:.9g}")
    return [replace(config, learning_rate=rate) for rate in rates]


def check_at_least_one(
    option: str, value: int, what: str, most: int = 1_000_000
) -> None:
    """Raises `UsageError` for a count below 1, or one that nobody has time for."""
    if value < 1:
        raise UsageError(f"{option} must be at least 1, got {value}: {what}.")
    if value > most:
        raise UsageError(f"{option} must be at most {most}, got {value}: {what}.")


def check_save_every(seconds: float) -> None:
    """Raises `UsageError` unless the seconds between checkpoints are finite and ≥ 0."""
    if not 0 <= seconds < math.inf:
        raise UsageError(
            f"--save-every must be at least 0 and finite, got {seconds}: the seconds "
            "between the checkpoints of a run."
        )


def check_rate(option: str, rate: float, usual: str) -> None:
    """Raises `UsageError` for a learning rate that float32 turns into 0 or infinity.

    Within the bounds, α, α·(1 − β) and α/(1 − β) are finite and positive in float32 for
    every β that `check_beta` accepts.
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
    """The value with which runs are trained."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))
