"""Scaling on paper: a step of ResNet-50, and its state, on up to 1,024 devices.

A device computes the gradients of its images, and all devices exchange theirs. Without
overlap, a step takes the sum of both times; with full overlap, the longer of the two.
The bytes of a state are counted exactly.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from optax_momentum import sgd, sharding_plan, storage

DEVICES = (1, 8, 64, 256, 1024)
_PER_DEVICE = 32  # images in a step on each device, in weak scaling
_IN_ALL = 8192  # images in a step on all devices together, in strong scaling


class Cluster(NamedTuple):
    """Hosts with a few devices each, which share the host's link to other hosts."""

    name: str
    devices: int  # in one host
    images_per_second: float  # of one device, without the exchange
    inside: float  # bytes per second from a device to others in its host
    outside: float  # bytes per second from a host to other hosts
    latency: float  # seconds per message


CLUSTERS = (
    # Goyal et al. 2017, arXiv:1706.02677: 32 images in 120 ms, hosts with 50 Gbit/s;
    # NVLink from its data sheet; the latency is an assumption.
    Cluster("P100", 8, 32 / 0.120, 80e9, 50e9 / 8, 1e-5),
    # Links from the data sheets of NVIDIA's DGX H100; the rest is an assumption.
    Cluster("H100", 8, 3000, 450e9, 400e9, 1e-5),
)


def bytes_sent(nbytes: int, devices: float) -> float:
    """What each of N devices sends to sum an array: (N - 1) / N of it in each half."""
    return 2 * (devices - 1) / devices * nbytes


def exchange_seconds(cluster: Cluster, nbytes: int, devices: int) -> float:
    """Seconds of a sum: first inside each host, then among hosts, and back.

    Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521.
    """
    inside, outside = bytes_on_links(cluster, nbytes, devices)
    seconds = inside / cluster.inside + outside / cluster.outside
    return seconds + 2 * math.log2(devices) * cluster.latency


def bytes_on_links(cluster: Cluster, nbytes: int, devices: int) -> tuple[float, float]:
    """What each device sends inside its host, and each host to other hosts."""
    inside = min(devices, cluster.devices)
    return bytes_sent(nbytes, inside), bytes_sent(nbytes, devices / inside)


def steps() -> Iterator[dict[str, object]]:
    """The time of a step, at a fixed total batch (strong) or per device (weak).

    Efficiency is the share of a step in which a device works on its images.
    """
    nbytes = sum(4 * math.prod(leaf.shape) for leaf in jax.tree.leaves(resnet50()))
    for cluster, scaling, devices in product(CLUSTERS, ("strong", "weak"), DEVICES):
        images = _PER_DEVICE if scaling == "weak" else _IN_ALL / devices
        compute = images / cluster.images_per_second
        inside, outside = bytes_on_links(cluster, nbytes, devices)
        exchange = exchange_seconds(cluster, nbytes, devices)
        yield {
            "benchmark": "paper",
            "cluster": cluster.name,
            "scaling": scaling,
            "devices": devices,
            "mb_inside": round(inside / 1e6, 1),
            "mb_outside": round(outside / 1e6, 1),
            "exchange_ms": round(1e3 * exchange, 2),
            "step_ms": round(1e3 * (compute + exchange), 1),
            "efficiency": round(compute / (compute + exchange), 3),
            "if_overlapped": round(compute / max(compute, exchange), 3),
        }


def states() -> Iterator[dict[str, object]]:
    """The momentum on each device, and how much of it can't be divided."""
    kinds = {"float32": None, "int8": storage.int8()}
    for (name, buffer), devices in product(kinds.items(), DEVICES):
        mesh = AbstractMesh((devices,), ("data",))
        optimizer = sgd(0.1, 0.9, storage=buffer)
        shards = sharding_plan(optimizer, resnet50(), mesh, "data").shards
        whole = [shard for shard in shards if shard.axis is None]
        sizes = {
            "mb_undivided": sum(shard.nbytes for shard in shards),
            "mb_divided": sum(shard.nbytes_per_device for shard in shards),
            "mb_of_it_whole": sum(shard.nbytes for shard in whole),
        }
        yield {
            "benchmark": "paper",
            "storage": name,
            "devices": devices,
            **{key: round(nbytes / 1e6, 3) for key, nbytes in sizes.items()},
            "arrays_divided": len(shards) - len(whole),
            "arrays_whole": len(whole),
        }


def resnet50() -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """The shapes of the parameters; kernels are [height, width, inputs, outputs].

    He, Zhang, Ren and Sun 2016, arXiv:1512.03385, table 1.
    """
    kernels = {"first": (7, 7, 3, 64)}
    channels = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            name = f"stage {stage}, block {block}"
            kernels[f"{name}, down"] = (1, 1, channels, width)
            kernels[f"{name}, middle"] = (3, 3, width, width)
            kernels[f"{name}, up"] = (1, 1, width, 4 * width)
            if block == 0:
                kernels[f"{name}, shortcut"] = (1, 1, channels, 4 * width)
            channels = 4 * width
    layers = {
        name: {"kernel": shape, "scale": shape[-1:], "bias": shape[-1:]}
        for name, shape in kernels.items()
    }
    layers["last"] = {"kernel": (channels, 1000), "bias": (1000,)}
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        layers,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )
