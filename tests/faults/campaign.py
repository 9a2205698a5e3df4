"""The fault campaign: injects kills, damage and disk errors, and counts the outcomes.

    python tests/faults/campaign.py --short
    python tests/faults/campaign.py --output docs/reliability.json

Runs real commands in separate processes, disturbs each, and compares every state that
it restores, reaches or records, bit by bit, with those of an undisturbed command.
The exit status is 0 if every promise was kept in every trial. docs/reliability.md and
docs/reliability.json publish the result.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import checkpoint_damage
import disk_faults
import kills
import numpy as np
from environment_faults import (
    damaged_cache,
    lost_output,
    more_devices,
    nonfinite_gradients,
    variables,
)
from failpoints import STAGES
from process_faults import (
    clock,
    interrupts,
    kill_at_random_step,
    memory,
    second_writer,
    suspension,
    termination,
)
from reference import Reference, measure_reference
from sandbox import (
    Sandbox,
    compare_command,
    normalized_command,
    study_command,
    write_folder,
    write_images,
)
from tally import FaultMissed, Tally

from experiments.records.runs import environment

HERE = Path(__file__).parent


class Fault(NamedTuple):
    """A fault that happens once in each trial: one row of the published table."""

    fault: str
    promise: str
    # returns a complaint if the promise was broken
    cause: Callable[[Sandbox, Reference, Random], str | None]


FAULTS = (
    Fault(
        "a slow disk: 0.1 s more for each manifest, and a SIGKILL",
        "the same bits",
        disk_faults.slow,
    ),
    Fault("SIGTERM", "ends with 143 and a last save: no step is lost", termination),
    Fault("SIGINT twice", "ends with 130 at once; repeated, the same bits", interrupts),
    Fault("SIGSTOP for 1.5 s", "continues as if nothing had happened", suspension),
    Fault("the clock jumps by a day, forward and back", "the same bits", clock),
    Fault(
        "a second process on the same directory",
        "refused; the first continues",
        second_writer,
    ),
    Fault(
        "every further allocation of memory fails (RLIMIT_DATA)",
        "ends, or is killed after 15 s; repeated, the same bits",
        memory,
    ),
    Fault(
        "a damaged cache of compiled programs",
        "recompiled: the same bits",
        damaged_cache,
    ),
    Fault(
        "processes with 1, then 2, then 8 devices",
        "resumes; losses within 1e-4 of an uninterrupted run's",
        more_devices,
    ),
    Fault(
        "each of 13 variables that change JAX, Matplotlib or the terminal",
        "trains, or ends with one line that names the variable",
        variables,
    ),
    Fault(
        "standard output on a full disk, or into a closed pipe",
        "one line; training continues",
        lost_output,
    ),
)
WITH_MODEL_STATE = Fault(
    "SIGKILL after a random step, a network with BatchNorm and Dropout",
    "resumes; the same bits, running statistics included",
    kill_at_random_step,
)
STREAMED = Fault(
    "SIGKILL after a random step, images streamed from a folder",
    "resumes; the bits of a run in memory",
    kill_at_random_step,
)
ON_MOUNTS = (
    Fault(
        "a disk that another program fills during training",
        f"{disk_faults.AFTERWARDS} (Orbax's threads may complain)",
        disk_faults.filled,
    ),
    Fault(
        "a read-only file system, after a kill",
        disk_faults.AFTERWARDS,
        disk_faults.read_only,
    ),
)


def injected(
    fault: Fault, sandbox: Sandbox, reference: Reference, random: Random, trials: int
) -> Tally:
    """Counts trials, each in a separate directory; missed faults don't count."""
    tally = Tally(fault.fault, fault.promise)
    for number in range(2 * trials + 2):
        if tally.trials == trials:
            return tally
        directory = sandbox.directory / fault.cause.__name__ / str(number)
        with suppress(FaultMissed):
            trial = sandbox._replace(directory=directory)
            tally.add(fault.cause(trial, reference, random))
    if tally.trials < trials:
        tally.add_failure(f"only {tally.trials} of {trials} trials were possible")
    return tally


class Size(NamedTuple):
    """Number of trials of each fault."""

    random_kills: int  # of a comparison, on one device and again on two
    study_kills: int  # of a study
    state_kills: int  # of a network with model state, and of streamed images
    stage_kills: int  # in each stage
    flips: int
    trials: int  # of each other fault


SHORT = Size(
    random_kills=3, study_kills=1, state_kills=2, stage_kills=1, flips=120, trials=1
)
LONG = Size(
    random_kills=100,
    study_kills=12,
    state_kills=20,
    stage_kills=30,
    flips=1000,
    trials=4,
)


