"""ZeRO stage 1: each device of the data axis stores one part of the state."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from optax_momentum._base.boxes import on_plain_trees, unboxed
from optax_momentum._base.checks import Absent, is_absent
from optax_momentum._sharding.plan import ShardingPlan

Tree = TypeVar("Tree")


def sharded(
    inner: optax.GradientTransformation, plan: ShardingPlan
) -> optax.GradientTransformationExtraArgs:
    """Divides an optimizer's state over N devices, so that each stores 1/N of it.

        g = Σᵢ gᵢ                reduce-scatter: each device receives its part of g
        u, s = inner(g, s, θ)    each device computes its part of u and s
        θ ← θ + u                all-gather: every device receives the whole u

    gᵢ is the gradient of device i, s the state. Together, the two collectives send as
    many bytes as the all-reduce of the gradients that they replace.

    Only placement changes, not values. `inner` still computes on global arrays, which
    JAX divides, so norms, masks, `guard`, schedules and random bits are those of one
    device. Every bit of the step is too, except for sums over the elements of a leaf,
    which are added in a different order.

    Call `update` under `jax.jit` with the gradients of the whole batch. Inside a
    `jax.shard_map`, get them from `reduce_scatter`. Otherwise pass global gradients:
    XLA inserts the collectives, as it sees that both the batch and the state are
    divided. Put wrappers with their own state, such as `guard` or an average, inside
    `sharded`, so that their state is divided too.

    Units: those of `inner`.

    Args:
      inner: the optimizer that the plan was made for; it receives the extra arguments
        of `update`. Its hyper-parameters may differ from those at planning, or be
        traced.
      plan: the placement, from `sharding_plan`.

    Returns:
      A transformation with the state of `inner`, which `init` creates in its planned
      placement. Its updates are replicated on every device.

    Raises:
      ValueError: the plan has an `AbstractMesh`; `init` or `update` gets a tree that
        the plan was not made for; `update` is called inside a `jax.shard_map` over the
        plan's axis, where a device would mistake its part for the whole.

    Differs from an optimizer of divided parameters, which needs no `sharded`, because
    its state is placed like the parameters. Here the parameters are replicated.

    >>> from optax_momentum import sgd, sharding_plan
    >>> devices = jax.device_count()
    >>> mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    >>> params = jnp.ones((64, 128))
    >>> plan = sharding_plan(sgd(0.5, 0.5), params, mesh, "data")
    >>> optimizer = sharded(sgd(0.5, 0.5), plan)
    >>> updates, state = jax.jit(optimizer.update)(params, optimizer.init(params))
    >>> state.buffer.addressable_shards[0].data.nbytes * devices == params.nbytes
    True

    References:
      Rajbhandari, Rasley, Ruwase and He 2020, arXiv:1910.02054, section 5.1.
    """
    if isinstance(plan.mesh, AbstractMesh):
        raise ValueError(
            "sharded: the plan's mesh must have devices, got an AbstractMesh, which is "
            "for planning only. Make the plan with a `jax.sharding.Mesh`."
        )
    inner, shardings = optax.with_extra_args_support(inner), plan.shardings
    slices = jax.tree.map(partial(NamedSharding, plan.mesh), plan.slices)
    replicated = NamedSharding(plan.mesh, PartitionSpec())
    whole = jax.tree.map(lambda _: replicated, slices)
    placed = partial(_placed, _constraint(plan))

    def init(params: optax.Params) -> optax.OptState:
        _check_tree("sharded: params", slices, unboxed(params))
        state = jax.eval_shape(inner.init, params)
        _check_tree("sharded: the state", shardings, unboxed(state))
        return jax.jit(inner.init, out_shardings=shardings)(params)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: object,
    ) -> tuple[optax.Updates, optax.OptState]:
        _check_outside(plan.axis_name)
        # Whole first: otherwise XLA would leave the parameters divided between steps.
        params = placed("params", slices, placed("params", whole, params))
        updates = placed("updates", slices, updates)
        emitted, state = inner.update(updates, state, params, **extra_args)
        emitted = placed("updates", whole, emitted)
        return emitted, placed("the state", shardings, state)

    return on_plain_trees(optax.GradientTransformationExtraArgs(init, update))


def reduce_scatter(gradients: optax.Updates, plan: ShardingPlan) -> optax.Updates:
    """Sums gradients over devices, inside a `jax.shard_map`; returns this part.

        @partial(
            jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=plan.slices
        )
        def gradients(params, batch):
            params = jax.lax.pcast(params, "data", to="varying")
            return reduce_scatter(jax.grad(loss)(params, batch), plan)

    Leaves that the plan does not divide are summed with `jax.lax.psum`. The sum is in
    the gradients' dtype. For the mean, divide the loss by the size of the whole batch.

    The `pcast` is needed because JAX sums gradients with respect to replicated params
    by itself. Summing those again would make them N times too large, so that is an
    error. Under `check_vma=False`, JAX does not sum, and the `pcast` changes nothing.

    Args:
      gradients: the gradients of this device's part of the batch, with the params'
        shapes.
      plan: the placement, from `sharding_plan`.

    Returns:
      A tree like gradients. Return it with `out_specs=plan.slices` and pass the result
      to `sharded`.

    Raises:
      ValueError: a gradient is already summed, or the tree does not match the plan.
      NameError: the call is outside a `jax.shard_map` over the plan's axis.
    """
    _check_tree("reduce_scatter: gradients", plan.slices, gradients)
    name = plan.axis_name
    tracked = name in _varying(jax.lax.axis_index(name))

    def reduce(
        path: jax.tree_util.KeyPath, spec: PartitionSpec, gradient: jax.Array
    ) -> jax.Array | Absent:
        if is_absent(gradient):
            return gradient
        if tracked and name not in _varying(gradient):
            raise ValueError(
                f"reduce_scatter: gradients{jax.tree_util.keystr(path)} is the same on "
                f"all devices of {name!r}: it is already summed. Take the gradient at "
                f"`jax.lax.pcast(params, {name!r}, to='varying')`."
            )
        if name not in tuple(spec):
            return jax.lax.psum(gradient, name)
        axis = tuple(spec).index(name)
        return jax.lax.psum_scatter(gradient, name, scatter_dimension=axis, tiled=True)

    return jax.tree.map_with_path(reduce, plan.slices, gradients)


def _constraint(plan: ShardingPlan) -> Callable[[jax.Array, NamedSharding], jax.Array]:
    """The JAX function that places an array, which depends on the type of the axis."""
    types = dict(zip(plan.mesh.axis_names, plan.mesh.axis_types, strict=True))
    explicit = types[plan.axis_name] == AxisType.Explicit
    return jax.sharding.reshard if explicit else jax.lax.with_sharding_constraint


def _placed(
    place: Callable[[jax.Array, NamedSharding], jax.Array],
    name: str,
    shardings: optax.Params,
    tree: Tree,
) -> Tree:
    """The tree with its arrays placed by `shardings`; absent leaves stay absent."""
    if not jax.tree.leaves(tree):
        return tree
    _check_tree(f"sharded: {name}", shardings, tree)
    return jax.tree.map(
        lambda sharding, x: x if is_absent(x) else place(jnp.asarray(x), sharding),
        shardings,
        tree,
    )


def _varying(x: jax.Array) -> frozenset[Hashable]:
    """The axes of a `jax.shard_map` along which x varies, as far as JAX tracks them."""
    return jax.typeof(x).manual_axis_type.varying


def _check_outside(axis_name: str) -> None:
    mesh = jax.sharding.get_abstract_mesh()
    if axis_name in mesh.manual_axes:
        raise ValueError(
            f"sharded: update must be called outside the `jax.shard_map` over "
            f"{axis_name!r}: inside, each device knows only its own part. Return the "
            "gradients from it through `reduce_scatter`."
        )


def _check_tree(name: str, planned: object, tree: object) -> None:
    try:
        parts = jax.tree.structure(planned).flatten_up_to(tree)
        fits = all(is_absent(x) or jax.tree_util.all_leaves([x]) for x in parts)
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise ValueError(
            f"{name}: not the tree that the plan was made for. Make the plan from the "
            "optimizer and the params that you train."
        )
