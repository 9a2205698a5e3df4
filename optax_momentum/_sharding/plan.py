"""The sharding plan: where each array of a divided optimizer state is placed."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from optax_momentum._base.boxes import unboxed
from optax_momentum._base.checks import is_absent
from optax_momentum._base.scalars import is_concrete
from optax_momentum._storage.stored import Blocks, Parts, Stored, is_stored


class Shard(NamedTuple):
    """One array of the state, and how much of it each device holds."""

    path: str
    axis: int | None  # the divided axis; None: each device holds the whole array
    nbytes: int
    nbytes_per_device: int


class ShardingPlan(NamedTuple):
    """The placement of one optimizer's state; made by `sharding_plan`."""

    mesh: Mesh | AbstractMesh
    axis_name: str
    # For each leaf of the params, the PartitionSpec of its gradient.
    slices: optax.Params
    # For each array of the state, a ShapeDtypeStruct with its sharding.
    state: optax.OptState

    @property
    def shardings(self) -> optax.OptState:
        """A tree with a `NamedSharding` for each array of the state."""
        return jax.tree.map(lambda array: array.sharding, self.state)

    @property
    def shards(self) -> list[Shard]:
        """A `Shard` for each array of the state, whether divided or whole."""
        return [
            _shard(path, array, self.axis_name)
            for path, array in jax.tree.leaves_with_path(self.state)
        ]


def sharding_plan(
    inner: optax.GradientTransformation,
    params: object,
    mesh: Mesh | AbstractMesh,
    axis_name: str,
    *,
    min_size: int = 4096,
) -> ShardingPlan:
    """Plans how to divide an optimizer's state over the devices of the data axis.

    Each parameter is assigned the first axis whose length is divisible by the number of
    devices. The state that belongs to the parameter (buffers, averages, slow weights)
    is divided along that axis. An axis that would cut a block of `storage.int8` is
    skipped. State stays whole on every device if its parameter has no suitable axis or
    fewer than `min_size` elements; so do counts and other scalars. `plan.shards` lists
    all arrays with their sizes in bytes.

    The arrays of a state, and their global shapes, do not depend on the number of
    devices. Therefore `jax.device_put(state, plan.shardings)` moves a state from any
    number of devices to those of the plan, and Orbax restores a checkpoint saved on any
    number of devices if given `plan.state`.

    Args:
      inner: the whole optimizer, including its storage: one of this library, or any
        other that `optax.tree.map_params` supports.
      params: arrays or `ShapeDtypeStruct`s, replicated on every device.
      mesh: the mesh of devices; an `AbstractMesh` is enough for planning.
      axis_name: the mesh axis along which the batch is divided.
      min_size: parameters with fewer elements are not divided, because little memory
        would be saved and each divided one adds a collective operation.

    Returns:
      A `ShardingPlan`, for `sharded` and `reduce_scatter`.

    Raises:
      ValueError: the mesh has no such axis, or a parameter is itself divided.

    >>> from jax.sharding import AbstractMesh
    >>> from optax_momentum import sgd, storage
    >>> optimizer = sgd(0.1, 0.9, storage=storage.int8())
    >>> params = {"bias": jnp.ones(128), "kernel": jnp.ones((256, 128))}
    >>> plan = sharding_plan(optimizer, params, AbstractMesh((8,), ("data",)), "data")
    >>> for shard in plan.shards:
    ...     print(*shard)
    .step None 4 4
    .buffer['bias'] None 512 512
    .buffer['kernel'].codes 0 32768 4096
    .buffer['kernel'].scales 0 2048 256
    .weight None 4 4

    References:
      Rajbhandari, Rasley, Ruwase and He 2020, arXiv:1910.02054, section 5.1.
    """
    _check_axis(mesh, axis_name)
    params = unboxed(params)
    _check_whole(params)
    leaves, tree = jax.tree.flatten(params)
    indices = tree.unflatten(range(len(leaves)))
    state = jax.eval_shape(inner.init, params)
    buffers = [[] for _ in leaves]  # for each parameter, its part of the state

    def collect(buffer: Stored, index: int) -> None:
        if _is_like(buffer, leaves[index]):
            buffers[index].append(buffer)

    _map_state(inner, collect, lambda _: None, state, indices)
    axes = [
        _divided_axis(leaf, its_buffers, mesh.shape[axis_name], min_size)
        for leaf, its_buffers in zip(leaves, buffers, strict=True)
    ]

    def spec(ndim: int, axis: int | None) -> PartitionSpec:
        last = () if axis is None else (*[None] * (ndim + axis), axis_name)
        return PartitionSpec(*last)

    def place(array: jax.ShapeDtypeStruct, axis: int | None = None) -> object:
        sharding = NamedSharding(mesh, spec(array.ndim, axis))
        return array.update(sharding=sharding)

    def place_buffer(buffer: Stored, index: int) -> object:
        axis = axes[index] if _is_like(buffer, leaves[index]) else None
        return jax.tree.map(lambda array: place(array, axis), buffer)

    placed = _map_state(inner, place_buffer, place, state, indices)
    specs = [
        spec(jnp.ndim(leaf), axis) for leaf, axis in zip(leaves, axes, strict=True)
    ]
    return ShardingPlan(mesh, axis_name, tree.unflatten(specs), placed)


