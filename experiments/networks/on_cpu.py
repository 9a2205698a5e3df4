"""Convolutions and poolings that XLA compiles well for CPUs, in any network.

On GPU and TPU, which have good kernels for them, they stay as they are.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial, wraps
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun
from jax.extend.core.primitives import (
    add_p,
    cond_p,
    conv_general_dilated_p,
    custom_jvp_call_p,
    jit_p,
    reduce_window_max_p,
    reduce_window_sum_p,
    remat_p,
    scan_p,
    while_p,
)

from experiments.networks.convolution import convolution
from experiments.networks.pooling import Sliding, window_max, window_sum

Function = TypeVar("Function", bound=Callable[..., Any])

_POOLINGS = {reduce_window_max_p: window_max, reduce_window_sum_p: window_sum}
_SLOW = {conv_general_dilated_p, *_POOLINGS}
_FLOATS = ("float32", "float64")


def fast_on_cpu(apply: Function) -> Function:
    """The same function, whose convolutions and poolings train fast on CPUs.

    `apply` is traced, and each 2-D convolution or pooling that it holds, in `jit`,
    `scan`, `cond`, `while_loop` and `checkpoint` too, is replaced by slices, sums and
    matrix products where the program is compiled for a CPU. The results and gradients
    are equal to rounding, the choice among equal maxima included. What can't be
    replaced runs as it is, and a line of the log names it: a convolution in somebody's
    `custom_vjp`, with a dilated input (a transposed convolution) or of another dtype
    than float32 and float64.

    Args:
      apply: a pure function of pytrees. Arrays among its arguments are traced, all
        other leaves, such as `training=True`, are passed as they are. It returns a
        pytree of arrays.

    Returns:
      A function to be batched, compiled and differentiated like `apply`, but for
      forward mode (`jax.jvp`), which fails at a 2×2 max pooling with stride 2 and at a
      depthwise convolution with one feature a channel.

    Example:
      >>> kernel = jnp.ones((3, 3, 1, 2))
      >>> @fast_on_cpu
      ... def blur(images):
      ...     layout = ("NHWC", "HWIO", "NHWC")
      ...     return jax.lax.conv_general_dilated(
      ...         images, kernel, (1, 1), "SAME", dimension_numbers=layout
      ...     )
      >>> blur(jnp.ones((1, 4, 4, 1)))[0, :, :, 0]
      Array([[4., 6., 6., 4.],
             [6., 9., 9., 6.],
             [6., 9., 9., 6.],
             [4., 6., 6., 4.]], dtype=float32)
    """

    @wraps(apply)
    def fast(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        is_array = [isinstance(x, (Array, np.ndarray, np.generic)) for x in leaves]

        def of_arrays(*arrays: Array) -> Any:
            rest = iter(arrays)
            pairs = zip(leaves, is_array, strict=True)
            passed = [next(rest) if traced else leaf for leaf, traced in pairs]
            args, kwargs = jax.tree.unflatten(tree, passed)
            return apply(*args, **kwargs)

        arrays = [x for x, traced in zip(leaves, is_array, strict=True) if traced]
        closed, shapes = jax.make_jaxpr(of_arrays, return_shape=True)(*arrays)
        if not _holds_slow(closed.jaxpr):
            return apply(*args, **kwargs)
        results = lax.platform_dependent(
            *arrays, cpu=partial(_call, closed), default=jaxpr_as_fun(closed)
        )
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return fast  # type: ignore[return-value]


def _call(closed: ClosedJaxpr, *operands: Array) -> list[Array]:
    """Evaluates a traced function with its slow operations replaced."""
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, operands, strict=True))

    def read(atom: Var | Literal) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    plan = _plan(jaxpr)
    for place, equation in enumerate(jaxpr.eqns):
        arguments = [read(atom) for atom in equation.invars]
        if place in plan.needed and equation.primitive is not conv_general_dilated_p:
            arguments = [_first(x, plan.needed[place]) for x in arguments]
        with equation.ctx.manager:
            if place in plan.delayed:  # until after the pooling
                results = arguments
            elif equation.primitive is conv_general_dilated_p and place in plan.needed:
                results = [_convolve(equation, arguments, plan.needed[place])]
            else:
                results = _run(equation, arguments)
            if place in plan.relu_after:
                results = [jax.nn.relu(*results)]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _run(equation: JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    """The results of one equation."""
    primitive, params = equation.primitive, equation.params
    if primitive in _SLOW:
        if why := _why_not(equation):
            _say(equation, why)
        elif primitive is conv_general_dilated_p:
            return [_convolve(equation, operands, _aval(equation.outvars[0]).shape)]
        else:
            return [_pool(equation, *operands)]
    elif any(map(_holds_slow, _within(equation))):
        if primitive is jit_p:
            return _call(params["jaxpr"], *operands)
        if primitive in _REBUILT:
            return _REBUILT[primitive](operands, **params)
        _say(equation, f"it is inside {primitive.name}")
    return _alone(equation, operands)


def _alone(equation: JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    """The results of an equation, for operands that may be smaller than planned."""
    params = equation.primitive.get_bind_params(equation.params)
    results = equation.primitive.bind(*operands, **params)
    return results if equation.primitive.multiple_results else [results]


def _why_not(equation: JaxprEqn) -> str:
    """Why an operation can't be replaced; nothing if it can."""
    aval, params = _aval(equation.invars[0]), equation.params
    if str(aval.dtype) not in _FLOATS:
        return f"it is of {aval.dtype}"
    if equation.primitive in _POOLINGS:
        dilated = any(d > 1 for d in params["base_dilation"])
        return "its input is dilated" if dilated else ""
    if aval.ndim != 4:
        return f"it has {aval.ndim - 2} dimensions"
    if any(d > 1 for d in params["lhs_dilation"]):
        return "its input is dilated"
    if params["batch_group_count"] > 1:
        return "its batch is divided into groups"
    if params["preferred_element_type"] not in (None, aval.dtype):
        return f"its results are of {params['preferred_element_type']}"
    return "its sharding is given" if params["out_sharding"] else ""


