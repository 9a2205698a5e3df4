"""Promises that results agree: under jit, scan, vmap, sharding, and in other trees.

Each function takes a transformation and parameters to run it on, and raises
AssertionError if results differ. Those in `OF_LINEAR` hold only for transformations
that treat all elements alike and independently, as linear momentum does; clipping by a
global norm, for instance, does not.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from optax_momentum.testing import trees
from optax_momentum.testing._verdicts import DoesNotApply, expect, expect_same_bits


def scan_is_the_jitted_loop(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """`jax.lax.scan` gives the bits of a loop over the jitted update."""
    gradients = trees.gradients_like(params)
    want = _jitted(transformation, gradients, params)

    def body(state, gradients):
        updates, state = transformation.update(gradients, state, params)
        return state, updates

    scan = jax.jit(lambda state: jax.lax.scan(body, state, gradients))
    state, updates = scan(transformation.init(params))
    expect_same_bits("under scan", (updates, state), want)


def vmap_is_the_jitted_loop(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Every lane of `jax.vmap` gives the bits of that loop, even beside NaN."""
    gradients = trees.gradients_like(params)
    want, _ = _jitted(transformation, gradients, params)
    poisoned = jax.tree.map(lambda g: g.at[1].set(jnp.nan), gradients)
    three = jax.tree.map(lambda *g: jnp.stack(g, 1), gradients, poisoned, gradients)
    states = jax.vmap(lambda _: transformation.init(params))(jnp.arange(3))
    update = jax.jit(jax.vmap(transformation.update, in_axes=(0, 0, None)))
    updates, _ = trees.run(update, states, three, params)
    for lane in (0, 2):
        got = jax.tree.map(lambda u, lane=lane: u[:, lane], updates)
        expect_same_bits(f"under vmap, in lane {lane} of 3", got, want)