def _map_state(
    inner: optax.GradientTransformation,
    on_buffer: Callable[[Stored, int], object],
    on_other: Callable[[jax.ShapeDtypeStruct], object],
    state: optax.OptState,
    indices: optax.Params,
) -> optax.OptState:
    """Maps the buffers of a state, with their parameters' indices, and all the rest."""

    def unless_absent(buffer: Stored, index: int) -> object:
        return buffer if is_absent(buffer) else on_buffer(buffer, index)

    return optax.tree.map_params(
        inner,
        unless_absent,
        state,
        indices,
        transform_non_params=on_other,
        is_leaf=lambda node: is_absent(node) or is_stored(node),
    )


def _is_like(buffer: Stored, leaf: jax.Array) -> bool:
    """True if the buffer's shape ends in the leaf's: a ring or a vmap adds axes."""
    ndim = jnp.ndim(leaf)
    return buffer.shape[len(buffer.shape) - ndim :] == jnp.shape(leaf)


def _divided_axis(
    leaf: jax.Array, buffers: list[Stored], devices: int, min_size: int
) -> int | None:
    """The axis to divide, as a negative index; None to leave the leaf whole."""
    shape = jnp.shape(leaf)
    if not buffers or math.prod(shape) < min_size:
        return None
    for axis in range(-len(shape), 0):
        whole_blocks = all(_divides_blocks(b, axis, devices) for b in buffers)
        if shape[axis] % devices == 0 and whole_blocks:
            return axis
    return None


def _divides_blocks(buffer: Stored, axis: int, devices: int) -> bool:
    """True if every device gets whole blocks."""
    match buffer:
        case Parts():
            return all(_divides_blocks(part, axis, devices) for part in buffer)
        case Blocks():
            return buffer.shape[axis] // devices % buffer.tile[axis] == 0
        case _:
            return True


def _shard(path: jax.tree_util.KeyPath, array: Any, axis_name: str) -> Shard:
    spec = tuple(array.sharding.spec)
    axis = spec.index(axis_name) if axis_name in spec else None
    part = array.sharding.shard_shape(array.shape)
    sizes = (math.prod(shape) * array.dtype.itemsize for shape in (array.shape, part))
    return Shard(jax.tree_util.keystr(path), axis, *sizes)


def _check_axis(mesh: Mesh | AbstractMesh, axis_name: str) -> None:
    if axis_name not in mesh.axis_names:
        raise ValueError(
            f"sharding_plan: the mesh must have the axis {axis_name!r}, but its axes "
            f"are {mesh.axis_names}. Name the axis along which the batch is divided."
        )


def _check_whole(params: object) -> None:
    for path, leaf in jax.tree.leaves_with_path(params):
        sharding = getattr(leaf, "sharding", None) if is_concrete(leaf) else None
        if sharding is None or sharding.is_fully_replicated:
            continue
        raise ValueError(
            f"sharding_plan: params{jax.tree_util.keystr(path)} must be whole on every "
            f"device, but it is divided as {sharding.spec}. Do not use `sharded`: the "
            "state of divided parameters is divided like them."
        )
