"""Checkpoints of runs in training: written whole by Orbax, proven bit by bit when read.

A checkpoint's manifest, written last, holds the SHA-256 of every file and leaf, which
runs it belongs to, and where in the data it stands. A checkpoint without a manifest, or
that differs from it in one bit, is never loaded; the previous one is used instead.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import textwrap
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from experiments.distributed import processes
from experiments.distributed.devices import to_host
from experiments.records.config import JSON, Config, earlier_configs
from experiments.records.files import FORMAT, to_json, write_atomically
from experiments.records.runs import environment

DIRECTORY = "checkpoints"  # within the directory of the results
MANIFEST = "manifest.json"
_KEPT = 2  # the newest, and one to fall back on
_OVERHEAD = 2**18  # bytes of a checkpoint besides its leaves, at most
# Leaf names of format 1, which were Python's, and those of today.
_FORMAT_1 = {
    ".underway.params": "['params']",
    ".underway.state": "['opt_state']",
    ".underway.sums.": "['sums'].",
    ".epoch": "['epoch']",
    ".step": "['step']",
    ".curves": "['curves']",
    ".seconds": "['seconds']",
    ".resumed": "['resumed']",
}

# Orbax logs what it also raises; the user reads that in one line.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)

Leaves = dict[str, np.ndarray]  # by path in the tree, in the tree's order


class Damaged(Exception):
    """Why a checkpoint is not loaded."""


class Checkpoints:
    """The checkpoints of runs that train together, in a separate directory.

    Args:
      directory: created by the first save.
      work: JSON values that identify the runs; checkpoints of other work are skipped.
      every: seconds between saves.
      log: shows the user a line.
    """

    def __init__(
        self,
        directory: Path,
        work: Mapping[str, JSON],
        every: float,
        log: Callable[[str], None],
    ):
        self.directory, self._every, self._log = directory, every, log
        self._work = json.loads(json.dumps(work))
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None
        self._saved = time.monotonic()

    def restore(self, template: PyTree) -> PyTree | None:
        """The newest whole checkpoint as a tree like the template, or None.

        Each damaged checkpoint is reported and removed. Arrays are placed as the
        template's.
        """
        expected = _on_host(template)
        leaves = self._newest(expected) if processes.is_first() else None
        leaves = _broadcast(leaves, expected)
        return None if leaves is None else _like(template, leaves)

    def _newest(self, expected: Leaves) -> Leaves | None:
        for path in sorted(self.directory.glob("*"), reverse=True):
            try:
                leaves, manifest = _read(path, self._work)
                if manifest.get("format", 1) == 1:
                    leaves = _from_format_1(leaves, expected)
                if _kinds(leaves) != _kinds(expected):
                    raise Damaged("its leaves are not those that this program saves")
            except Damaged as reason:
                self._log(f"Skipped {path}: {reason}.")
                shutil.rmtree(path, ignore_errors=True)
                continue
            position = manifest["position"].items()
            done = " and ".join(f"{count} {name}s" for name, count in position)
            self._log(f"Resuming from {path}, after {done}.")
            return leaves
        return None

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved >= self._every

    def save(self, tree: PyTree, position: Mapping[str, int]) -> None:
        """Copies the tree to the host and writes it in the background.

        Waits for the previous save. Of several processes each contributes its part, and
        the first writes.

        Args:
          tree: arrays and numbers.
          position: place in the data, by name; checkpoints are ordered by these values.
        """
        self.wait()
        leaves = _on_host(tree)  # now, because the next step donates the arrays
        if processes.is_first():
            self._writing = self._writer.submit(self._write, leaves, dict(position))
        self._saved = time.monotonic()

    def wait(self) -> bool:
        """Waits for the save in progress; reports a failure and returns false."""
        if self._writing is None:
            return True
        error, self._writing = self._writing.exception(), None
        if error is not None:
            whole = max(self.directory.glob(f"*/{MANIFEST}"), default=None)
            last = f"the last one is {whole.parent}" if whole else "there is none yet"
            self._log(
                f"No checkpoint could be written to {self.directory}: {error}; {last}."
            )
        return error is None

    def discard(self) -> None:
        """Removes all checkpoints of runs that are recorded now."""
        self.wait()
        if processes.is_first():
            shutil.rmtree(self.directory, ignore_errors=True)

    def _write(self, leaves: Leaves, position: dict[str, int]) -> None:
        name = "-".join(f"{value:08d}" for value in position.values())
        path = self.directory / name
        try:
            write(path, leaves, {"work": self._work, "position": position})
        except BaseException:
            for part in self.directory.glob(f"{name}*"):
                if not (part / MANIFEST).exists():  # else an earlier save, whole
                    shutil.rmtree(part, ignore_errors=True)
            raise
        for old in sorted(self.directory.glob("*"))[:-_KEPT]:
            (old / MANIFEST).unlink(missing_ok=True)  # first: half of it looks damaged
            shutil.rmtree(old, ignore_errors=True)


def checkpoints_of(
    output: Path, runs: Sequence[Config], every: float, log: Callable[[str], None]
) -> Checkpoints:
    """The checkpoints of runs that train together, in the directory of the results."""

    def located(configs: Sequence[Config]) -> Checkpoints:
        digests = [config.digest() for config in configs]
        name = hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
        work = {"runs": digests, "seeds": [config.seed for config in configs]}
        return Checkpoints(output / DIRECTORY / name, work, every, log)

    earlier = map(located, zip(*map(earlier_configs, runs), strict=True))
    return next((each for each in earlier if each.directory.exists()), located(runs))


def clear(output: Path, recorded: Collection[str]) -> None:
    """Removes checkpoints of recorded runs, left by a process that died too early.

    Args:
      output: the directory of the results.
      recorded: digests of the recorded runs.
    """
    directories = (output / DIRECTORY).glob("*") if processes.is_first() else ()
    for directory in directories:
        try:
            manifests = [_manifest(x.parent) for x in directory.glob(f"*/{MANIFEST}")]
        except Damaged:
            continue  # `restore` will report it
        runs = {run for manifest in manifests for run in manifest["work"]["runs"]}
        if runs <= {*recorded}:
            shutil.rmtree(directory, ignore_errors=True)


def write(path: Path, leaves: Leaves, about: Mapping[str, JSON]) -> None:
    """Writes a checkpoint and then its manifest, each atomically.

    Raises:
      OSError, UsageError, ValueError: the disk is full or refuses it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{i:04}": leaf for i, leaf in enumerate(leaves.values()) if leaf.size}
    _check_space(path.parent, 2 * sum(leaf.nbytes for leaf in leaves.values()))
    try:
        with _orbax() as checkpointer:
            checkpointer.save(path.absolute(), ocp.args.PyTreeSave(arrays), force=True)
    except ValueError as error:  # a page of text around the number that says it all
        if number := re.search(r"os_error_code='(\d+)'", str(error)):
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path.parent)) from None
        raise
    body = {
        "format": FORMAT,
        **about,
        "versions": environment(),
        "leaves": {name: _description(leaf) for name, leaf in leaves.items()},
        "files": {name: _sha256(path / name) for name in _files(path)},
    }
    digest = hashlib.sha256(to_json(body).encode()).hexdigest()
    manifest = to_json({"sha256": digest, **body}, indent=2)
    write_atomically(path / MANIFEST, manifest.encode())