def _say(equation: JaxprEqn, why: str) -> None:
    """Names an operation that stays as it is, if this is where it is slow."""
    if jax.default_backend() == "cpu":
        slow = next(_slow_equations(equation))
        operands = " and ".join(str(x.aval) for x in slow.invars)
        logging.getLogger(__name__).warning(
            "fast_on_cpu leaves %s of %s as it is: %s.", slow.primitive, operands, why
        )


def _convolve(
    equation: JaxprEqn, operands: Sequence[Array], needed: Sequence[int]
) -> Array:
    """A convolution's first results along each axis, as many as are needed."""
    params, (images, kernel) = equation.params, operands
    (batch, channel, *sides), of_kernel, of_out = params["dimension_numbers"]
    features, inputs, *kernel_sides = of_kernel
    shape = _aval(equation.outvars[0]).shape
    sides_of_results = zip(
        params["padding"], params["window_strides"], of_out[2:], strict=True
    )
    result = convolution(
        lax.transpose(images, (batch, *sides, channel)),
        lax.transpose(kernel, (*kernel_sides, inputs, features)),
        strides=params["window_strides"],
        padding=[
            (low, high - stride * (shape[axis] - needed[axis]))
            for (low, high), stride, axis in sides_of_results
        ],
        dilation=params["rhs_dilation"],
        groups=params["feature_group_count"],
    )
    axes = of_out[0], *of_out[2:], of_out[1]
    return lax.transpose(result, [axes.index(axis) for axis in range(4)])


def _pool(equation: JaxprEqn, x: Array) -> Array:
    params = equation.params
    sliding = Sliding(
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params["window_dilation"],
    )
    return _POOLINGS[equation.primitive](x, sliding)


class _Plan(NamedTuple):
    """What is computed otherwise before a max pooling; places count equations."""

    delayed: set[int]  # ReLUs, each taken after its pooling
    relu_after: set[int]  # these poolings
    # What is pooled of the results of convolutions, and of biases and ReLUs after them.
    needed: dict[int, tuple[int, ...]]


def _plan(jaxpr: Jaxpr) -> _Plan:
    """Finds convolutions whose results are only pooled, after a bias and a ReLU.

    ReLU commutes with the maximum, gradients included, and is cheaper after it. And if
    pooling drops rows or columns at the end, they need not be computed.
    """
    plan = _Plan(set(), set(), {})
    made_at = {x: place for place, e in enumerate(jaxpr.eqns) for x in e.outvars}
    atoms = [x for e in jaxpr.eqns for x in e.invars] + jaxpr.outvars
    uses = Counter(x for x in atoms if isinstance(x, Var))
    for place, pooling in enumerate(jaxpr.eqns):
        if pooling.primitive is not reduce_window_max_p or _why_not(pooling):
            continue
        between: list[int] = []
        x: Any = pooling.invars[0]
        while uses[x] == 1 and x in made_at:
            before = jaxpr.eqns[made_at[x]]
            if not between and _is_relu(before) and _has_no_empty_window(pooling):
                plan.delayed.add(made_at[x])
                plan.relu_after.add(place)
            elif before.primitive is not add_p:
                break
            between.append(made_at[x])
            shaped = [y for y in before.invars if _aval(y).shape == _aval(x).shape]
            x = next((y for y in shaped if y in made_at), shaped[0])
        if uses[x] != 1 or x not in made_at:
            continue
        source, shape = jaxpr.eqns[made_at[x]], _pooled_shape(pooling)
        if source.primitive is conv_general_dilated_p and not _why_not(source):
            batch, channel = source.params["dimension_numbers"].out_spec[:2]
            if all(shape[i] == _aval(x).shape[i] for i in (batch, channel)):
                plan.needed.update(dict.fromkeys([made_at[x], *between], shape))
    return plan


