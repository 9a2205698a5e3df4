"""Several processes that train together on JAX's distributed runtime.

All run the same program. What only one of them knows (the clock, a signal, the content
of its disk) is gathered by all before they act on it. Only process 0 writes files.
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
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from experiments.distributed.devices import device_mesh, to_host
from experiments.distributed.environment import find_devices
from experiments.distributed.options import Processes
from experiments.distributed.signals import ProcessLost, Stopped
from experiments.records.config import JSON, UsageError
from experiments.records.runs import environment

JOIN_TIMEOUT = 30  # seconds that processes wait for one another at the start
HEARTBEAT_TIMEOUT = 20  # seconds of silence after which a process counts as dead

# How the message of a failed collective operation begins; a lack of memory is no sign
# that another process has ended.
_COLLECTIVE_FAILED = re.compile(r"(?!RESOURCE_EXHAUSTED)[A-Z_]+: ")


@contextmanager
def join_processes(
    command: str, settings: object, options: Processes
) -> Iterator[None]:
    """Connects to the other processes, and ends together with them.

    All must run the same command with the same settings, apart from directories.

    Raises:
      UsageError: the processes can't connect or were started differently.
      ProcessLost: one of the others has ended.
    """
    options.check()
    if options.coordinator is not None:
        _connect(options)
    find_devices()
    try:
        if options.coordinator is not None:
            _check_equal_devices()
            values = {**vars(settings), **vars(options)}
            local = {"together", "data_dir", "output", "coordinator", "process_id"}
            shared = {name: repr(values[name]) for name in values if name not in local}
            check_same({"command": command, **shared, **environment()})
        if options.devices not in (None, jax.device_count()):
            raise UsageError(
                f"--devices {options.devices}, but there are {jax.device_count()}: "
                f"{jax.process_count()} processes with {jax.local_device_count()} each."
                " Start other processes, or (on CPUs) set JAX_NUM_CPU_DEVICES."
            )
        yield
        # Wait for process 0, which may still write pages: JAX waits 20 seconds only.
        all_gather_bytes(b"")
    except (UsageError, Stopped):
        # JAX aborts the others when process 0 ends: give them time to report the error.
        if jax.process_count() > 1:
            time.sleep(2 if is_first() else 1)
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        if jax.process_count() == 1 or not _COLLECTIVE_FAILED.match(reason):
            raise
        raise ProcessLost(
            "another process has ended, and so does this one; repeat the command in "
            f"all of them to resume ({reason})."
        ) from None


def exit_process(status: int) -> NoReturn:
    """Ends this process; after an error it doesn't wait for the others to end too."""
    if status and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def is_first() -> bool:
    """Whether this is process 0, which writes all files."""
    return jax.process_index() == 0


def all_gather_bytes(value: bytes) -> list[bytes]:
    """The values of all processes, ordered by process; every process must call it."""
    if jax.process_count() == 1:
        return [value]
    lengths = multihost_utils.process_allgather(np.int32(len(value)))
    # Padded to a power of 2, so that few shapes are compiled.
    padded = np.zeros(1 << int(lengths.max()).bit_length(), np.uint8)
    padded[: len(value)] = np.frombuffer(value, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def all_gather_json(value: JSON) -> list[JSON]:
    """Like `all_gather_bytes`, for JSON values."""
    gathered = all_gather_bytes(json.dumps(value).encode())
    return [json.loads(content) for content in gathered]


def _connect(options: Processes) -> None:
    """Waits for the other processes; if one is missing, exits with a message.

    JAX would end with a stack trace.
    """
    explicit = options.coordinator != "auto"
    if options.process_id == 0:
        _check_port(options)
    # JAX's preemption service would handle SIGTERM itself.
    jax.config.update("jax_enable_preemption_service", False)
    where = f"at {options.coordinator}" if explicit else "as the cluster says"
    message = (
        f"error: not all processes met {where} within {JOIN_TIMEOUT} seconds: start "
        "process 0 there, and the others with the same --coordinator and --processes; "
        "each needs a different --process-id."
    )
    timer = threading.Timer(JOIN_TIMEOUT, _give_up, [message])
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            coordinator_address=options.coordinator if explicit else None,
            num_processes=options.processes,
            process_id=options.process_id,
            initialization_timeout=2 * JOIN_TIMEOUT,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            shutdown_timeout_seconds=HEARTBEAT_TIMEOUT,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"--coordinator {options.coordinator}: the processes can't be joined: "
            f"{reason.rstrip('.')}. Give HOST:PORT, --processes and --process-id, or "
            "auto under Slurm, MPI or Kubernetes or on a TPU pod."
        ) from None
    finally:
        timer.cancel()


def _give_up(message: str) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    os._exit(2)


def _check_port(options: Processes) -> None:
    """Raises `UsageError` if process 0 can't listen on the port; JAX would crash."""
    port = int(str(options.coordinator).rpartition(":")[2])
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UsageError(
            f"--coordinator {options.coordinator}: process 0 can't open that port: "
            f"{os.strerror(error.errno or 0)}. Choose another port, the same for all "
            "processes, and a different --process-id for each."
        ) from None


def _check_equal_devices() -> None:
    """Raises `UsageError`, in every process, unless all have as many devices."""
    one_each = NamedSharding(device_mesh(), PartitionSpec(("lanes", "data")))
    this_process = np.array([jax.process_index()], np.int32)
    shape = (jax.device_count(),)
    owners = jax.make_array_from_callback(shape, one_each, lambda _: this_process)
    counts = np.bincount(to_host(owners), minlength=jax.process_count())
    if len({*counts}) > 1:
        raise UsageError(
            f"processes 0, 1, ... have {', '.join(map(str, counts))} devices, and must "
            "all have as many; (on CPUs) set JAX_NUM_CPU_DEVICES."
        )


def check_same(value: Mapping[str, str]) -> None:
    """Raises `UsageError` unless all processes pass the same value."""
    gathered = all_gather_json(dict(value))
    first = gathered[0]
    for process, other in enumerate(gathered):
        names = dict.fromkeys([*first, *other])
        differing = [name for name in names if other.get(name) != first.get(name)]
        if differing:
            what = "command" if "command" in differing else " and ".join(differing)
            raise UsageError(
                f"process {process} was started with other {what} "
                f"than process 0 (hashes {_digest(other)} and {_digest(first)}): "
                "start all with the same command and the same packages."
            )


def _digest(value: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
