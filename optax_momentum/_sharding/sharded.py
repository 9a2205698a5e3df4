"""Each device of the data axis keeps its part of the state: ZeRO stage 1."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from optax_momentum._base.checks import is_absent
from optax_momentum._sharding.plan import ShardingPlan


def sharded(
    inner: optax.GradientTransformation, plan: ShardingPlan
) -> optax.GradientTransformationExtraArgs:
    """The same optimizer, of whose state each device keeps 1/N instead of all.

        g = Σᵢ gᵢ        device i keeps its part of g: a reduce-scatter
        u, s = inner(g, s, θ)        each device its part of u and s, by its part of θ
        θ ← θ + u        the parts of u come together: an all-gather

    with gᵢ the gradient of device i, of N, and s the state. The two exchanges send as
    many bytes as the sum of all gradients on every device does, which they replace.

    Only places change, never values: `inner` still computes on whole arrays, which JAX
    divides. Norms, masks, `guard`, schedules and random bits are what they are on one
    device, and so is every bit of the step, but for sums over a leaf's elements, which
    are added in another order.

    Call update under `jax.jit`, on the gradients of the whole batch. From a
    `jax.shard_map` they come by `reduce_scatter`, in parts; else XLA, which sees a
    batch that is divided and a state that is, finds the exchanges itself. Put what
    keeps a state, `guard` or an average, inside: it is divided too.

    Units: those of `inner`.

    Args:
      inner: the optimizer that the plan was made for; extra arguments of update are
        handed to it. It may hold other hyper-parameters than there, also traced ones.
      plan: what lies where, made by `sharding_plan`.

    Returns:
      A transformation with the state of `inner`, made where it is to lie. Its updates
      are whole on every device.

    Raises:
      ValueError: the plan is one on paper; at init and update, for a tree that the
        plan was not made for; at update, inside a `jax.shard_map` over the plan's axis,
        where a device would take its part for the whole.

    Differs from an optimizer whose parameters are divided: that needs no `sharded`, for
    a state lies as its parameters do. Here the parameters are whole on every device.

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
            "sharded: the plan's mesh must have devices, got an AbstractMesh, for "
            "plans on paper. Make the plan with a `jax.sharding.Mesh`."
        )
    inner, shardings = optax.with_extra_args_support(inner), plan.shardings
    everywhere = NamedSharding(plan.mesh, PartitionSpec())
    slices = jax.tree.map(partial(NamedSharding, plan.mesh), plan.slices)
    whole = jax.tree.map(lambda _: everywhere, slices)
    placed = partial(_placed, _placing(plan))

    def init(params: optax.Params) -> optax.OptState:
        _check_tree("sharded: params", slices, params)
        state = jax.eval_shape(inner.init, params)
        _check_tree("sharded: the state", shardings, state)
        return jax.jit(inner.init, out_shardings=shardings)(params)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        _check_outside(plan.axis_name)
        # Whole first, or XLA would keep the parameters in parts between the steps.
        params = placed("params", slices, placed("params", whole, params))
        updates = placed("updates", slices, updates)
        emitted, after = inner.update(updates, state, params, **extra_args)
        emitted = placed("updates", whole, emitted)
        return emitted, placed("the state", shardings, after)

    return optax.GradientTransformationExtraArgs(init, update)


def reduce_scatter(gradients: optax.Updates, plan: ShardingPlan) -> optax.Updates:
    """Inside a `jax.shard_map`: the sum of all devices' gradients, of it this part.

        @partial(
            jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=plan.slices
        )
        def gradients(params, batch):
            params = jax.lax.pcast(params, "data", to="varying")
            return reduce_scatter(jax.grad(loss)(params, batch), plan)

    Leaves that the plan leaves whole are summed by `jax.lax.psum`. The sum is made in
    the gradients' dtype. For the mean, let the loss divide by the size of the whole
    batch.

    Without the `pcast` JAX would sum the gradients itself, of params that are the same
    on all devices; the sum of N sums, N times too large, is refused. Under
    `check_vma=False` it does not sum, and the `pcast` changes nothing.

    Args:
      gradients: of this device's part of the batch, each leaf of the params' shape.
      plan: what lies where, made by `sharding_plan`.

    Returns:
      A tree like gradients, for `out_specs=plan.slices`; then for `sharded`.

    Raises:
      ValueError: a gradient has been summed already, or the tree is not the plan's.
      NameError: outside of a `jax.shard_map` over the plan's axis.
    """
    _check_tree("reduce_scatter: gradients", plan.slices, gradients)
    name = plan.axis_name
    tracked = name in _varying(jax.lax.axis_index(name))

    def reduce(path: Any, spec: PartitionSpec, gradient: Any) -> Any:
        if is_absent(gradient):
            return gradient
        if tracked and name not in _varying(gradient):
            raise ValueError(
                f"reduce_scatter: gradients{jax.tree_util.keystr(path)} is the same on "
                f"all devices of {name!r}, it has been summed already. Take it at "
                f"`jax.lax.pcast(params, {name!r}, to='varying')`."
            )
        if name not in tuple(spec):
            return jax.lax.psum(gradient, name)
        axis = tuple(spec).index(name)
        return jax.lax.psum_scatter(gradient, name, scatter_dimension=axis, tiled=True)

    return jax.tree.map_with_path(reduce, plan.slices, gradients)


def _placing(plan: ShardingPlan) -> Callable[[Any, NamedSharding], Any]:
    """What puts an array in its place: JAX has two ways, by the type of the axis."""
    types = dict(zip(plan.mesh.axis_names, plan.mesh.axis_types, strict=True))
    explicit = types[plan.axis_name] == AxisType.Explicit
    return jax.sharding.reshard if explicit else jax.lax.with_sharding_constraint


def _placed(
    place: Callable[[Any, NamedSharding], Any], name: str, shardings: Any, tree: Any
) -> Any:
    """The tree with its arrays where they belong; what is absent stays so."""
    if not jax.tree.leaves(tree):
        return tree
    _check_tree(f"sharded: {name}", shardings, tree)
    return jax.tree.map(
        lambda sharding, x: x if is_absent(x) else place(jnp.asarray(x), sharding),
        shardings,
        tree,
    )


def _varying(x: Any) -> frozenset[Any]:
    """The axes of a `jax.shard_map` along which x differs, as far as JAX tracks it."""
    return jax.typeof(x).manual_axis_type.varying


def _check_outside(axis_name: str) -> None:
    mesh = jax.sharding.get_abstract_mesh()
    if axis_name in mesh.manual_axes:
        raise ValueError(
            f"sharded: update must be called outside of the `jax.shard_map` over "
            f"{axis_name!r}: inside, a device knows its own part alone. Return the "
            "gradients from it, through `reduce_scatter`."
        )


def _check_tree(what: str, planned: Any, tree: Any) -> None:
    try:
        parts = jax.tree.structure(planned).flatten_up_to(tree)
        fits = all(is_absent(x) or jax.tree_util.all_leaves([x]) for x in parts)
    except (ValueError, TypeError):
        fits = False
    if not fits:
        raise ValueError(
            f"{what}: not the tree that the plan was made for. Make the plan of the "
            "optimizer and the params that you train."
        )
