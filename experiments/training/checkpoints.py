"""The checkpoints of runs that are trained together, until these are recorded."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from experiments.distributed import processes
from experiments.distributed.devices import to_host
from experiments.records.config import Config
from experiments.training.checkpoint import (
    MANIFEST,
    Damaged,
    Leaves,
    read,
    read_about,
    write,
)

DIRECTORY = "checkpoints"  # in that of the results
KEPT = 2  # the newest, and one to fall back on


class Checkpoints:
    """The checkpoints of one piece of work, in a directory that is theirs alone.

    Args:
      directory: made at the first save.
      work: JSON values that say what it is: a checkpoint of other work is not loaded.
      every: seconds from one save to the next.
      tell: takes a line for the user.
    """

    def __init__(
        self,
        directory: Path,
        work: Mapping[str, Any],
        every: float,
        tell: Callable[[str], None],
    ):
        self.directory, self._every, self._tell = directory, every, tell
        self._work = json.loads(json.dumps(work))
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None
        self._saved = time.monotonic()

    def restore(self, template: Any) -> Any | None:
        """The newest checkpoint that is whole, as a tree like the template, or None.

        The user is told of each that is not. Arrays lie where the template's do.
        """
        expected = _on_host(template)
        leaves = self._newest(expected) if processes.is_first() else None
        leaves = _of_first(leaves, expected)
        return None if leaves is None else _like(template, leaves)

    def _newest(self, expected: Leaves) -> Leaves | None:
        for path in sorted(self.directory.glob("*"), reverse=True):
            try:
                leaves = read(path, self._work)
                if _kinds(leaves) != _kinds(expected):
                    raise Damaged("it has other leaves than this program saves")
                position = read_about(path)["position"]
            except Damaged as reason:
                self._tell(f"{path} is left out: {reason}.")
                shutil.rmtree(path, ignore_errors=True)
                continue
            done = " and ".join(f"{count} {name}s" for name, count in position.items())
            self._tell(f"Going on from {path}, after {done}.")
            return leaves
        return None

    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._saved >= self._every

    def save(self, tree: Any, position: Mapping[str, int]) -> None:
        """Copies the tree to the host and has it written; waits for the one before.

        The training goes on meanwhile. Of several processes each hands over its part,
        and the first writes.

        Args:
          tree: arrays and numbers.
          position: in the data, by name; the order of positions is that of the names.
        """
        self.wait()
        leaves = _on_host(tree)  # now, as the arrays are about to be given away
        if processes.is_first():
            self._writing = self._writer.submit(self._write, leaves, dict(position))
        self._saved = time.monotonic()

    def wait(self) -> bool:
        """Until what is being written is; false, and told, if it could not be."""
        if self._writing is None:
            return True
        error, self._writing = self._writing.exception(), None
        if error is not None:
            kept = max(self.directory.glob(f"*/{MANIFEST}"), default=None)
            last = f"the last one is {kept.parent}" if kept else "there is none yet"
            self._tell(
                f"No checkpoint could be written to {self.directory}: {error}; {last}."
            )
        return error is None

    def discard(self) -> None:
        """Removes all of them, once what they were for is recorded."""
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
                if not (part / MANIFEST).exists():  # else it is one from before, whole
                    shutil.rmtree(part, ignore_errors=True)
            raise
        for old in sorted(self.directory.glob("*"))[:-KEPT]:
            (old / MANIFEST).unlink(missing_ok=True)  # never half of a whole one
            shutil.rmtree(old, ignore_errors=True)


def checkpoints_of(
    output: Path, runs: Sequence[Config], every: float, tell: Callable[[str], None]
) -> Checkpoints:
    """The checkpoints of runs that are trained together, in the results' directory."""
    digests = [config.digest() for config in runs]
    name = hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
    work = {"runs": digests, "seeds": [config.seed for config in runs]}
    return Checkpoints(output / DIRECTORY / name, work, every, tell)


def clear(output: Path, recorded: Collection[str]) -> None:
    """Removes what a process left that had recorded runs and died before it discarded.

    Args:
      output: the results' directory.
      recorded: the runs' digests.
    """
    directories = (output / DIRECTORY).glob("*") if processes.is_first() else ()
    for directory in directories:
        try:
            held = [read_about(path.parent) for path in directory.glob(f"*/{MANIFEST}")]
        except Damaged:
            continue  # whoever restores it will tell
        if {run for about in held for run in about["work"]["runs"]} <= {*recorded}:
            shutil.rmtree(directory, ignore_errors=True)


def _on_host(tree: Any) -> Leaves:
    """Copies of all leaves; a random key is its data."""
    return {
        jax.tree_util.keystr(path): np.array(to_host(_data(leaf)))
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _kinds(leaves: Leaves) -> dict[str, Any]:
    return {name: (leaf.dtype, leaf.shape) for name, leaf in leaves.items()}


def _of_first(leaves: Leaves | None, expected: Leaves) -> Leaves | None:
    """What process 0 has read, for all processes."""
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


def _like(template: Any, leaves: Leaves) -> Any:
    """The leaves in the template's structure, each of its kind and in its place."""

    def placed(path: Any, leaf: Any) -> Any:
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
