"""The fault campaign: kills, damage and bad disks, injected, counted and published.

    python tests/faults/campaign.py --short
    python tests/faults/campaign.py --output docs/reliability.json

A real command is disturbed in a process of its own, as often as it says below; whatever
it then restores, trains and records is compared, bit by bit, with what it does when
nothing happens. The exit status is 0 if every promise was kept every time.
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
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import damage
import disk
import kills
import numpy as np
import surroundings
from catalog import FAULTS, ON_MOUNTS, injected
from scene import Scene, commanded, images, studied
from stages import STAGES
from tally import Tally
from truth import Truth, truth

from experiments.records.runs import environment

HERE = Path(__file__).parent


class Size(NamedTuple):
    """How often each fault is injected."""

    random_kills: int  # of a comparison, on one device and on two
    study_kills: int  # likewise of a study
    stage_kills: int  # of each stage
    flips: int
    trials: int  # of all other faults, each


SHORT = Size(random_kills=3, study_kills=1, stage_kills=1, flips=120, trials=1)
LONG = Size(random_kills=100, study_kills=12, stage_kills=30, flips=1000, trials=4)


def main() -> int:
    """Injects all faults; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few of each, for CI")
    parser.add_argument("--output", type=Path, help="of the figures, as JSON")
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Of all victims, and of the process that they are forked from.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    os.environ["JAX_PLATFORMS"] = "cpu"
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        figures = _campaign(Path(directory), SHORT if options.short else LONG, options)
    figures["minutes"] = round((time.perf_counter() - start) / 60, 1)
    for row in figures["faults"]:  # as docs/reliability.md has them
        counts = f"{row['kept']:,} of {row['trials']:,}"
        print(f"| {row['fault']} | {row['promise']} | {counts} |")
    print(json.dumps({**figures, "faults": "above"}, indent=2))
    if options.output is not None:
        options.output.write_text(json.dumps(figures, indent=2) + "\n")
    whole = all(row["kept"] == row["trials"] > 0 for row in figures["faults"])
    return 0 if whole else 1


def _campaign(directory: Path, size: Size, options: argparse.Namespace) -> Any:
    """The figures of all faults, many of which are injected at once."""
    data = images(directory / "images.npz")
    scenes = {
        what: Scene(directory / what, command, directory / f"{what}, compiled", devices)
        for what, command, devices in (
            ("one device", commanded(data), 1),
            ("2 devices", commanded(data), 2),
            ("a study", studied(data), 2),
        )
    }
    with ThreadPoolExecutor(options.at_once) as threads:
        truths = dict(zip(scenes, threads.map(truth, scenes.values()), strict=True))
        jobs = [
            threads.submit(job, Random(f"{options.seed} {number}"))
            for number, job in enumerate(_jobs(scenes, truths, size))
        ]
        tallies = [tally for job in jobs for tally in job.result()]
    deaths = [tally for tally in tallies if isinstance(tally, kills.Deaths)]
    lost = [steps for each in deaths for steps in each.lost]
    recoveries = [seconds for each in deaths for seconds in each.recoveries]
    return {
        "command": f"python tests/faults/campaign.py{' --short' * options.short}",
        "faults": [
            {
                "fault": each.fault,
                "promise": each.promise,
                "trials": each.trials,
                "kept": each.kept,
            }
            for each in tallies
        ],
        "kills": sum(each.trials for each in deaths),
        "restored checkpoints": sum(each.restored for each in deaths),
        "compared states": sum(each.states for each in deaths),
        "compared records": sum(each.records for each in deaths),
        "lost steps, median": float(np.median(lost or [0])),
        "lost steps, 99th percentile": float(np.percentile(lost or [0], 99)),
        "steps between saves, median": float(np.median(truths["one device"].intervals)),
        "seconds to go on, mean": round(fmean(recoveries or [0]), 2),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "versions": environment(),
    }


def _jobs(
    scenes: dict[str, Scene], truths: dict[str, Truth], size: Size
) -> Iterator[Callable[[Random], list[Tally]]]:
    """What can be done at once, the longest first."""
    for what, scene in scenes.items():
        number = size.study_kills if what == "a study" else size.random_kills
        yield lambda random, what=what, scene=scene, number=number: [
            kills.random_kills(scene, truths[what], random, what, number)
        ]
    scene, true = scenes["one device"], truths["one device"]
    for stage in STAGES:
        yield lambda random, stage=stage: [
            kills.stage_kills(scene, true, random, stage, size.stage_kills)
        ]
    yield lambda random: [disk.failing_calls(scene, true, random, size.trials)]
    yield lambda random: _damages(scene, true, random, size.flips)
    mounts = disk.can_mount(scene.directory / "mounted")
    if mounts:
        yield lambda random: [disk.too_small(scene, true, size.trials)]
    else:
        print("Not injected, as nothing can be mounted: full and read-only disks.")
    for fault in (*FAULTS, *(ON_MOUNTS if mounts else ())):
        yield lambda random, fault=fault: [
            injected(fault, scene, true, random, size.trials)
        ]
    yield lambda random: surroundings.nonfinite_gradients(scene, random, size.trials)


def _damages(scene: Scene, true: Truth, random: Random, flips: int) -> list[Tally]:
    sample = damage.sample(scene, true)
    return [
        damage.flips(sample, random, flips),
        damage.truncations(sample),
        damage.deletions(sample),
        damage.swaps(sample),
        damage.leftovers(sample),
    ]


if __name__ == "__main__":
    sys.exit(main())
