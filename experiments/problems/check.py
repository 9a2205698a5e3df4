"""Checks of a problem before anything trains; each refusal names a remedy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from experiments.networks.network import random_key
from experiments.problems.problem import (
    Batch,
    Init,
    Loss,
    Problem,
    examples_in,
    some_examples,
)
from experiments.records.config import UsageError
from experiments.records.metric import Metric
from experiments.user_code import difference

_TRACERS = (jax.errors.UnexpectedTracerError, jax.errors.TracerArrayConversionError)
_TOLERANCE = 1e-3  # of an example's loss in another batch; float32 comes within 1e-5


def check_problem(where: str, problem: Problem) -> Problem:
    """The problem with arrays of the dtypes that JAX computes in.

    Args:
      where: the beginning of the messages, which names the function.
      problem: what it returned.

    Raises:
      UsageError: it is not as `Problem` says.
    """
    if not isinstance(problem, Problem):
        raise UsageError(
            f"{where}: it returned {type(problem).__name__}; an "
            "experiments.problems.Problem is needed."
        )
    for field in ("init", "loss"):
        if not callable(function := getattr(problem, field)):
            raise UsageError(
                f"{where}: {field} is of type {type(function).__name__}; a function is "
                "needed."
            )
    name = problem.name
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UsageError(f"{where}: name is {name!r:.80}; give printable text.")
    _check_metric(where, problem.metric)
    splits = {
        name: _arrays(where, name, getattr(problem, name))
        for name in ("train", "validation", "test")
    }
    few = some_examples(splits["train"])
    for name in ("validation", "test"):
        differing = difference(*map(_of_one, (splits["train"], splits[name])))
        if differing is not None:
            raise UsageError(
                f"{where}: an example of {name} is {differing}, as one of train is; "
                "all splits must have the same structure, shapes and dtypes."
            )
    problem = problem._replace(**splits)
    check_functions(where, problem.init, problem.loss, few, problem.metric.key)
    if problem.augment is not None:
        _check_augment(where, problem.augment, few)
    return problem


def check_functions(
    where: str, init: Init, loss: Loss, few: Batch, metric: str
) -> None:
    """Raises `UsageError` unless `init` and `loss` are as a `Problem` needs them.

    Draws one set of parameters and computes losses of a few examples.
    """
    few = jax.tree.map(jnp.asarray, few)
    key = random_key(0)
    drawn = _called(where, "init", init, key, few)
    if not isinstance(drawn, tuple) or len(drawn) != 2:
        raise UsageError(
            f"{where}: init returned {_kind(drawn)}; the tuple (params, model_state) "
            "is needed, with () for model_state if there is none."
        )
    params, model_state = drawn
    check_params(where, params)
    for path, leaf in jax.tree.leaves_with_path(drawn):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not jnp.isfinite(leaf).all():
            raise UsageError(
                f"{where}: init drew a value that is not finite at "
                f"{jax.tree_util.keystr(path)}; draw smaller ones."
            )
    for training in (True, False):
        name = f"loss, with training={training},"
        function = partial(loss, training=training)
        result = _called(where, name, function, params, model_state, few, key)
        _check_result(where, name, result, few, metric)
        check_model_state(where, model_state, result[2])
        if not jnp.isfinite(result[0]).all():
            raise UsageError(
                f"{where}: {name} is not finite for the initial parameters; scale the "
                "inputs, or draw smaller parameters."
            )
    part = some_examples(few, max(1, examples_in(few) // 2))
    alone = _called(where, "loss", function, params, model_state, part, key)
    _check_result(where, name, alone, part, metric)
    whole = jax.tree.map(lambda x: x[: len(alone[0])], result[:2])
    for together, apart in zip(*map(jax.tree.leaves, (whole, alone[:2])), strict=True):
        error = jnp.max(jnp.abs(together - apart) / (1 + jnp.abs(apart)))
        if not error <= _TOLERANCE:
            raise UsageError(
                f"{where}: an example's result, with training=False, depends on the "
                f"other examples of its batch (by {float(error):.2g}); use running "
                "statistics there, as nnx.BatchNorm does after eval()."
            )


def check_params(where: str, params: PyTree) -> None:
    """Raises `UsageError` unless there are parameters, all of them floating-point."""
    leaves = jax.tree.leaves_with_path(params)
    if not leaves:
        raise UsageError(f"{where}: there are no parameters to train.")
    for path, leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UsageError(
                f"{where}: the parameter {jax.tree_util.keystr(path)} is "
                f"{leaf.dtype}, which has no gradient; make it floating-point."
            )


def check_model_state(where: str, before: PyTree, after: PyTree) -> None:
    """Raises `UsageError` if a step changes the kind of the model state."""
    differing = difference(before, after)
    if differing is not None:
        raise UsageError(
            f"{where}: a step changes the model state, from what init drew, to "
            f"{differing}; structure, shapes and dtypes must stay."
        )


def _check_metric(where: str, metric: Metric) -> None:
    if not isinstance(metric, Metric):
        raise UsageError(
            f"{where}: metric is of type {type(metric).__name__}; an "
            "experiments.problems.Metric is needed."
        )
    if not isinstance(metric.title, str) or not metric.name:
        raise UsageError(
            f"{where}: the metric's title is {metric.title!r:.80}; give it a name."
        )
    if metric.of_mean is None:
        return
    if metric.name == "loss":
        raise UsageError(
            f'{where}: a metric with of_mean can\'t have the title "loss", which is '
            "the loss itself; name what of_mean makes of it."
        )
    try:
        value = metric.of_mean(np.float32(0.25))
    except Exception as error:  # user code may raise anything
        raise UsageError(
            f"{where}: of_mean(0.25) raised {type(error).__name__}; it must map a mean "
            "over examples to a number."
        ) from error
    if np.shape(value) != () or not np.isfinite(value):
        raise UsageError(
            f"{where}: of_mean maps 0.25 to {value!r:.80}; a finite number is needed."
        )


def _arrays(where: str, split: str, batch: Batch) -> Batch:
    """A split with all arrays as JAX computes with them."""
    leaves = jax.tree.leaves_with_path(batch)
    if not leaves:
        raise UsageError(f"{where}: {split} has no arrays.")
    for path, leaf in leaves:
        name = f"{split}{jax.tree_util.keystr(path)}"
        if not isinstance(leaf, np.ndarray | jax.Array) or leaf.ndim == 0:
            raise UsageError(
                f"{where}: {name} is {_kind(leaf)}; a NumPy array with an axis of "
                "examples is needed."
            )
        if leaf.dtype.kind not in "fiub" and leaf.dtype != jnp.bfloat16:
            raise UsageError(
                f"{where}: {name} has dtype {leaf.dtype}; numbers are needed."
            )
    sizes = {jax.tree_util.keystr(path): len(leaf) for path, leaf in leaves}
    if min(sizes.values()) < 1 or len({*sizes.values()}) > 1:
        counts = ", ".join(f"{name or 'it'} has {n}" for name, n in sizes.items())
        raise UsageError(
            f"{where}: in {split}, {counts} examples; all arrays must have the same "
            "number, at least one."
        )
    return jax.tree.map(partial(_canonical, where, split), batch)


def _of_one(batch: Batch) -> PyTree:
    """Shapes and dtypes of one example."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)


