"""Bad inputs 28 to 34: shapes, containers, kinds of arrays, and where they lie."""

import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments.conformance.bad_inputs.expectations import BETA, expect_refused
from experiments.conformance.bad_inputs.modes import Mode, jit, vmap
from experiments.conformance.bad_inputs.systems import System
from optax_momentum.testing import (
    DoesNotApply,
    contract,
    expect,
    expect_same_bits,
    trees,
)


def a_gradient_whose_shape_would_broadcast(system: System, mode: Mode) -> None:
    """(3,) for (3, 1): refused by its path."""
    expect_refused(
        ("['w']",),
        lambda: _taken(system, mode, {"w": jnp.ones((3, 1))}, {"w": jnp.ones(3)}),
    )


def gradients_of_another_tree(system: System, mode: Mode) -> None:
    """In each other's place, one more, one less, or renamed: refused by the path."""
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    trees_and_paths = (
        ({"a": params["b"], "b": params["a"]}, "['a']"),
        ({**params, "c": jnp.ones(1)}, "['c']"),
        ({"a": jnp.ones(3)}, "['b']"),
        ({"a": jnp.ones(3), "c": jnp.ones(2)}, "['c']"),
    )
    for gradients, path in trees_and_paths:
        expect_refused(
            (path,),
            lambda gradients=gradients: _taken(system, mode, params, gradients),
        )


def gradients_in_other_containers(system: System, mode: Mode) -> None:
    """An OrderedDict or a FrozenDict for a dict: refused, naming it."""
    params = {"w": jnp.ones(3)}
    for container in (OrderedDict, FrozenDict):
        gradients = container(params)
        expect_refused(
            (container.__name__,),
            lambda gradients=gradients: _taken(system, mode, params, gradients),
        )


def leaves_of_unusual_sizes(system: System, mode: Mode) -> None:
    """(), (0,), (1,), (3, 0, 2) work; 2³¹ + 1 is tried by jit on an accelerator."""
    transformation = mode(system.heavy_ball(BETA))
    contract.scalars_and_empty_arrays_are_leaves(transformation, None)
    if mode is jit and jax.default_backend() != "cpu":
        huge: Any = jnp.ones(2**31 + 1, jnp.bfloat16)
        updates, _ = transformation.update(huge, transformation.init(huge), huge)
        expect(updates.shape == huge.shape, f"the update has shape {updates.shape}")
        expect(updates[-1] == 1, f"the last update is {updates[-1]}")


def numpy_arrays_of_every_kind(system: System, mode: Mode) -> None:
    """Not contiguous, read-only, or in a file: as JAX's arrays, bit for bit."""
    numbers = np.random.default_rng(14).normal(size=(4, 6)).astype(np.float32)
    read_only = numbers.copy()
    read_only.flags.writeable = False
    transformation = mode(system.heavy_ball(BETA))

    def last_step(array: Any) -> Any:
        state, updates = transformation.init(array), None
        for _ in range(3):
            updates, state = transformation.update(array, state, array)
        return updates, state

    with tempfile.TemporaryDirectory() as directory:
        np.save(file := Path(directory) / "array.npy", numbers)
        in_a_file = np.load(file, mmap_mode="r")
        for array in (numbers.T[::2], read_only, in_a_file):
            want = last_step(jnp.array(np.ascontiguousarray(array)))
            expect_same_bits("the last step", last_step(array), want)


def gradients_on_another_device(system: System, mode: Mode) -> None:
    """Refused by the path, where both are committed to a device; else taken."""
    first, second = (
        {"w": jax.device_put(jnp.ones(3), device)} for device in _two_devices()
    )
    plain = system.heavy_ball(BETA)
    state, transformation = plain.init(first), mode(plain)
    taken, _ = transformation.update({"w": jnp.ones(3)}, plain.init(second))
    want, _ = transformation.update(first, state)
    expect_same_bits("of one that is free, the updates", taken, want)

    def step() -> str:
        updates: Any = transformation.update(second, state)[0]
        return f"the update is on {updates['w'].device}"

    try:
        expect_refused(("['w']",), step)
    except AssertionError as broken:
        if mode is vmap and "incompatible devices" in str(broken):
            told = "JAX refuses it, by no path; under vmap no array tells its device"
            raise DoesNotApply(told) from None
        raise


def a_parameter_on_two_devices(system: System, mode: Mode) -> None:
    """Half of the buffer's bytes on each: from init on, if compiled from step 1 on."""
    _two_devices()
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    params: Any = jnp.asarray(np.arange(8.0), jnp.float32)
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec("x")))
    plain = system.heavy_ball(BETA)
    transformation = mode(plain)

    def expect_halves(state: Any, when: str) -> None:
        (kept,) = trees.beside(state, (), params.shape)
        sizes = [shard.data.nbytes for shard in kept.addressable_shards]
        expect(sizes == [16, 16], f"{when} the devices hold {sizes} of 32 bytes")

    expect_halves(plain.init(params), "at init")
    for state in (plain.init(params), transformation.init(params)):
        for step in (1, 2):
            _, state = transformation.update(params, state, params)
            expect_halves(state, f"after step {step}")


TREES = (
    a_gradient_whose_shape_would_broadcast,
    gradients_of_another_tree,
    gradients_in_other_containers,
    leaves_of_unusual_sizes,
    numpy_arrays_of_every_kind,
    gradients_on_another_device,
    a_parameter_on_two_devices,
)


def _taken(system: System, mode: Mode, params: Any, gradients: Any) -> str:
    """What a step makes of the gradients."""
    transformation = mode(system.heavy_ball(BETA))
    updates, _ = transformation.update(gradients, transformation.init(params), params)
    shapes = jax.tree.map(jnp.shape, updates)
    return f"the updates have shapes {shapes}"


def _two_devices() -> list[Any]:
    if len(jax.devices()) < 2:
        raise DoesNotApply("it takes two devices")
    return jax.devices()[:2]
