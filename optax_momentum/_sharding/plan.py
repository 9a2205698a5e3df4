"""What lies where, when the state of an optimizer is divided over the data axis."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from optax_momentum._base.checks import is_absent
from optax_momentum._base.scalars import is_concrete
from optax_momentum._storage.stored import Blocks, Parts, is_stored


class Shard(NamedTuple):
    """An array of the state, and what one device holds of it."""

    path: str
    axis: int | None  # that is divided; None: each device holds the whole array
    nbytes: int
    nbytes_per_device: int


class ShardingPlan(NamedTuple):
    """What lies where, of the state of one optimizer; made by `sharding_plan`."""

    mesh: Mesh | AbstractMesh
    axis_name: str
    slices: Any  # a PartitionSpec for each leaf of the params: of its gradient
    state: Any  # a ShapeDtypeStruct, with sharding, for each array of the state

    @property
    def shardings(self) -> Any:
        """A `NamedSharding` for each array of the state."""
        return jax.tree.map(lambda array: array.sharding, self.state)

    @property
    def shards(self) -> list[Shard]:
        """Every array of the state, the divided and the whole."""
        return [
            _shard(path, array, self.axis_name)
            for path, array in jax.tree.leaves_with_path(self.state)
        ]


def sharding_plan(
    inner: optax.GradientTransformation,
    params: Any,
    mesh: Mesh | AbstractMesh,
    axis_name: str,
    *,
    min_size: int = 4096,
) -> ShardingPlan:
    """Divides the state of an optimizer over the devices of the data axis.

    A leaf is divided along its first axis that the number of devices divides, and with
    it all that the state keeps beside it: buffers, averages, slow weights. Blocks of
    `storage.int8` stay whole: an axis that would cut one is passed over. A leaf without
    an axis, or of fewer than `min_size` elements, is whole on every device, as are
    counts and other scalars. `plan.shards` lists all, with their bytes.

    Whatever the number of devices, a state holds the same arrays, of the same shapes as
    undivided. So `jax.device_put(state, plan.shardings)` takes a state from any number
    of devices to that of the plan, and `plan.state` is what Orbax takes to restore a
    checkpoint that was saved on any.

    Args:
      inner: the whole optimizer, its storage included: of this library, or any other
        that `optax.tree.map_params` knows its way about.
      params: arrays or `ShapeDtypeStruct`, each whole on every device.
      mesh: the devices; an `AbstractMesh` for a plan on paper.
      axis_name: the axis of the mesh along which the batch is divided.
      min_size: leaves of fewer elements are not divided: they need no saving, and each
        divided one is an exchange more.

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
    _check_whole(params)
    leaves, tree = jax.tree.flatten(params)
    numbers = tree.unflatten(range(len(leaves)))
    state = jax.eval_shape(inner.init, params)
    beside = [[] for _ in leaves]

    def collect(kept: Any, number: int) -> None:
        if _is_like(kept, leaves[number]):
            beside[number].append(kept)

    _map_kept(inner, collect, lambda _: None, state, numbers)
    axes = [
        _divided_axis(leaf, kept, mesh.shape[axis_name], min_size)
        for leaf, kept in zip(leaves, beside, strict=True)
    ]

    def spec(ndim: int, axis: int | None) -> PartitionSpec:
        last = () if axis is None else (*[None] * (ndim + axis), axis_name)
        return PartitionSpec(*last)

    def place(array: Any, axis: int | None = None) -> Any:
        sharding = NamedSharding(mesh, spec(array.ndim, axis))
        return array.update(sharding=sharding)

    def place_beside(kept: Any, number: int) -> Any:
        axis = axes[number] if _is_like(kept, leaves[number]) else None
        return jax.tree.map(lambda array: place(array, axis), kept)

    placed = _map_kept(inner, place_beside, place, state, numbers)
    specs = [
        spec(jnp.ndim(leaf), axis) for leaf, axis in zip(leaves, axes, strict=True)
    ]
    return ShardingPlan(mesh, axis_name, tree.unflatten(specs), placed)


def _map_kept(
    inner: optax.GradientTransformation,
    function: Callable[[Any, int], Any],
    otherwise: Callable[[Any], Any],
    state: Any,
    numbers: Any,
) -> Any:
    """Maps what a state keeps beside a parameter, with its number, and all the rest."""

    def unless_absent(kept: Any, number: Any) -> Any:
        return kept if is_absent(kept) else function(kept, number)

    return optax.tree.map_params(
        inner,
        unless_absent,
        state,
        numbers,
        transform_non_params=otherwise,
        is_leaf=lambda kept: is_absent(kept) or is_stored(kept),
    )


def _is_like(kept: Any, leaf: Any) -> bool:
    """True for the shape of the leaf, also behind other axes: a ring's, or lanes."""
    ndim = jnp.ndim(leaf)
    return kept.shape[len(kept.shape) - ndim :] == jnp.shape(leaf)


def _divided_axis(leaf: Any, beside: list[Any], size: int, min_size: int) -> int | None:
    """The axis to divide, counted from the last; None if none, or nothing to gain."""
    shape = jnp.shape(leaf)
    if not beside or math.prod(shape) < min_size:
        return None
    for axis in range(-len(shape), 0):
        whole_blocks = all(_divides_blocks(kept, axis, size) for kept in beside)
        if shape[axis] % size == 0 and whole_blocks:
            return axis
    return None


def _divides_blocks(kept: Any, axis: int, size: int) -> bool:
    """True where every part is made of whole blocks."""
    match kept:
        case Parts():
            return all(_divides_blocks(part, axis, size) for part in kept)
        case Blocks():
            return kept.shape[axis] // size % kept.tile[axis] == 0
        case _:
            return True


def _shard(path: Any, array: Any, axis_name: str) -> Shard:
    spec = tuple(array.sharding.spec)
    axis = spec.index(axis_name) if axis_name in spec else None
    part = array.sharding.shard_shape(array.shape)
    sizes = (math.prod(shape) * array.dtype.itemsize for shape in (array.shape, part))
    return Shard(jax.tree_util.keystr(path), axis, *sizes)


def _check_axis(mesh: Mesh | AbstractMesh, axis_name: str) -> None:
    if axis_name not in mesh.axis_names:
        raise ValueError(
            f"sharding_plan: the mesh must have the axis {axis_name!r}, it has "
            f"{mesh.axis_names}. Name the axis along which the batch is divided."
        )


def _check_whole(params: Any) -> None:
    for path, leaf in jax.tree.leaves_with_path(params):
        sharding = getattr(leaf, "sharding", None) if is_concrete(leaf) else None
        if sharding is None or sharding.is_fully_replicated:
            continue
        raise ValueError(
            f"sharding_plan: params{jax.tree_util.keystr(path)} must be whole on every "
            f"device, it is divided as {sharding.spec}. Leave `sharded` out: a state "
            "is divided as its parameters are."
        )
