"""The process to disturb: runs a command, with a journal and a failpoint.

The program is patched from outside: `experiments.networks.cnn` (a smaller network),
`experiments.training.epochs` (steps in a call) and
`experiments.training.checkpoints.Checkpoints` (journal). One system call appends a line
to the journal, so that the journal survives SIGKILL.
"""

import faulthandler
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import failpoints
import jax
import jax.numpy as jnp
import numpy as np

from experiments.__main__ import main
from experiments.networks import cnn, mlp
from experiments.training import epochs
from experiments.training.checkpoints import Checkpoints

CHANGED_BY_INTERRUPTIONS = {"['seconds']", "['resumed']"}  # leaves of a saved state


class Job(NamedTuple):
    """A command, and how it is disturbed."""

    arguments: tuple[str, ...]
    journal: Path
    log: Path  # stdout and stderr
    cache: Path  # compiled programs
    failpoint: failpoints.Failpoint | None = None
    devices: int = 1
    first_call: int = 1  # steps in the first call of the program; later calls take one
    saves: bool = True  # whether checkpoints are written, or only journaled
    clock: float = 0.0  # seconds by which the time of day jumps at the first save
    nan_for_white: bool = False  # whether the logits of a white image are NaN


def run(job: Job) -> None:
    """Runs the command in this process, and exits with the command's status."""
    log = os.open(job.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.register(signal.SIGUSR1)  # logs where it hangs
    if job.devices == 1:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    jax.config.update("jax_num_cpu_devices", job.devices)
    jax.config.update("jax_compilation_cache_dir", str(job.cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    use_small_network(setattr)
    if job.nan_for_white:
        cnn.apply = partial(_nan_for_white, cnn.apply)
    epochs._CALL_SECONDS, epochs._FIRST_CALL = 0.0, job.first_call
    journal = os.open(job.journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    note = partial(_note, journal)
    _watch(note, job)
    if job.failpoint is not None:
        failpoints.arm(job.failpoint, partial(note, "failpoint_reached"))
    status = main(list(job.arguments))
    sys.stdout.flush()
    os._exit(status)


def use_small_network(replace: Callable[[Any, str, Any], None]) -> None:
    """Replaces the CNN with a network that compiles faster."""
    replace(cnn, "init", mlp.init)
    replace(cnn, "apply", mlp.apply)


def digest(tree: Any) -> str:
    """Hashes all leaves that must have the same bits after an interruption."""
    content = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if name not in CHANGED_BY_INTERRUPTIONS:
            content.update(name.encode() + np.asarray(leaf).tobytes())
    return content.hexdigest()


def _nan_for_white(apply: Any, params: Any, images: jax.Array) -> jax.Array:
    white = (images > 0.999).all(axis=(1, 2, 3))
    return apply(params, images) * jnp.where(white[:, None], jnp.nan, 1)


def _watch(note: Any, job: Job) -> None:
    """Journals each state that is restored or saved; the first save sets the clock."""
    restore, save, now = Checkpoints.restore, Checkpoints.save, time.time

    def journaled_restore(self: Checkpoints, template: Any) -> Any:
        tree = restore(self, template)
        at = None if tree is None else [tree["epoch"], tree["step"]]
        note("restored", work=self.directory.name, at=at, digest=digest(tree))
        return tree

    def journaled_save(self: Checkpoints, tree: Any, position: Mapping) -> None:
        at = list(position.values())
        note("reached", work=self.directory.name, at=at, digest=digest(tree))
        time.time = lambda: now() + job.clock
        if job.saves:
            save(self, tree, position)

    Checkpoints.restore, Checkpoints.save = journaled_restore, journaled_save


def _note(journal: int, event: str, **facts: Any) -> None:
    line = json.dumps({"event": event, "time": time.monotonic(), **facts})
    os.write(journal, f"{line}\n".encode())
