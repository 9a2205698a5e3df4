"""One checkpoint: written by Orbax as a whole, and read when every bit is proven.

Its manifest, written last, has the SHA-256 of every file and of every leaf, what the
checkpoint is of, and where in the data it stands. What has no manifest, or differs from
it in a bit, is never loaded.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.records.runs import environment, to_json, write_atomically

MANIFEST = "manifest.json"
_OVERHEAD = 2**18  # bytes of a checkpoint that are none of its leaves', at the most

# What Orbax logs as an error it raises too; the user is told of that in one line.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)

Leaves = dict[str, np.ndarray]  # by path in the tree, in its order


class Damaged(Exception):
    """Why a checkpoint can't be believed."""


def write(path: Path, leaves: Leaves, about: Mapping[str, Any]) -> None:
    """Writes a checkpoint and then its manifest, each as a whole.

    Raises:
      OSError, UsageError, ValueError: the disk is full, or doesn't take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{i:04}": leaf for i, leaf in enumerate(leaves.values()) if leaf.size}
    _check_space(path.parent, 2 * sum(leaf.nbytes for leaf in leaves.values()))
    try:
        with _orbax() as checkpointer:
            checkpointer.save(path.absolute(), ocp.args.PyTreeSave(arrays), force=True)
    except ValueError as error:  # a page of text, of which a number says it all
        if number := re.search(r"os_error_code='(\d+)'", str(error)):
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path.parent)) from None
        raise
    body = {
        **about,
        "versions": environment(),
        "leaves": {name: _description(leaf) for name, leaf in leaves.items()},
        "files": {name: _sha256(path / name) for name in _files(path)},
    }
    digest = hashlib.sha256(to_json(body).encode()).hexdigest()
    manifest = to_json({"sha256": digest, **body}, indent=2)
    write_atomically(path / MANIFEST, manifest.encode())


def read(path: Path, work: Mapping[str, Any]) -> Leaves:
    """The leaves of a checkpoint, every bit of which is proven.

    Raises:
      Damaged: it is half-written, altered, or of other work.
    """
    manifest = _manifest(path)
    if manifest["work"] != work:
        raise Damaged("it is of other runs")
    try:
        return _proven(path, manifest)
    except Damaged:
        raise
    except Exception as error:  # of the disk, of Orbax or of another's manifest
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise Damaged(f"it can't be read ({reason})") from None


def _proven(path: Path, manifest: Mapping[str, Any]) -> Leaves:
    """The leaves, where every file and every one of them is what the manifest says."""
    expected, found = manifest["files"], _files(path)
    for name in sorted({*expected, *found}):
        if name not in found:
            raise Damaged(f"its file {name} is missing")
        if name not in expected:
            raise Damaged(f"its file {name} is not its own")
        if _sha256(path / name) != expected[name]:
            raise Damaged(f"its file {name} was altered")
    with _orbax() as checkpointer:
        arrays = checkpointer.restore(path.absolute())
    leaves = {}
    for index, (name, described) in enumerate(manifest["leaves"].items()):
        shape, dtype = described["shape"], described["dtype"]
        empty = 0 in shape  # Orbax keeps no array without elements
        leaves[name] = (
            np.empty(shape, dtype) if empty else np.asarray(arrays[f"{index:04}"])
        )
        if _description(leaves[name]) != described:
            raise Damaged(f"its leaf {name} is not what was saved")
    return leaves


def _check_space(directory: Path, size: int) -> None:
    """Raises `OSError` before a save that can't end.

    One that fails halfway leaves threads behind, of which each prints a traceback.
    """
    if shutil.disk_usage(directory).free < size + _OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


def read_about(path: Path) -> dict[str, Any]:
    """What a checkpoint is of, its `work`, and where it stands, its `position`.

    Raises:
      Damaged: its manifest doesn't say.
    """
    return _manifest(path)


def _orbax() -> ocp.Checkpointer:
    """For this process alone: it waits for no other."""
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        written = (path / MANIFEST).read_bytes()
    except OSError:
        raise Damaged("it is half-written, without a manifest") from None
    try:
        body = json.loads(written)
        digest = body.pop("sha256")
        whole = to_json({"sha256": digest, **body}, indent=2).encode() == written
        if not whole or digest != hashlib.sha256(to_json(body).encode()).hexdigest():
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Damaged("its manifest was altered") from None
    parts = (body.get(name) for name in ("work", "position", "leaves", "files"))
    if not all(isinstance(part, dict) for part in parts):
        raise Damaged("its manifest is of another program")
    return body


def _files(path: Path) -> list[str]:
    """The checkpoint's files, its manifest apart."""
    files = (p for p in path.rglob("*") if not p.is_dir())
    return sorted(str(p.relative_to(path)) for p in files if p != path / MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _description(leaf: np.ndarray) -> dict[str, Any]:
    content = hashlib.sha256(leaf.tobytes()).hexdigest()
    return {"dtype": leaf.dtype.name, "shape": list(leaf.shape), "sha256": content}
