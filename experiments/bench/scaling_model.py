"""Scaling on paper: a step of ResNet-50, and its state, on up to 1,024 devices.

A step takes what a device needs for its own images, and what the exchange of all
gradients takes beside: where nothing of it overlaps, that is their sum; where as much
as can be does, the longer of the two. Bytes of a state are counted, not computed.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from optax_momentum import sgd, sharding_plan, storage

DEVICES = (1, 8, 64, 256, 1024)
_OWN, _ALL = 32, 8192  # images a step: of each device, and of all where that is fixed


class Cluster(NamedTuple):
    """Hosts of a few devices each, whose links to other hosts they share."""

    name: str
    devices: int  # a host
    images_per_second: float  # of one device, exchange excluded
    inside: float  # bytes per second of a device to others of its host
    outside: float  # bytes per second of a host to other hosts
    latency: float  # seconds of a message


CLUSTERS = (
    # Goyal et al. 2017, arXiv:1706.02677: 32 images in 120 ms, hosts with 50 Gbit/s;
    # NVLink by its data sheet; the latency is assumed.
    Cluster("P100", 8, 32 / 0.120, 80e9, 50e9 / 8, 1e-5),
    # Links by the data sheets of NVIDIA's DGX H100; the rest is assumed.
    Cluster("H100", 8, 3000, 450e9, 400e9, 1e-5),
)


def bytes_sent(nbytes: int, devices: float) -> float:
    """By each device, to sum up an array of all: each half, N - 1 of N parts."""
    return 2 * (devices - 1) / devices * nbytes


def exchange_seconds(cluster: Cluster, nbytes: int, devices: int) -> float:
    """First among the devices of a host, then among hosts, and back.

    Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521.
    """
    inside, outside = bytes_on_links(cluster, nbytes, devices)
    seconds = inside / cluster.inside + outside / cluster.outside
    return seconds + 2 * math.log2(devices) * cluster.latency


def bytes_on_links(cluster: Cluster, nbytes: int, devices: int) -> tuple[float, float]:
    """What each device sends inside its host, and each host to others."""
    inside = min(devices, cluster.devices)
    return bytes_sent(nbytes, inside), bytes_sent(nbytes, devices / inside)


def steps() -> Iterator[dict[str, object]]:
    """What a step takes: with as many images in all, and with as many on each device.

    Efficiency is the share of a step in which a device works on its images.
    """
    nbytes = sum(4 * math.prod(leaf.shape) for leaf in jax.tree.leaves(resnet50()))
    for cluster, scaling, devices in product(CLUSTERS, ("strong", "weak"), DEVICES):
        images = _OWN if scaling == "weak" else _ALL / devices
        own = images / cluster.images_per_second
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
            "step_ms": round(1e3 * (own + exchange), 1),
            "efficiency": round(own / (own + exchange), 3),
            "if_overlapped": round(own / max(own, exchange), 3),
        }


def states() -> Iterator[dict[str, object]]:
    """Bytes of momentum on each device, and how much of it could not be divided."""
    kinds = {"float32": None, "int8": storage.int8()}
    for (name, kept), devices in product(kinds.items(), DEVICES):
        mesh = AbstractMesh((devices,), ("data",))
        optimizer = sgd(0.1, 0.9, storage=kept)
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
            **{of: round(nbytes / 1e6, 3) for of, nbytes in sizes.items()},
            "arrays_divided": len(shards) - len(whole),
            "arrays_whole": len(whole),
        }


def resnet50() -> dict[str, Any]:
    """The shapes of its parameters; kernels are [height, width, inputs, outputs].

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