def main() -> int:
    """Injects all faults; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="few trials, for CI")
    parser.add_argument("--output", type=Path, help="JSON file for the counts")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Inherited by the watched processes and the server that forks them.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    os.environ["JAX_PLATFORMS"] = "cpu"
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        figures = _campaign(Path(directory), SHORT if options.short else LONG, options)
    figures["minutes"] = round((time.perf_counter() - start) / 60, 1)
    for row in figures["faults"]:  # rows of the table in docs/reliability.md
        counts = f"{row['kept']:,} of {row['trials']:,}"
        print(f"| {row['fault']} | {row['promise']} | {counts} |")
    print(json.dumps({**figures, "faults": "above"}, indent=2))
    if options.output is not None:
        options.output.write_text(json.dumps(figures, indent=2) + "\n")
    whole = all(row["kept"] == row["trials"] > 0 for row in figures["faults"])
    return 0 if whole else 1


def _campaign(directory: Path, size: Size, options: argparse.Namespace) -> Any:
    """Injects all faults, several at a time; returns the content of the JSON file."""
    data = write_images(directory / "images.npz")
    folder = write_folder(data, directory / "images")
    commands = {
        "one device": (compare_command(data), 1),
        "2 devices": (compare_command(data), 2),
        "a study": (study_command(data), 2),
        "BatchNorm and Dropout": (normalized_command(data), 2),
        "a folder": (compare_command(folder), 1),
    }
    sandboxes = {
        what: Sandbox(directory / what, command, directory / f"{what}, compiled", count)
        for what, (command, count) in commands.items()
    }
    with ThreadPoolExecutor(options.at_once) as threads:
        measured = threads.map(measure_reference, sandboxes.values())
        references = dict(zip(sandboxes, measured, strict=True))
        jobs = [
            threads.submit(job, Random(f"{options.seed} {number}"))
            for number, job in enumerate(_jobs(sandboxes, references, size))
        ]
        tallies = [tally for job in jobs for tally in job.result()]
    kill_tallies = [tally for tally in tallies if isinstance(tally, kills.KillTally)]
    lost = [steps for tally in kill_tallies for steps in tally.lost]
    recoveries = [seconds for tally in kill_tallies for seconds in tally.recoveries]
    intervals = references["one device"].intervals
    columns = "fault", "promise", "trials", "kept"
    return {
        "command": f"python tests/faults/campaign.py{' --short' * options.short}",
        "faults": [{name: getattr(row, name) for name in columns} for row in tallies],
        "kills": sum(tally.trials for tally in kill_tallies),
        "restored checkpoints": sum(tally.restored for tally in kill_tallies),
        "compared states": sum(tally.states for tally in kill_tallies),
        "compared records": sum(tally.records for tally in kill_tallies),
        "lost steps, median": float(np.median(lost or [0])),
        "lost steps, 99th percentile": float(np.percentile(lost or [0], 99)),
        "steps between saves, median": float(np.median(intervals)),
        "seconds to go on, mean": round(fmean(recoveries or [0]), 2),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "versions": environment(),
    }


def _jobs(
    sandboxes: dict[str, Sandbox], references: dict[str, Reference], size: Size
) -> Iterator[Callable[[Random], list[Tally]]]:
    """Jobs that can run at the same time, longest first."""
    numbers = {
        "one device": size.random_kills,
        "2 devices": size.random_kills,
        "a study": size.study_kills,
    }
    for what, number in numbers.items():
        yield lambda random, what=what, number=number: [
            kills.random_kills(sandboxes[what], references[what], random, what, number)
        ]
    normalized = sandboxes["BatchNorm and Dropout"], references["BatchNorm and Dropout"]
    yield lambda random: [
        injected(WITH_MODEL_STATE, *normalized, random, size.state_kills)
    ]
    in_memory = sandboxes["a folder"]
    streamed = in_memory._replace(command=(*in_memory.command, "--stream"))
    yield lambda random: [
        injected(STREAMED, streamed, references["a folder"], random, size.state_kills)
    ]
    sandbox, reference = sandboxes["one device"], references["one device"]
    for stage in STAGES:
        yield lambda random, stage=stage: [
            kills.stage_kills(sandbox, reference, random, stage, size.stage_kills)
        ]
    yield lambda random: [
        disk_faults.failing_calls(sandbox, reference, random, size.trials)
    ]
    yield lambda random: _damages(sandbox, reference, random, size.flips)
    mounts = disk_faults.can_mount(sandbox.directory / "mounted")
    if mounts:
        yield lambda random: [disk_faults.too_small(sandbox, reference, size.trials)]
    else:
        print("Full and read-only disks are left out, because this user may not mount.")
    for fault in (*FAULTS, *(ON_MOUNTS if mounts else ())):
        yield lambda random, fault=fault: [
            injected(fault, sandbox, reference, random, size.trials)
        ]
    yield lambda random: nonfinite_gradients(sandbox, random, size.trials)


def _damages(
    sandbox: Sandbox, reference: Reference, random: Random, flips: int
) -> list[Tally]:
    sample = checkpoint_damage.sample(sandbox, reference)
    return [
        checkpoint_damage.flips(sample, random, flips),
        checkpoint_damage.truncations(sample),
        checkpoint_damage.deletions(sample),
        checkpoint_damage.swaps(sample),
        checkpoint_damage.leftovers(sample),
    ]


if __name__ == "__main__":
    sys.exit(main())
