"""Files of results: strict JSON in a versioned format, written whole or not at all."""

import json
import math
import os
from pathlib import Path

from experiments.records.config import UsageError

# The version of `plan.json`, `runs.jsonl` and checkpoints. Files of format 1 name none;
# `plan`, `runs` and `training.checkpoints` read them too.
FORMAT = 2


def to_json(value: object, indent: int | None = None) -> str:
    """Strict JSON, one line unless indented; NaN and the infinities become null."""
    return json.dumps(_finite(value), allow_nan=False, indent=indent)


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file as a whole: a reader, or a crash, sees the old or the new one.

    Raises:
      UsageError: it can't be written; the old file stays as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
