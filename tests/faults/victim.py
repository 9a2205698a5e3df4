"""The process that is to die: a command of the program, watched and with a failpoint.

Nothing in the program knows of it. What it has done is appended to a journal with one
system call a line, which outlives a SIGKILL.
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

UNCERTAIN = {".seconds", ".resumed"}  # of a course: what an interruption changes


class Job(NamedTuple):
    """What a victim does, and how it is disturbed."""

    arguments: tuple[str, ...]  # of the command
    journal: Path
    log: Path  # of what it prints
    cache: Path  # of compiled programs
    failpoint: failpoints.Failpoint | None = None
    devices: int = 1
    first_call: int = 1  # its steps; each later call takes one
    saves: bool = True  # or notes only what it would have saved
    clock: float = 0.0  # seconds by which the time of day jumps at the first save
    poisoned: bool = False  # whether the logits of a white image are NaN


def live(job: Job) -> None:
    """Runs the command in this process, and ends it with the command's status.

    A network that compiles faster takes the place of the program's.
    """
    log = os.open(job.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.register(signal.SIGUSR1)  # a victim that hangs can be asked where
    if job.devices == 1:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})
    jax.config.update("jax_num_cpu_devices", job.devices)
    jax.config.update("jax_compilation_cache_dir", str(job.cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    smaller(setattr)
    if job.poisoned:
        cnn.apply = partial(_poisoned, cnn.apply)
    epochs._CALL_SECONDS, epochs._FIRST_CALL = 0.0, job.first_call
    journal = os.open(job.journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    note = partial(_note, journal)
    _watch(note, job)
    if job.failpoint is not None:
        failpoints.arm(job.failpoint, partial(note, "struck"))
    status = main(list(job.arguments))
    sys.stdout.flush()
    os._exit(status)


def smaller(replace: Callable[[Any, str, Any], None]) -> None:
    """Puts the smaller network in the place of the program's."""
    replace(cnn, "init", mlp.init)
    replace(cnn, "apply", mlp.apply)


def digest(tree: Any) -> str:
    """Of all that has to be the same after an interruption, bit by bit."""
    content = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if name not in UNCERTAIN:
            content.update(name.encode() + np.asarray(leaf).tobytes())
    return content.hexdigest()


def _poisoned(apply: Any, params: Any, images: jax.Array) -> jax.Array:
    white = (images > 0.999).all(axis=(1, 2, 3))
    return apply(params, images) * jnp.where(white[:, None], jnp.nan, 1)


def _watch(note: Any, job: Job) -> None:
    """Has every state noted that is restored or saved; the clock jumps at the first."""
    restore, save, now = Checkpoints.restore, Checkpoints.save, time.time

    def noted_restore(self: Checkpoints, template: Any) -> Any:
        tree = restore(self, template)
        at = None if tree is None else [tree.epoch, tree.step]
        note("restored", work=self.directory.name, at=at, digest=digest(tree))
        return tree

    def noted_save(self: Checkpoints, tree: Any, position: Mapping[str, int]) -> None:
        at = list(position.values())
        note("reached", work=self.directory.name, at=at, digest=digest(tree))
        time.time = lambda: now() + job.clock
        if job.saves:
            save(self, tree, position)

    Checkpoints.restore, Checkpoints.save = noted_restore, noted_save


def _note(journal: int, event: str, **facts: Any) -> None:
    line = json.dumps({"event": event, "time": time.monotonic(), **facts})
    os.write(journal, f"{line}\n".encode())
