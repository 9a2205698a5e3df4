"""Runs a command in a separate process, with the small network and without drawings."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import jax
from support import blank_figures, small_network

from experiments.__main__ import main
from experiments.distributed import processes
from experiments.networks import cnn


class Job(NamedTuple):
    """A command, and how its process is set up."""

    words: Sequence[str]
    log: Path  # directory of files out and errors, which get its output
    devices: int
    join_timeout: int  # seconds that it waits for other processes


def run(job: Job) -> NoReturn:
    """Runs the command in this process, and exits with the command's status."""
    for descriptor, name in ((1, "out"), (2, "errors")):
        os.dup2(os.open(job.log / name, os.O_WRONLY), descriptor)
    jax.config.update("jax_num_cpu_devices", job.devices)
    processes.JOIN_TIMEOUT = job.join_timeout
    cnn.init, cnn.apply = small_network.init, small_network.apply
    blank_figures.install(setattr)
    status = main(list(job.words))
    sys.stdout.flush()
    processes.exit_process(status)
