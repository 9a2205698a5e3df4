"""Times the sum over all devices: as one all-reduce, and in two halves.

`sharded` sums in two halves: a reduce-scatter of the gradients, and an all-gather of
the updates.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float32

from experiments.bench import table
from experiments.bench.scaling_model import bytes_sent
from experiments.bench.table import Timed
from experiments.distributed.devices import device_mesh

NBYTES = (2**12, 2**15, 2**18, 2**21, 2**24)
TURNS = 5
REPETITIONS = 20  # exchanges that are timed together


def exchanges(counts: Sequence[int]) -> Iterator[dict[str, object]]:
    """Times both exchanges at each of these numbers of devices."""
    for devices in counts:
        for nbytes in NBYTES:
            programs = {
                "all-reduce": _exchange(devices, nbytes, all_reduce),
                "in two halves": _exchange(devices, nbytes, in_halves),
            }
            for kind, in_turns in table.seconds_in_turn(programs, TURNS).items():
                seconds = statistics.median(in_turns) / REPETITIONS
                sent = bytes_sent(nbytes, devices)
                yield {
                    "benchmark": "exchange",
                    "exchange": kind,
                    "devices": devices,
                    "bytes": nbytes,
                    "microseconds": round(1e6 * seconds, 1),
                    "sent_gb_per_second": round(sent / seconds / 1e9, 3),
                }


def all_reduce(x: Float32[Array, " numbers"]) -> Float32[Array, " numbers"]:
    """Sums over the devices at once."""
    return jax.lax.psum(x, "data")


def in_halves(x: Float32[Array, " numbers"]) -> Float32[Array, " numbers"]:
    """Sums a part on every device, then gathers the parts."""
    part = jax.lax.psum_scatter(x, "data", tiled=True)
    return jax.lax.all_gather(part, "data", tiled=True)


def _exchange(devices: int, nbytes: int, sum_up: Callable[[Array], Array]) -> Timed:
    """Consecutive exchanges of that many bytes."""
    mesh, spec = device_mesh(count=devices), PartitionSpec("data")

    def repeat(x: Float32[Array, " numbers"]) -> Float32[Array, " numbers"]:
        return jax.lax.fori_loop(0, REPETITIONS, lambda _, x: sum_up(x) / devices, x)

    x = jax.device_put(jnp.ones(devices * nbytes // 4), NamedSharding(mesh, spec))
    specs: dict[str, Any] = {"in_specs": spec, "out_specs": spec, "check_vma": False}
    return table.timed(jax.jit(jax.shard_map(repeat, mesh=mesh, **specs)), x)
