"""What was measured, a line a claim: an interrupted study goes on after the last."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

from experiments.records import runs
from experiments.records.config import UsageError
from experiments.records.plan import digest
from experiments.studies.lifecycle import OpenStudy

FILE_NAME = "claims.jsonl"
# What a line raises that is none.
_BROKEN = ValueError, TypeError, KeyError, AttributeError, RecursionError


class Record(NamedTuple):
    """A claim that has been measured, and what on."""

    claim: str
    plan_hash: str
    measured: dict[str, Any]  # JSON values
    versions: dict[str, str]
    device: str
    git_commit: str | None


def write(study: OpenStudy, claim: str, measured: dict[str, Any]) -> Record:
    """Adds a measured claim to the records, atomically; returns it as `read` does."""
    path = study.context.output / FILE_NAME
    device = jax.devices()[0]
    record = Record(
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


def read(study: OpenStudy) -> dict[str, Record]:
    """The claims that are finished, by their keys.

    Raises:
      UsageError: the file can't be read, or a line isn't a whole record of this plan,
        or isn't as it was written.
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
            record = Record(**values)
            if record.plan_hash != digest(study.plan):
                raise ValueError(f"it is of plan {record.plan_hash}")
        except _BROKEN as error:
            raise UsageError(
                f"{path}, line {number}, is not a whole record of this plan: {error}. "
                "Remove the line, or choose another --output."
            ) from None
        records[record.claim] = record
    return records


def provenance(records: Iterable[Record]) -> dict[str, list[str]]:
    """What the claims were measured on; an item with two entries marks mixed ones."""
    facts = [
        {
            "device": record.device,
            "commit": record.git_commit or "not run from a git checkout",
            **record.versions,
        }
        for record in records
    ]
    names = dict.fromkeys(name for fact in facts for name in fact)
    return {
        name: sorted({fact.get(name, "unknown") for fact in facts}) for name in names
    }