def _has_no_empty_window(pooling: JaxprEqn) -> bool:
    """Whether every window has an element that is no padding."""
    params = pooling.params
    return all(d == 1 for d in params["window_dilation"]) and all(
        max(sides) < size
        for sides, size in zip(
            params["padding"], params["window_dimensions"], strict=True
        )
    )


def _pooled_shape(pooling: JaxprEqn) -> tuple[int, ...]:
    """Up to where the operand's elements lie under any window."""
    params = pooling.params
    of_axes = zip(
        _aval(pooling.invars[0]).shape,
        _aval(pooling.outvars[0]).shape,
        params["window_dimensions"],
        params["window_strides"],
        params["window_dilation"],
        params["padding"],
        strict=True,
    )
    return tuple(
        min(size, (places - 1) * stride + (window - 1) * dilation + 1 - low)
        for size, places, window, stride, dilation, (low, _) in of_axes
    )


def _first(x: Array, shape: Sequence[int]) -> Array:
    """The first elements along each axis; scalars stay as they are."""
    return x[tuple(map(slice, shape))] if np.ndim(x) else x


def _aval(atom: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype."""
    return atom.aval


def _is_relu(equation: JaxprEqn) -> bool:
    """Whether it is `jax.nn.relu`, whose gradient at 0 is 0."""
    return _where_defined(equation) == _where_defined(_relu_equation())


def _where_defined(equation: JaxprEqn) -> str | None:
    """Names a function that defines its derivative, with its file and line."""
    jaxprs = [*_within(equation)]
    if equation.primitive is jit_p and len(jaxprs[0].eqns) == 1:
        return _where_defined(jaxprs[0].eqns[0])
    if equation.primitive is not custom_jvp_call_p:
        return None
    return jaxprs[0].debug_info.func_src_info


@cache
def _relu_equation() -> JaxprEqn:
    return jax.make_jaxpr(jax.nn.relu)(0.0).jaxpr.eqns[0]


def _holds_slow(jaxpr: Jaxpr) -> bool:
    return any(True for equation in jaxpr.eqns for _ in _slow_equations(equation))


def _slow_equations(equation: JaxprEqn) -> Iterator[JaxprEqn]:
    """The equation, if it is slow, and those within it."""
    if equation.primitive in _SLOW:
        yield equation
    for jaxpr in _within(equation):
        for inner in jaxpr.eqns:
            yield from _slow_equations(inner)


def _within(equation: JaxprEqn) -> Iterator[Jaxpr]:
    """The functions that an equation calls."""
    for value in equation.params.values():
        for each in value if isinstance(value, (tuple, list)) else [value]:
            if isinstance(each, ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, Jaxpr):
                yield each


def _scan(
    operands: Sequence[Array],
    *,
    jaxpr: ClosedJaxpr,
    length: int,
    reverse: bool,
    unroll: int,
    **params: Any,
) -> list[Array]:
    if "ft_in" in params:  # from JAX 0.11 on
        consts, carried, _ = map(len, params["ft_in"].unpack())
    else:
        consts, carried = params["num_consts"], params["num_carry"]
    fixed, rest = operands[:consts], list(operands[consts:])

    def step(carry: Sequence[Array], x: Sequence[Array]) -> tuple[Any, Any]:
        results = _call(jaxpr, *fixed, *carry, *x)
        return results[:carried], results[carried:]

    carry, ys = lax.scan(step, rest[:carried], rest[carried:], length, reverse, unroll)
    return [*carry, *ys]


def _cond(
    operands: Sequence[Array], *, branches: Sequence[ClosedJaxpr], **_: Any
) -> list[Array]:
    index, *rest = operands
    return lax.switch(index, [partial(_call, branch) for branch in branches], *rest)


def _while(
    operands: Sequence[Array],
    *,
    cond_jaxpr: ClosedJaxpr,
    body_jaxpr: ClosedJaxpr,
    cond_nconsts: int,
    body_nconsts: int,
    **_: Any,
) -> list[Array]:
    of_cond, rest = operands[:cond_nconsts], operands[cond_nconsts:]
    of_body, init = rest[:body_nconsts], rest[body_nconsts:]
    return lax.while_loop(
        lambda carry: _call(cond_jaxpr, *of_cond, *carry)[0],
        lambda carry: _call(body_jaxpr, *of_body, *carry),
        list(init),
    )


def _remat(
    operands: Sequence[Array],
    *,
    jaxpr: Jaxpr,
    prevent_cse: bool,
    policy: Any,
    **_: Any,
) -> list[Array]:
    inner = partial(_call, ClosedJaxpr(jaxpr, ()))
    return jax.checkpoint(inner, prevent_cse=prevent_cse, policy=policy)(*operands)


_REBUILT: dict[Any, Callable[..., list[Array]]] = {
    scan_p: _scan,
    cond_p: _cond,
    while_p: _while,
    remat_p: _remat,
}
