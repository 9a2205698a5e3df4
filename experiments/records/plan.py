"""The plan of a study: written and hashed before its first run, then binding."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from errno import EACCES
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.records.config import JSON, Config, UsageError, digest
from experiments.records.files import FORMAT, to_json, write_atomically
from experiments.records.runs import Run, read

FILE_NAME = "plan.json"

Plan = Mapping[str, JSON]


def shared(config: Config) -> Plan:
    """The plan of runs that differ only in optimizer and seed."""
    settings = config.to_record()
    del settings["arm"], settings["seed"]
    return settings


@contextmanager
def hold(output: Path, plan: Plan) -> Iterator[tuple[Run, ...]]:
    """Reserves `output` for one plan and yields the runs of it that are finished.

    The directory is created with its parents, and the plan written into it before
    there is any run.

    Args:
      output: the directory of the results.
      plan: all that the runs in it have in common.

    Raises:
      UsageError: `output` is a file, can't be written, is in use by another process,
        or holds another plan, or lines that aren't records.
    """
    make_directory(output)
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(output / "runs.lock", timeout=0))
        except Timeout:
            raise UsageError(
                f"--output {output} is in use by another process; "
                "wait for its end or choose another --output."
            ) from None
        except OSError as error:
            raise _unwritable(output, error) from None
        finished = read(output)
        _check_same(output, plan, finished)
        content = {"format": FORMAT, "hash": digest(plan), "plan": plan}
        written = to_json(content, indent=2)
        write_atomically(output / FILE_NAME, f"{written}\n".encode())
        yield finished


def make_directory(output: Path) -> None:
    """Creates the directory of the results, with its parents, if it isn't there.

    Raises:
      UsageError: it is a file, or can't be created or written into.
    """
    if os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"--output {output} is a file; name a directory.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(output, error) from None
    if not os.access(output, os.W_OK):
        raise _unwritable(output, PermissionError(EACCES, os.strerror(EACCES)))


def _unwritable(output: Path, error: OSError) -> UsageError:
    return UsageError(
        f"--output {output} can't be written: {error.strerror}; "
        "choose another --output."
    )


def _check_same(output: Path, ours: Plan, finished: tuple[Run, ...]) -> None:
    """Raises `UsageError` unless the directory is empty or holds this plan."""
    path = output / FILE_NAME
    if not path.exists():
        if finished:
            raise UsageError(
                f"--output {output} holds runs, but no {FILE_NAME} that says of which "
                "plan. Choose another --output."
            )
        return
    try:
        stored = json.loads(path.read_bytes())
        theirs, hashed = stored["plan"], stored["hash"]
        if not isinstance(theirs, dict):
            raise TypeError("its plan is no object")
        if stored.get("format", 1) not in range(1, FORMAT + 1):
            raise ValueError("a newer version of this program wrote it")
        if digest(theirs) != hashed:
            raise ValueError(f"its plan hashes to {digest(theirs)}")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(
            f"{path} is not a whole plan of this program: {error}. "
            "Repair it, or choose another --output."
        ) from None
    ours = json.loads(json.dumps(ours))
    if theirs == ours:
        return
    names = dict.fromkeys([*ours, *theirs])
    differing = [name for name in names if ours.get(name) != theirs.get(name)]
    there, here = (_values(each, differing) for each in (theirs, ours))
    raise UsageError(
        f"--output {output} holds runs of another plan: {hashed} {there}; this "
        f"one is {digest(ours)} {here}. Choose another --output."
    )


def _values(plan: Plan, names: Sequence[str]) -> str:
    """The plan's values of these names, of which it may lack all."""
    values = ", ".join(f"{name} {plan[name]!r}" for name in names if name in plan)
    return f"with {values}" if values else f"without {', '.join(names)}"
