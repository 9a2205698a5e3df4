"""Promises about states and calls: what a transformation owes its callers.

Each function takes a transformation and parameters to run it on, and raises
AssertionError if the transformation breaks the promise.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum.testing import trees
from optax_momentum.testing._verdicts import expect, expect_same_bits


def calls_are_pure(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Equal arguments give equal bits, whatever was called in between."""
    gradients = trees.at(trees.gradients_like(params), 0)
    state = transformation.init(params)
    first = transformation.update(gradients, state, params)
    transformation.update(jax.tree.map(jnp.negative, gradients), first[1], params)
    again = transformation.update(gradients, transformation.init(params), params)
    expect_same_bits("a second call", again, first)
    expect_same_bits("its state", transformation.init(params), state)


def one_compilation_serves_every_step(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """All later steps use what the first one compiled."""
    traces = []

    @jax.jit
    def update(gradients, state, params):
        traces.append(None)
        return transformation.update(gradients, state, params)

    gradients = trees.gradients_like(params, steps=4)
    trees.run(update, transformation.init(params), gradients, params)
    expect(len(traces) == 1, f"{len(traces)} compilations in 4 steps")


def init_takes_shapes_in_place_of_arrays(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """A state can be made from shapes, before the parameters exist."""
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params)
    want = transformation.init(params)
    for state in (
        jax.eval_shape(transformation.init, shapes),
        transformation.init(shapes),
    ):
        broken = trees.difference(trees.described(state), trees.described(want))
        expect(not broken, f"of shapes {broken}")
        for got, leaf in zip(*map(jax.tree.leaves, (state, want)), strict=True):
            # Copies of parameters have no values yet: they stay shapes.
            if not isinstance(got, jax.ShapeDtypeStruct):
                expect_same_bits("of shapes, the state", got, leaf)


def nothing_shares_memory(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """The updates, the new state and the old may each be donated or deleted."""
    state = transformation.init(params)
    gradients = trees.at(trees.gradients_like(params), 0)
    updates, after = transformation.update(gradients, state, params)
    groups = {"gradients": gradients, "old state": state, "new state": after}
    owners: dict[int, str] = {}
    for owner, tree in {"updates": updates, **groups, "parameters": params}.items():
        for leaf in filter(lambda leaf: leaf.size, jax.tree.leaves(tree)):
            other = owners.setdefault(leaf.unsafe_buffer_pointer(), owner)
            message = f"{other} and {owner} share an array: donate one, lose both"
            expect(other == owner, message)


def parameters_and_state_can_be_donated(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """A jitted step may overwrite them, and computes the same."""

    def step(params, state, gradients):
        updates, state = transformation.update(gradients, state, params)
        return params, state, updates

    gradients = trees.gradients_like(params, steps=3)
    donating = jax.jit(step, donate_argnums=(0, 1))
    donated, state = jax.tree.map(jnp.copy, (params, transformation.init(params)))
    emitted = []
    for k in range(3):
        donated, state, updates = donating(donated, state, trees.at(gradients, k))
        emitted.append(updates)
    got = jax.tree.map(lambda *u: jnp.stack(u), *emitted)
    update = jax.jit(transformation.update)
    want, _ = trees.run(update, transformation.init(params), gradients, params)
    expect_same_bits("with donation", got, want)


def a_leaf_without_gradient_is_passed_on(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """`None` and `optax.MaskedNode()` come back unchanged, and later steps work."""
    gradients = trees.gradients_like(params, steps=3)
    for absent, state, updates, after in _without_a_gradient(transformation, params):
        path, _ = trees.largest_leaf(params)
        given = trees.replaced(trees.at(gradients, 1), path, absent)
        same = jax.tree.structure(updates) == jax.tree.structure(given)
        expect(same, f"{absent} came back as something else")
        broken = trees.difference(trees.described(after), trees.described(state))
        expect(not broken, f"after a gradient of {absent} {broken}")
        transformation.update(trees.at(gradients, 2), after, params)


def a_leaf_without_gradient_keeps_its_state(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Bit for bit, whatever happens to the other leaves."""
    path, leaf = trees.largest_leaf(params)
    for absent, *steps in _without_a_gradient(transformation, params):
        kept = (trees.beside(steps[i], path, leaf.shape) for i in (2, 0))
        expect_same_bits(f"state beside a gradient of {absent}", *kept)


def empty_trees_are_trees(
    transformation: optax.GradientTransformation, params: optax.Params | None
) -> None:
    """Trees without leaves, which `optax.masked` and `partition` make, are no error."""
    del params
    trees_without_leaves: tuple[Any, ...] = ((), {}, [], {"a": None}, [()])
    for tree in trees_without_leaves:
        updates, _ = transformation.update(tree, transformation.init(tree), tree)
        expect(updates == tree, f"the updates of {tree} are {updates}")


def scalars_and_empty_arrays_are_leaves(
    transformation: optax.GradientTransformation, params: optax.Params | None
) -> None:
    """Leaves of any shape work."""
    del params
    for shape in ((), (0,), (1,), (3, 0, 2)):
        leaf: jax.Array = jnp.ones(shape)
        state = transformation.init(leaf)
        updates, after = transformation.update(leaf, state, leaf)
        got = np.shape(np.asarray(updates))
        expect(got == shape, f"{shape} became {got}")
        broken = trees.difference(trees.described(after), trees.described(state))
        expect(not broken, f"of shape {shape} {broken}")


def a_restored_state_continues_bit_for_bit(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Its leaves hold the whole state: saved as NumPy arrays, the run continues."""
    gradients = trees.gradients_like(params)
    update = jax.jit(transformation.update)
    _, state = trees.run(update, transformation.init(params), gradients, params)
    leaves = [np.array(leaf) for leaf in jax.tree.leaves(state)]
    treedef = jax.tree.structure(transformation.init(params))
    restored = treedef.unflatten([jnp.asarray(leaf) for leaf in leaves])
    got, want = (trees.run(update, s, gradients, params) for s in (restored, state))
    expect_same_bits("the continuation", got, want)


OF_ANY = (
    calls_are_pure,
    one_compilation_serves_every_step,
    init_takes_shapes_in_place_of_arrays,
    nothing_shares_memory,
    parameters_and_state_can_be_donated,
    a_leaf_without_gradient_is_passed_on,
    empty_trees_are_trees,
    scalars_and_empty_arrays_are_leaves,
    a_restored_state_continues_bit_for_bit,
)
OF_LINEAR = (a_leaf_without_gradient_keeps_its_state,)


def _without_a_gradient(
    transformation: optax.GradientTransformation, params: optax.Params
) -> Iterator[tuple[Any, ...]]:
    """Yields (absent leaf, old state, updates, new state) of a jitted second step."""
    gradients = trees.gradients_like(params, steps=3)
    path, _ = trees.largest_leaf(params)
    update = jax.jit(transformation.update)
    _, state = update(trees.at(gradients, 0), transformation.init(params), params)
    for absent in (None, optax.MaskedNode()):
        given = trees.replaced(trees.at(gradients, 1), path, absent)
        yield (absent, state, *update(given, state, params))
