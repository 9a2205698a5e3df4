"""Errors between processes are reported in one line, whatever JAX raises."""

import socket
from argparse import Namespace

import jax
import numpy as np
import pytest
from support.usage_errors import usage_error

from experiments.distributed import processes
from experiments.distributed.options import ALONE, Processes
from experiments.distributed.signals import ProcessLost
from experiments.records.config import UsageError


def join(options=ALONE):
    return processes.join_processes("compare", Namespace(epochs=3), options)


def test_a_port_in_use_is_refused():
    with socket.create_server(("", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        message = usage_error("", join(Processes(where, 2, 0)).__enter__)
    assert message == (
        f"--coordinator {where}: process 0 can't open that port: Address already in "
        "use. Choose another port, the same for all processes, and a different "
        "--process-id for each."
    )


def test_auto_without_a_cluster_says_which_options_to_give(monkeypatch):
    def initialize(**_):
        assert not jax.config.values["jax_enable_preemption_service"]
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    assert usage_error("", join(Processes("auto")).__enter__) == (
        "--coordinator auto: the processes can't be joined: coordinator_address should "
        "be defined. Give HOST:PORT, --processes and --process-id, or auto under "
        "Slurm, MPI or Kubernetes or on a TPU pod."
    )


@pytest.mark.parametrize("kind", [ValueError, jax.errors.JaxRuntimeError])
def test_a_failed_collective_means_that_another_process_has_ended(monkeypatch, kind):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    message = r"to resume \(UNKNOWN: Gloo AllGather failed: x\)\.$"
    with pytest.raises(ProcessLost, match=message), join():
        raise kind("UNKNOWN: Gloo AllGather failed: x\nmore")


@pytest.mark.parametrize("message", ["shapes differ: 2, 3", "RESOURCE_EXHAUSTED: 9 GB"])
def test_other_errors_are_not_blamed_on_another_process(monkeypatch, message):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=message), join():
        raise ValueError(message)


def test_processes_wait_for_one_another_at_the_end(monkeypatch):
    """JAX waits 20 s for the last process; writing a page may take longer."""
    gathered = []
    monkeypatch.setattr(processes, "all_gather_bytes", gathered.append)
    with join():
        assert gathered == []
    assert gathered == [b""]


def test_unequal_numbers_of_devices_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "to_host", lambda _: np.array([0, 1, 1, 1]))
    assert usage_error("", processes._check_equal_devices) == (
        "processes 0, 1, ... have 1, 3 devices, and must all have as many; (on CPUs) "
        "set JAX_NUM_CPU_DEVICES."
    )


@pytest.mark.parametrize(
    ("theirs", "named"),
    [
        ({"command": "compare", "epochs": "4", "jax": "1"}, "epochs and jax"),
        ({"command": "compare", "jax": "0", "seeds": "3"}, "epochs and seeds"),
        ({"command": "sweep", "jax": "0", "trials": "3"}, "command"),
    ],
)
def test_differing_options_are_named_in_every_process(monkeypatch, theirs, named):
    ours = {"command": "compare", "epochs": "3", "jax": "0"}
    monkeypatch.setattr(processes, "all_gather_json", lambda _: [ours, theirs])
    for value in (ours, theirs):
        with pytest.raises(UsageError, match=rf"^process 1 was .+ other {named} than "):
            processes.check_same(value)
