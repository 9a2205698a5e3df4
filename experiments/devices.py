"""All devices: how arrays lie on them, and how much each takes at once."""

from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

_CPU_SLICE = 16  # images; measured, see docs/performance.md


def device_mesh(lanes: int = 1) -> jax.sharding.Mesh:
    """All devices, in `lanes` equal groups, each of which shares a batch's images."""
    shape = (lanes, jax.device_count() // lanes)
    return jax.make_mesh(shape, ("lanes", "data"), axis_types=(AxisType.Auto,) * 2)


def on_all_devices(tree: Any) -> Any:
    """The arrays, replicated: what `TrainEpoch` takes."""
    return jax.device_put(tree, NamedSharding(device_mesh(), PartitionSpec()))


def replicated(shapes: Any) -> Any:
    """These shapes and dtypes as `on_all_devices` places their arrays."""
    sharding = NamedSharding(device_mesh(), PartitionSpec())
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
    )


def slice_size(batch_size: int, devices: int) -> int:
    """Images whose gradients a device takes at once: a CPU what stays in its cache."""
    part = -(-batch_size // devices)
    return min(part, _CPU_SLICE) if jax.default_backend() == "cpu" else part
