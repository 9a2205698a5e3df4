"""Several processes that train as one, on JAX's own runtime.

Each runs the same program; what one of them alone knows (the clock, a signal, what is
on its disk) is told to all before they act on it. Process 0 alone writes.
"""

import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from experiments.distributed.devices import device_mesh, in_full
from experiments.distributed.signals import Stopped
from experiments.records.config import UsageError
from experiments.records.runs import environment

MEETING = 30  # seconds that processes wait for one another at the start
HEARTBEAT = 20  # seconds without a sign after which a process counts as dead

# How XLA begins to tell of an exchange that failed; of memory it tells otherwise.
_FAILED = re.compile(r"(?!RESOURCE_EXHAUSTED)[A-Z_]+: ")


class Lost(Exception):
    """Another process has ended before its time."""


@dataclass(frozen=True)
class Processes:
    """Which processes train together; by default this one alone."""

    coordinator: str | None = None
    """HOST:PORT of process 0, where the processes find one
    another; or auto, under Slurm, MPI or Kubernetes or on a
    TPU pod, which tell all of this."""

    processes: int | None = None
    """How many processes there are."""

    process_id: int | None = None
    """Which of them this is: 0, 1, ..."""

    devices: int | None = None
    """Devices that all processes must have together; with
    fewer or more, nothing is begun."""

    def check(self) -> None:
        """Raises `UsageError` for what can't be meant."""
        ours = self.processes, self.process_id
        if self.coordinator in (None, "auto"):
            if ours != (None, None):
                raise UsageError(
                    "--processes and --process-id need --coordinator HOST:PORT, the "
                    "same for all; with --coordinator auto leave them out."
                )
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UsageError(
                f"--coordinator must be HOST:PORT or auto, got {self.coordinator}."
            )
        if self.processes is None or self.process_id is None:
            raise UsageError(
                "--coordinator HOST:PORT needs --processes, how many there are, and "
                "--process-id, which of them this is."
            )
        if not 0 <= self.process_id < self.processes:
            raise UsageError(
                f"--process-id must lie in [0, --processes), got {self.process_id} of "
                f"{self.processes}: the first is 0."
            )


ALONE = Processes()


@contextmanager
def joined(command: str, settings: object, options: Processes) -> Iterator[None]:
    """Finds the other processes, and ends with them.

    Args:
      command: its name.
      settings: its options, which must be the same for all but for the directories.
      options: who the processes are.

    Raises:
      UsageError: they can't be found or were started differently.
      Lost: one of them has ended.
    """
    options.check()
    if options.coordinator is not None:
        _meet(options)
    try:
        if options.coordinator is not None:
            _check_equal_devices()
            given = {**vars(settings), **vars(options)}
            apart = {"together", "data_dir", "output", "coordinator", "process_id"}
            shared = {name: repr(given[name]) for name in given if name not in apart}
            check_same({"command": command, **shared, **environment()})
        if options.devices not in (None, jax.device_count()):
            raise UsageError(
                f"--devices {options.devices}, but there are {jax.device_count()}: "
                f"{jax.process_count()} processes with {jax.local_device_count()} each."
                " Start other processes, or (on CPUs) set JAX_NUM_CPU_DEVICES."
            )
        yield
        exchange(b"")  # at the end JAX soon gives up, and the first has pages to write
    except (UsageError, Stopped):
        if jax.process_count() > 1:  # others may still hear why, and the first go last:
            time.sleep(2 if is_first() else 1)  # JAX aborts whoever is left then
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        if jax.process_count() == 1 or not _FAILED.match(reason):
            raise
        raise Lost(
            "another process has ended, and so does this one; repeat the command for "
            f"all of them to go on ({reason})."
        ) from None


def leave(status: int) -> NoReturn:
    """Ends this process; after an error at once, as the others may be gone already."""
    if status and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def exchange(own: bytes) -> list[bytes]:
    """What each process says, in the order of their ids; all must call it."""
    if jax.process_count() == 1:
        return [own]
    lengths = multihost_utils.process_allgather(np.int32(len(own)))
    padded = 1 << int(lengths.max()).bit_length()  # few lengths to compile for
    said = np.zeros(padded, np.uint8)
    said[: len(own)] = np.frombuffer(own, np.uint8)
    rows = multihost_utils.process_allgather(said)
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def told_by_all(own: Any) -> list[Any]:
    """The same of JSON values."""
    return [json.loads(each) for each in exchange(json.dumps(own).encode())]


def _meet(options: Processes) -> None:
    """Waits for the others; JAX itself would end with a stack trace."""
    named = options.coordinator != "auto"
    if options.process_id == 0:
        _check_port(options)
    jax.config.update("jax_enable_preemption_service", False)  # it hides SIGTERM
    where = f"at {options.coordinator}" if named else "as the cluster says"
    message = (
        f"error: not all processes met {where} within {MEETING} seconds: start process "
        "0 there, and each of the others with the same --coordinator and --processes "
        "and a --process-id of its own."
    )
    alone = threading.Timer(MEETING, _give_up, [message])
    alone.daemon = True
    alone.start()
    try:
        jax.distributed.initialize(
            coordinator_address=options.coordinator if named else None,
            num_processes=options.processes,
            process_id=options.process_id,
            initialization_timeout=2 * MEETING,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--coordinator {options.coordinator}: the processes can't be joined: "
            f"{reason.rstrip('.')}. Give HOST:PORT, --processes and --process-id, or "
            "auto under Slurm, MPI or Kubernetes or on a TPU pod."
        ) from None
    finally:
        alone.cancel()


def _give_up(message: str) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    os._exit(2)


def _check_port(options: Processes) -> None:
    """Raises `UsageError` where process 0 can't listen; JAX itself would crash."""
    port = int(str(options.coordinator).rpartition(":")[2])
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UsageError(
            f"--coordinator {options.coordinator}: process 0 can't open that port: "
            f"{os.strerror(error.errno or 0)}. Choose another, the same for all, and "
            "for each process a --process-id of its own."
        ) from None


def _check_equal_devices() -> None:
    """Raises `UsageError` in all processes alike, once each knows of the others."""
    everywhere = NamedSharding(device_mesh(), PartitionSpec(("lanes", "data")))
    own = np.array([jax.process_index()], np.int32)
    shape = (jax.device_count(),)
    owners = jax.make_array_from_callback(shape, everywhere, lambda where: own)
    counts = np.bincount(in_full(owners), minlength=jax.process_count())
    if len({*counts}) > 1:
        raise UsageError(
            f"processes 0, 1, ... have {', '.join(map(str, counts))} devices, and must "
            "all have as many; (on CPUs) set JAX_NUM_CPU_DEVICES."
        )


def check_same(own: Mapping[str, str]) -> None:
    """Raises `UsageError` unless all processes say the same."""
    said = told_by_all(dict(own))
    for process, theirs in enumerate(said):
        names = dict.fromkeys([*said[0], *theirs])
        differing = [name for name in names if theirs.get(name) != said[0].get(name)]
        if differing:
            other = "command" if "command" in differing else " and ".join(differing)
            raise UsageError(
                f"process {process} was started with other {other} "
                f"than process 0 (hashes {_digest(theirs)} and {_digest(said[0])}): "
                "start all with the same command and the same packages."
            )


def _digest(said: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