def _canonical(where: str, split: str, array: np.ndarray) -> np.ndarray:
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    converted = np.asarray(array).astype(dtype)
    if array.dtype.kind in "iu" and not np.array_equal(converted, array):
        raise UsageError(
            f"{where}: {split} has {array.dtype} values beyond {dtype}; make them "
            "smaller."
        )
    return converted


def _check_augment(where: str, augment: Callable[..., Batch], few: Batch) -> None:
    few = jax.tree.map(jnp.asarray, few)
    changed = _called(where, "augment", augment, random_key(0), few)
    differing = difference(few, changed)
    if differing is not None:
        raise UsageError(
            f"{where}: augment returned {differing}; structure, shapes and dtypes of "
            "the batch must stay."
        )


def _check_result(
    where: str, name: str, result: Any, batch: Batch, metric: str
) -> None:
    if not isinstance(result, tuple) or len(result) != 3:
        raise UsageError(
            f"{where}: {name} returned {_kind(result)}; the tuple (losses, metrics, "
            "model_state) is needed."
        )
    losses, metrics, _ = result
    if not isinstance(metrics, dict):
        raise UsageError(
            f"{where}: {name} returned metrics as {_kind(metrics)}; a dictionary is "
            "needed."
        )
    expected = f"float32[{examples_in(batch)}]"
    for what, values in {"losses": losses, **metrics}.items():
        if _kind(values) != expected:
            raise UsageError(
                f"{where}: {name} returned {what} as {_kind(values)}, but one value an "
                f"example is needed, here {expected}: don't average over the batch."
            )
    if metric != "loss" and metric not in metrics:
        has = ", ".join(metrics) or "none"
        raise UsageError(
            f"{where}: {name} returned no metric {metric!r}, which Metric names (it "
            f"has {has}); return it for every batch."
        )


def _called(
    where: str, name: str, function: Callable[..., Any], *arguments: Any
) -> Any:
    """What the function returns, jitted; it is traced twice to see what it keeps."""
    try:
        jax.eval_shape(function, *arguments)
        return jax.jit(function)(*arguments)
    except _TRACERS as error:
        raise UsageError(
            f"{where}: {name} kept a traced value from an earlier call "
            f"({type(error).__name__}); make it a pure function, which stores nothing."
        ) from error


def _kind(value: Any) -> str:
    if isinstance(value, jax.Array | jax.ShapeDtypeStruct | np.ndarray):
        return f"{value.dtype}{list(value.shape)}".replace(", ", ",")
    return type(value).__name__