def read(path: Path, work: Mapping[str, JSON]) -> Leaves:
    """The leaves of a checkpoint, every bit of which is proven.

    Raises:
      Damaged: it is half-written, altered, or of other work.
    """
    return _read(path, work)[0]


def _read(path: Path, work: Mapping[str, JSON]) -> tuple[Leaves, dict[str, JSON]]:
    manifest = _manifest(path)
    if manifest["work"] != work:
        raise Damaged("it belongs to other runs")
    try:
        return _proven(path, manifest), manifest
    except Damaged:
        raise
    except Exception as error:  # from the disk, Orbax or a foreign manifest
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise Damaged(f"it can't be read ({reason})") from None


def _proven(path: Path, manifest: Mapping[str, JSON]) -> Leaves:
    """The leaves, if all files and leaves are what the manifest says."""
    expected, existing = manifest["files"], _files(path)
    for name in sorted({*expected, *existing}):
        if name not in existing:
            raise Damaged(f"its file {name} is missing")
        if name not in expected:
            raise Damaged(f"its file {name} does not belong to it")
        if _sha256(path / name) != expected[name]:
            raise Damaged(f"its file {name} was altered")
    with _orbax() as checkpointer:
        arrays = checkpointer.restore(path.absolute())
    leaves = {}
    for index, (name, described) in enumerate(manifest["leaves"].items()):
        shape, dtype = described["shape"], described["dtype"]
        empty = 0 in shape  # Orbax saves no array without elements
        leaves[name] = (
            np.empty(shape, dtype) if empty else np.asarray(arrays[f"{index:04}"])
        )
        if _description(leaves[name]) != described:
            raise Damaged(f"its leaf {name} is not what was saved")
    return leaves


