"""Lanes: independent runs side by side in one program, divided among the devices."""

from collections.abc import Callable

import jax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

LANES = PartitionSpec("lanes")


def map_lanes(
    mesh: Mesh,
    function: Callable[..., PyTree],
    *,
    lanes: PyTree,
    lanes_spec: PyTree,
    shared: PyTree,
    shared_spec: PyTree,
    out_spec: PartitionSpec = LANES,
) -> PyTree:
    """`function(*lane, *shared)` for every lane, each device calling it for its own.

    Args:
      mesh: with the axes `lanes` and `data`.
      function: of one lane, on one device.
      lanes: trees whose leaves have a leading axis of lanes.
      lanes_spec: how they lie on the mesh.
      shared: what all lanes read.
      shared_spec: how it lies on the mesh.
      out_spec: how the results lie on the mesh.

    Returns:
      What the function returns, with a leading axis of lanes.
    """

    def on_device(lanes: PyTree, shared: PyTree) -> PyTree:
        def call(lane: PyTree) -> PyTree:
            return function(*lane, *shared)

        if len(jax.tree.leaves(lanes)[0]) == 1:
            return as_lane(call(jax.tree.map(lambda x: x[0], lanes)))
        in_turn = jax.default_backend() == "cpu"
        return jax.lax.map(call, lanes) if in_turn else jax.vmap(call)(lanes)

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(lanes_spec, shared_spec),
        out_specs=out_spec,
        check_vma=False,  # it can't tell that a psum is equal on all devices
    )(lanes, shared)


def as_lane(tree: PyTree) -> PyTree:
    """The tree as that of a single lane: its leaves with a leading axis of length 1."""
    return jax.tree.map(lambda x: x[None], tree)
