"""Promises about composition: inside Optax's wrappers, results are those outside.

Each function takes a transformation and parameters to run it on, and raises
AssertionError if results differ. All run under JAX's standard dtype promotion, because
some of Optax's wrappers need it. Those in `OF_LINEAR` hold only for linear momentum.
"""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum.testing import trees
from optax_momentum.testing._verdicts import expect, expect_close, expect_same_bits


def chain_composes(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """The next element of a chain receives the updates unchanged."""
    halved = optax.chain(transformation, optax.scale(-0.5))
    gradients = trees.gradients_like(params)
    want = jax.tree.map(lambda u: -0.5 * u, _updates(transformation, gradients, params))
    expect_same_bits("halved", _updates(halved, gradients, params), want)


def masked_leaves_the_others_alone(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Masked leaves come back unchanged."""
    path, _ = trees.largest_leaf(params)
    mask = trees.replaced(jax.tree.map(lambda _: True, params), path, False)
    gradients = trees.gradients_like(params)
    got = _updates(optax.masked(transformation, mask), gradients, params)
    masked_leaves = (
        trees.beside(tree, path, jnp.shape(_at(tree, path)))
        for tree in (got, gradients)
    )
    expect_same_bits("masked out", *masked_leaves)
    _updates(optax.masked(transformation, True), gradients, params)


def inject_hyperparams_changes_nothing(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """It works next to a hyper-parameter that changes, with a single compilation."""

    def build(factor):
        return optax.chain(transformation, optax.scale(factor))

    injected: Any = optax.inject_hyperparams(build)(factor=0.5)
    gradients = trees.gradients_like(params, steps=2)
    with jax.numpy_dtype_promotion("standard"):
        state, update = injected.init(params), jax.jit(injected.update)
        first, state = update(trees.at(gradients, 0), state, params)
        state.hyperparams["factor"] = jnp.asarray(-2.0, jnp.float32)
        second, _ = update(trees.at(gradients, 1), state, params)
    want = _updates(transformation, gradients, params)
    for got, factor, step in ((first, 0.5, 0), (second, -2.0, 1)):
        expected = jax.tree.map(lambda u, f=factor, s=step: f * u[s], want)
        _expect_close(f"at step {step + 1}", got, expected)


def apply_if_finite_skips_a_poisoned_step(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """The step with NaN emits zeros; the others emit what they emit without it."""
    gradients = trees.gradients_like(params, steps=4)
    poisoned = jax.tree.map(lambda g: g.at[2].set(jnp.nan), gradients)
    guarded = optax.apply_if_finite(transformation, max_consecutive_errors=3)
    got = _updates(guarded, poisoned, params)
    clean = jax.tree.map(lambda g: jnp.delete(g, 2, axis=0), gradients)
    want = _updates(transformation, clean, params)
    _expect_close(
        "the others", jax.tree.map(lambda u: jnp.delete(u, 2, axis=0), got), want
    )
    zero = all((u[2] == 0).all() for u in jax.tree.leaves(got))
    expect(zero, "the poisoned step moved")


def multi_steps_is_one_step_on_the_mean(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Zeros at every other micro-step, then the step on the mean of both."""
    wrapper = optax.MultiSteps(transformation, every_k_schedule=2)
    accumulating = wrapper.gradient_transformation()
    gradients = trees.gradients_like(params)
    got = _updates(accumulating, gradients, params)
    means = jax.tree.map(lambda g: (g[::2] + g[1::2]) / 2, gradients)
    want = _updates(transformation, means, params)
    _expect_close("emitted", jax.tree.map(lambda u: u[1::2], got), want)
    silent = all((u[::2] == 0).all() for u in jax.tree.leaves(got))
    expect(silent, "a micro-step moved")


def lookahead_takes_it_as_the_fast_optimizer(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Before the first synchronization, the fast parameters get the same updates."""
    optimizer = optax.lookahead(transformation, sync_period=9, slow_step_size=0.5)
    gradients = trees.gradients_like(params)
    with jax.numpy_dtype_promotion("standard"):
        pair = optax.LookaheadParams.init_synced(params)
        state, update, emitted = optimizer.init(pair), jax.jit(optimizer.update), []
        for step in range(trees.STEPS):
            updates, state = update(trees.at(gradients, step), state, pair)
            emitted.append(updates.fast)
    got = jax.tree.map(lambda *u: jnp.stack(u), *emitted)
    _expect_close("fast", got, _updates(transformation, gradients, params))


def partition_gives_each_leaf_its_own(
    transformation: optax.GradientTransformation, params: optax.Params
) -> None:
    """Leaves in two groups, with a transformation each, get the same updates."""
    path, _ = trees.largest_leaf(params)
    labels = trees.replaced(jax.tree.map(lambda _: "others", params), path, "first")
    both: dict[Hashable, optax.GradientTransformation] = {
        "first": transformation,
        "others": transformation,
    }
    gradients = trees.gradients_like(params)
    got = _updates(optax.partition(both, labels), gradients, params)
    expect_same_bits("apart", got, _updates(transformation, gradients, params))


OF_ANY = (
    chain_composes,
    masked_leaves_the_others_alone,
    inject_hyperparams_changes_nothing,
    apply_if_finite_skips_a_poisoned_step,
    multi_steps_is_one_step_on_the_mean,
    lookahead_takes_it_as_the_fast_optimizer,
)
OF_LINEAR = (partition_gives_each_leaf_its_own,)


def _updates(
    transformation: optax.GradientTransformation,
    gradients: optax.Updates,
    params: optax.Params,
) -> optax.Updates:
    """The updates of every step of the jitted loop."""
    with jax.numpy_dtype_promotion("standard"):
        update = jax.jit(transformation.update)
        return trees.run(update, transformation.init(params), gradients, params)[0]


def _at(tree: optax.Updates, path: jax.tree_util.KeyPath) -> jax.Array:
    return dict(jax.tree.leaves_with_path(tree))[path]


def _expect_close(what: str, got: optax.Updates, want: optax.Updates) -> None:
    for (path, a), b in zip(
        jax.tree.leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        a, b = np.atleast_1d(a), np.atleast_1d(b)
        expect_close(f"{what}{jax.tree_util.keystr(path)}", a, b, 1e-5)