def _from_format_1(leaves: Leaves, expected: Leaves) -> Leaves:
    """Leaves under today's names; a run without a lane axis gets one."""
    renamed = {}
    for name, leaf in leaves.items():
        for old, new in _FORMAT_1.items():
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        name = re.sub(r"^\['sums'\]\.(\w+)$", r"['sums']['\1']", name)
        alone = name in expected and expected[name].ndim == leaf.ndim + 1
        if alone:
            leaf = leaf[:, :, None] if name == "['curves']" else leaf[None]
        renamed[name] = leaf
    return {name: renamed[name] for name in expected if name in renamed} | renamed


def _check_space(directory: Path, size: int) -> None:
    """Raises `OSError` before a save that can't end.

    A save that fails halfway leaves threads behind, and each prints a traceback.
    """
    if shutil.disk_usage(directory).free < size + _OVERHEAD:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


def _orbax() -> ocp.Checkpointer:
    """A checkpointer of this process alone, which waits for no other."""
    process = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _manifest(path: Path) -> dict[str, JSON]:
    """Which work a checkpoint belongs to, where it stands, its leaves and files."""
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
    if body.get("format", 1) not in range(1, FORMAT + 1):
        raise Damaged("a newer version of this program wrote it")
    return body


def _files(path: Path) -> list[str]:
    """The checkpoint's files without its manifest."""
    files = (p for p in path.rglob("*") if not p.is_dir())
    return sorted(str(p.relative_to(path)) for p in files if p != path / MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _description(leaf: np.ndarray) -> dict[str, JSON]:
    content = hashlib.sha256(leaf.tobytes()).hexdigest()
    return {"dtype": leaf.dtype.name, "shape": list(leaf.shape), "sha256": content}


def _on_host(tree: PyTree) -> Leaves:
    """Copies of all leaves; a random key becomes its data."""
    return {
        jax.tree_util.keystr(path): np.array(to_host(_data(leaf)))
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _data(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: object) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _kinds(leaves: Leaves) -> dict[str, JSON]:
    return {name: (leaf.dtype, leaf.shape) for name, leaf in leaves.items()}


def _broadcast(leaves: Leaves | None, expected: Leaves) -> Leaves | None:
    """Gives all processes what process 0 has read."""
    if jax.process_count() == 1:
        return leaves
    if not processes.all_gather_json(leaves is not None)[0]:
        return None
    own = expected if leaves is None else leaves
    content = {name: np.frombuffer(own[name].tobytes(), np.uint8) for name in expected}
    content = multihost_utils.broadcast_one_to_all(content)
    return {
        name: content[name].view(leaf.dtype).reshape(leaf.shape)
        for name, leaf in expected.items()
    }


def _like(template: PyTree, leaves: Leaves) -> PyTree:
    """The leaves in the template's structure, each of its type and placement."""

    def placed(path: jax.tree_util.KeyPath, leaf: jax.Array) -> jax.Array:
        value = leaves[jax.tree_util.keystr(path)]
        if _is_key(leaf):
            key = jax.random.wrap_key_data(
                jnp.asarray(value), impl=jax.random.key_impl(leaf)
            )
            return jax.device_put(key, leaf.sharding)
        if isinstance(leaf, jax.Array):
            return jax.device_put(value, leaf.sharding)
        return value if isinstance(leaf, np.ndarray) else type(leaf)(value.item())

    return jax.tree.map_with_path(placed, template)