def eager_is_jitted_but_for_the_last_digit(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """One step agrees up to the rounding of the terms that it adds.

    Compiled code may fuse a multiplication with an addition, which rounds only once.
    """
    gradients = trees.gradients_like(params)
    _, state = _jitted(transformation, gradients, params)
    now = trees.at(gradients, 0)
    eager, _ = transformation.update(now, state, params)
    jitted, _ = jax.jit(transformation.update)(now, state, params)
    for (path, a), b, g in zip(
        jax.tree.leaves_with_path(eager),
        *map(jax.tree.leaves, (jitted, now)),
        strict=True,
    ):
        buffers = (np.abs(leaf) for leaf in trees.beside(state, path, g.shape))
        terms = sum(buffers, np.abs(np.asarray(g)))
        error = np.abs(np.asarray(a) - np.asarray(b)) / np.spacing(2 * terms)
        where = f"updates{jax.tree_util.keystr(path)}"
        worst = np.max(error, initial=0.0)
        expect(worst <= 2, f"{where} differs by {worst:.0f} units in the last place")


def sharding_changes_no_bit_and_stays_as_it_was(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Two devices give the same bits.

    That holds on both types of mesh, with sharded and with replicated gradients. The
    state of a parameter is placed like the parameter, from `init` on, and each
    placement is compiled once. Checked on the largest leaf.
    """
    _, params = trees.largest_leaf(params)
    gradients = trees.gradients_like(params, steps=3)
    want, _ = _jitted(transformation, gradients, params)
    for kind in (AxisType.Auto, AxisType.Explicit):
        sharded_params = _sharded(params, kind)
        for split, name in ((True, "sharded"), (False, "replicated")):
            case, traces = f"{name} gradients, {kind}", []

            @jax.jit
            def update(gradients, state, params, traces=traces):
                traces.append(None)
                return transformation.update(gradients, state, params)

            state = transformation.init(sharded_params)
            _check_placed(state, sharded_params, f"the first state, {kind}")
            for step in range(3):
                gradient = _sharded(trees.at(gradients, step), kind, split=split)
                updates, state = update(gradient, state, sharded_params)
                expect_same_bits(case, updates, trees.at(want, step))
                _check_placed(state, sharded_params, case)
            expect(len(traces) == 1, f"{case}: {len(traces)} compilations in 3 steps")
        whole = _sharded(trees.at(gradients, 0), kind, split=False)
        state = transformation.init(sharded_params)
        _, state = transformation.update(whole, state, sharded_params)
        _check_placed(state, sharded_params, f"eagerly, replicated gradients, {kind}")


def the_shape_of_the_tree_changes_no_bit(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """The leaves may be flattened and concatenated in any order."""
    gradients = trees.gradients_like(params)
    want, _ = _jitted(transformation, gradients, params)

    def flat(tree: optax.Updates) -> optax.Updates:
        return jnp.concatenate(
            [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)[::-1]]
        )

    got, _ = _jitted(transformation, jax.vmap(flat)(gradients), flat(params))
    expect_same_bits("in one vector", got, jax.vmap(flat)(want))


def complex_numbers_are_pairs_of_real_ones(
    transformation: optax.GradientTransformation, params: optax.Params | None
) -> None:
    """A complex gradient gives the bits that its real and imaginary parts give."""
    del params
    pairs = jnp.asarray(np.random.default_rng(13).normal(size=(8, 2, 5)), jnp.float32)
    want, _ = _jitted(transformation, pairs, jnp.zeros((2, 5), jnp.float32))
    gradients = jax.lax.complex(pairs[:, 0], pairs[:, 1])
    got, _ = _jitted(transformation, gradients, jnp.zeros(5, jnp.complex64))
    got = jax.tree.map(lambda u: jnp.stack([u.real, u.imag], axis=1), got)
    expect_same_bits("in parts", got, want)


def zero_gradients_move_only_what_is_in_motion(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """A fresh state emits exact zeros for zero gradients; a filled one keeps moving."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    gradients = trees.gradients_like(params, steps=3)
    update, fresh = jax.jit(transformation.update), transformation.init(params)
    updates, _ = update(zeros, fresh, params)
    moved = any((u != 0).any() for u in jax.tree.leaves(updates))
    expect(not moved, "zero gradients moved a fresh state")
    _, state = trees.run(update, fresh, gradients, params)
    updates, _ = update(zeros, state, params)
    stopped = any((u == 0).any() for u in jax.tree.leaves(updates))
    expect(not stopped, "a zero gradient stopped what was in motion")


def a_poisoned_element_poisons_no_other(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """NaN and infinity stay in the elements where they occur."""
    gradients = trees.gradients_like(params)
    want, _ = _jitted(transformation, gradients, params)
    for poison in (jnp.nan, jnp.inf):
        poisoned = jax.tree.map(
            lambda g, p=poison: _rows(g).at[:, :1].set(p).reshape(g.shape), gradients
        )
        got, _ = _jitted(transformation, poisoned, params)
        others = (jax.tree.map(lambda u: _rows(u)[:, 1:], u) for u in (got, want))
        expect_same_bits(f"beside {poison}", *others)


OF_ANY = (
    scan_is_the_jitted_loop,
    vmap_is_the_jitted_loop,
    eager_is_jitted_but_for_the_last_digit,
    sharding_changes_no_bit_and_stays_as_it_was,
)
OF_LINEAR = (
    the_shape_of_the_tree_changes_no_bit,
    complex_numbers_are_pairs_of_real_ones,
    zero_gradients_move_only_what_is_in_motion,
    a_poisoned_element_poisons_no_other,
)


def _jitted(
    transformation: optax.GradientTransformation,
    gradients: optax.Updates,
    params: optax.Params,
) -> tuple[optax.Updates, optax.OptState]:
    """Updates and last state of a loop over the jitted update: the reference."""
    update = jax.jit(transformation.update)
    return trees.run(update, transformation.init(params), gradients, params)


def _rows(leaf: jax.Array) -> jax.Array:
    """The leaf as [step, element]."""
    return leaf.reshape(len(leaf), -1)


def _sharded(
    tree: optax.Updates, kind: AxisType, *, split: bool = True
) -> optax.Updates:
    """Places the tree on two devices, split along first axes of even length."""
    if len(jax.devices()) < 2:
        raise DoesNotApply("it needs two devices: set `jax_num_cpu_devices` to 2")
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))

    def place(leaf: jax.Array) -> jax.Array:
        even = split and leaf.ndim > 0 and leaf.shape[0] % 2 == 0
        spec = PartitionSpec("x") if even else PartitionSpec()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, tree)


def _check_placed(state: optax.OptState, params: optax.Params, case: str) -> None:
    """Raises unless the state of every parameter is placed like the parameter."""
    for path, leaf in jax.tree.leaves_with_path(params):
        for buffer in trees.beside(state, path, leaf.shape):
            same = buffer.sharding.is_equivalent_to(leaf.sharding, leaf.ndim)
            where = jax.tree_util.keystr(path)
            message = f"{case}: the state beside params{where} is placed otherwise"
            expect(same, message)
