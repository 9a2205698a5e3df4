"""Measured claims, one line each: an interrupted study resumes after the last line."""

import json
from typing import NamedTuple

import jax

from experiments.records import runs
from experiments.records.config import JSON, UsageError
from experiments.records.plan import digest
from experiments.studies.lifecycle import OpenStudy

FILE_NAME = "claims.jsonl"
# What parsing raises on a line that is not a record.
_BROKEN = ValueError, TypeError, KeyError, AttributeError, RecursionError


class ClaimRecord(NamedTuple):
    """The measurements of a claim, and the machine and versions behind them."""

    claim: str
    plan_hash: str
    measured: dict[str, JSON]  # JSON values
    versions: dict[str, str]
    device: str
    git_commit: str | None


def write(study: OpenStudy, claim: str, measured: dict[str, JSON]) -> ClaimRecord:
    """Appends a measured claim to the file, atomically; returns it as `read` does."""
    path = study.context.output / FILE_NAME
    device = jax.devices()[0]
    record = ClaimRecord(
        claim,
        digest(study.plan),
        measured,
        runs.environment(),
        f"{device.platform}: {device.device_kind}",
        runs.git_commit(),
    )
    recorded = path.read_bytes() if path.exists() else b""
    values = json.loads(runs.to_json(record._asdict()))
    line = json.dumps({"hash": digest(values), **values})
    runs.write_atomically(path, recorded + f"{line}\n".encode())
    return read(study)[claim]


def read(study: OpenStudy) -> dict[str, ClaimRecord]:
    """The finished claims, by key.

    Raises:
      UsageError: the file can't be read, or a line is incomplete, was changed, or
        belongs to another plan.
    """
    path = study.context.output / FILE_NAME
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from None
    records = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            if values.pop("hash") != digest(values):
                raise ValueError(f"it hashes to {digest(values)}")
            record = ClaimRecord(**values)
            if record.plan_hash != digest(study.plan):
                raise ValueError(f"it belongs to plan {record.plan_hash}")
        except _BROKEN as error:
            raise UsageError(
                f"{path}, line {number}, is not a complete record of this plan: "
                f"{error}. Remove the line, or choose another --output."
            ) from None
        records[record.claim] = record
    return records
