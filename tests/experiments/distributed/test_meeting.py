"""What goes wrong between processes is told in one line, however JAX may put it."""

import socket
from argparse import Namespace

import jax
import numpy as np
import pytest

from experiments.distributed import processes
from experiments.distributed.processes import ALONE, Lost, Processes, joined
from experiments.records.config import UsageError

OPTIONS = Namespace(epochs=3)


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError) as refused:
            joined("compare", OPTIONS, Processes(where, 2, 0)).__enter__()
    assert str(refused.value) == (
        f"--coordinator {where}: process 0 can't open that port: Address already in "
        "use. Choose another, the same for all, and for each process a --process-id of "
        "its own."
    )


def test_no_cluster_is_told_with_what_to_give(monkeypatch):
    def initialize(**_):
        assert not jax.config.values["jax_enable_preemption_service"]
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UsageError) as refused:
        joined("compare", OPTIONS, Processes("auto")).__enter__()
    assert str(refused.value) == (
        "--coordinator auto: the processes can't be joined: coordinator_address should "
        "be defined. Give HOST:PORT, --processes and --process-id, or auto under "
        "Slurm, MPI or Kubernetes or on a TPU pod."
    )


@pytest.mark.parametrize("kind", [ValueError, jax.errors.JaxRuntimeError])
def test_an_exchange_that_fails_means_that_another_has_ended(monkeypatch, kind):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with (
        pytest.raises(Lost, match=r"to go on \(UNKNOWN: Gloo AllGather failed: x\)\.$"),
        joined("compare", OPTIONS, ALONE),
    ):
        raise kind("UNKNOWN: Gloo AllGather failed: x\nmore")


@pytest.mark.parametrize("told", ["shapes differ: 2, 3", "RESOURCE_EXHAUSTED: 9 GB"])
def test_an_error_of_its_own_is_nobody_elses(monkeypatch, told):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=told), joined("compare", OPTIONS, ALONE):
        raise ValueError(told)


def test_processes_end_together(monkeypatch):
    """JAX waits 20 s for the last one; a page may take longer."""
    said = []
    monkeypatch.setattr(processes, "exchange", said.append)
    with joined("compare", OPTIONS, ALONE):
        assert said == []
    assert said == [b""]


def test_unequal_numbers_of_devices_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "in_full", lambda _: np.array([0, 1, 1, 1]))
    with pytest.raises(UsageError) as refused:
        processes._check_equal_devices()
    assert str(refused.value) == (
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
def test_what_differs_is_named_whichever_process_has_it(monkeypatch, theirs, named):
    ours = {"command": "compare", "epochs": "3", "jax": "0"}
    monkeypatch.setattr(processes, "told_by_all", lambda _: [ours, theirs])
    for own in (ours, theirs):
        with pytest.raises(UsageError, match=rf"^process 1 was .+ other {named} than "):
            processes.check_same(own)
