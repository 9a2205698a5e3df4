"""Finished runs: records in `runs.jsonl` that are written whole or not at all."""

import json
import math
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, Protocol

from experiments.records.config import JSON, Config, UsageError, digest, serialized
from experiments.records.files import FORMAT, to_json, write_atomically

FILE_NAME = "runs.jsonl"
# What a line that is no record may raise.
_BROKEN = ValueError, TypeError, AttributeError, OverflowError, RecursionError


class Epoch(NamedTuple):
    """Means over all images of a split, after one pass over the training images.

    Training figures are scored batch by batch, each before the step that uses it.
    """

    train_loss: float
    train_metric: float
    validation_loss: float
    validation_metric: float


@dataclass(frozen=True)
class Run:
    """One finished run: its settings, its results and what it ran on."""

    config: Config
    config_hash: str
    epochs: tuple[Epoch, ...]
    test_loss: float  # NaN where `config.test` is false
    test_metric: float  # likewise
    seconds: float  # training, validation and test; compilation excluded
    seconds_with_compilation: float
    images_per_second: float  # training epochs only
    skipped_steps: int  # left out where `config.nonfinite` is skip
    resumed: int  # times resumed from a checkpoint
    startup_check: dict[str, float]  # result of the check before the first run
    versions: dict[str, str]
    device: str
    git_commit: str | None
    devices: int | None = None  # of all processes; None where it wasn't recorded
    metric: str = "accuracy"  # its name: `Metric.name` of the problem


def _names(metric: str) -> dict[str, str]:
    """The name in files of each field that is called otherwise in Python."""
    names = {"startup_check": "canary"}
    if metric != "loss":  # whose name the loss itself has
        splits = ("train", "validation", "test")
        names |= {f"{split}_metric": f"{split}_{metric}" for split in splits}
    return names


class Traced(Protocol):
    """A record that says what it was measured on: a run, or a claim of a study."""

    @property
    def device(self) -> str: ...
    @property
    def git_commit(self) -> str | None: ...
    @property
    def versions(self) -> dict[str, str]: ...


def record(output: Path, *finished: Run) -> None:
    """Appends runs to the records in `output`, atomically; only within `plan.hold`."""
    path = output / FILE_NAME
    lines = b"".join(f"{_line(run)}\n".encode() for run in finished)
    recorded = path.read_bytes() if path.exists() else b""
    write_atomically(path, recorded + lines)


def _line(run: Run) -> str:
    names = _names(run.metric)
    epochs = [
        {names.get(field, field): value for field, value in epoch._asdict().items()}
        for epoch in run.epochs
    ]
    named = {**serialized(run, names=names), "config": run.config.to_record()}
    values = json.loads(to_json({"format": FORMAT, **named, "epochs": epochs}))
    return to_json({"hash": digest(values), **values})


def read(output: Path) -> tuple[Run, ...]:
    """All runs recorded in `output`, oldest first; none if there is no record yet.

    Raises:
      UsageError: the file can't be read, or a line isn't a whole record of this
        program, or repeats another one; with the file and the line's number.
    """
    path = output / FILE_NAME
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> tuple[Run, ...]:
    """The runs of a file's content, oldest first.

    Raises:
      UsageError: as `read`.
    """
    lines = content.split(b"\n")
    runs: dict[str, Run] = {}
    # After the last record's newline nothing follows; anything there is half a line.
    for number, line in enumerate(lines if lines[-1] else lines[:-1], start=1):
        try:
            run = _from_json(line)
            if run.config_hash in runs:
                raise ValueError(f"it repeats run {run.config_hash}")
        except _BROKEN as error:
            raise UsageError(
                f"{path}, line {number}, is not a whole record of this program: "
                f"{error}. Repair or remove the line, or choose another --output."
            ) from None
        runs[run.config_hash] = run
    return tuple(runs.values())


def provenance(runs: Sequence[Traced]) -> dict[str, list[str]]:
    """What the runs ran on; an item with two entries marks mixed runs."""
    facts = [
        {
            "device": run.device,
            "commit": run.git_commit or "not run from a git checkout",
            **run.versions,
            **_device_count(run),
        }
        for run in runs
    ]
    names = dict.fromkeys(name for fact in facts for name in fact)
    return {
        name: sorted({fact.get(name, "unknown") for fact in facts}) for name in names
    }


def _device_count(run: Traced) -> dict[str, str]:
    """The number of devices, in records that have it."""
    count = run.devices if isinstance(run, Run) else None
    return {} if count is None else {"devices": str(count)}


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    packages = ("jax", "jaxlib", "optax", "flax", "numpy", "optax_momentum")
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def git_commit() -> str | None:
    """The commit of this source checkout, "-dirty" behind it if files were changed.

    None outside git. Only the checkout's own repository counts, not one around it.
    """
    root = Path(__file__).parents[2]
    command = "git --no-optional-locks --git-dir .git describe --always --dirty"
    try:
        described = subprocess.run(
            [*command.split(), "--abbrev=40", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip() or None


def _from_json(line: bytes) -> Run:
    """The inverse of `_line`, except that the infinities come back as NaN.

    Lines of format 1 have no "format", and the same fields otherwise.

    Raises:
      ValueError, or another of `_BROKEN`: it is no record, or was altered.
    """
    values = json.loads(line)
    if not isinstance(values, dict) or "hash" not in values:
        raise ValueError("its fields are not those of a run")
    if values.pop("hash") != digest(values):
        raise ValueError(f"it hashes to {digest(values)}")
    if values.pop("format", 1) not in range(1, FORMAT + 1):
        raise ValueError("a newer version of this program wrote it")
    renamed = _names(values.get("metric", "accuracy"))
    names = {renamed.get(field.name, field.name): field for field in fields(Run)}
    required = {n for n, field in names.items() if field.default is MISSING}
    if not required <= values.keys() <= names.keys():
        raise ValueError("its fields are not those of a run")
    config = Config.from_record(values["config"])
    if config.digest() != values["config_hash"]:
        raise ValueError(f"its config hashes to {config.digest()}")
    keys = [renamed.get(field, field) for field in Epoch._fields]
    if any(epoch.keys() != {*keys} for epoch in values["epochs"]):
        raise ValueError("its fields are not those of an epoch")
    epochs = [
        Epoch(*(_number(epoch[key]) for key in keys)) for epoch in values["epochs"]
    ]
    read: dict[str, JSON] = {**values, "config": config, "epochs": tuple(epochs)}
    for name in values:
        field, value = names[name], read.pop(name)
        read[field.name] = _number(value) if field.type is float else value
    return Run(**read)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
