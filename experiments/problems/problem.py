"""A problem: everything that is trained, except the optimizer."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, PyTree

from experiments.data.streaming import StreamedImages
from experiments.networks.network import RandomKey, random_key
from experiments.networks.on_cpu import fast_on_cpu
from experiments.records.metric import Metric

Batch: TypeAlias = Any  # a pytree of arrays, examples first
ModelState: TypeAlias = PyTree  # such as running statistics; () where there is none
Losses = Float32[Array, " batch"]
# One batch's losses, its metrics by key, and the next model state.
LossResult = tuple[Losses, dict[str, Losses], ModelState]

LOSS = Metric("loss", "loss", higher_is_better=False)


class Init(Protocol):
    """Draws the parameters and the first model state, () if there is none."""

    def __call__(self, key: RandomKey, batch: Batch, /) -> tuple[PyTree, ModelState]:
        """Takes a few training examples, for their shapes."""
        ...


class Loss(Protocol):
    """The losses of a batch, one an example; pure, and not yet averaged."""

    def __call__(
        self,
        params: PyTree,
        model_state: ModelState,
        batch: Batch,
        key: RandomKey,
        /,
        *,
        training: bool,
    ) -> LossResult: ...


class Problem(NamedTuple):
    """What is trained: everything that the optimizer is not.

    Args:
      name: for pages and directories.
      train: a pytree of NumPy arrays, such as a dictionary, examples first.
      validation: likewise, of the same structure, shapes and dtypes.
      test: likewise.
      init: (key, batch) -> (params, model_state). `model_state` holds what changes
        without a gradient, such as running statistics; () where there is none. `batch`
        has a few training examples.
      loss: (params, model_state, batch, key, *, training) -> (losses, metrics,
        model_state). `losses` is float32 [batch], one an example; a step follows the
        gradient of their mean. `metrics` is a dictionary of float32 [batch]. `key`
        draws the random numbers of a step, for example those of Dropout. Where
        `training` is false, an example's result must not depend on its batch.
      augment: (key, batch) -> batch, in training alone. Jitted, on the device.
      metric: which of the metrics chooses and compares runs, and how it is shown.
    """

    name: str
    train: Batch
    validation: Batch
    test: Batch
    init: Init
    loss: Loss
    augment: Callable[[RandomKey, Batch], Batch] | None = None
    metric: Metric = LOSS


class Task(NamedTuple):
    """A problem without its data; hashable, to be a static argument."""

    init: Init
    loss: Loss
    augment: Callable[[RandomKey, Batch], Batch] | None = None
    metric: str = "loss"  # the key of the metric
    # Whether a step must see its whole batch at once, because an example's gradient
    # depends on the others (BatchNorm) or on its place among them (Dropout).
    whole_batches: bool = False


def task_of(problem: Problem) -> Task:
    """The problem without its data; traces one loss and computes nothing."""
    few = some_examples(problem.train)
    init, loss, augment = problem.init, problem.loss, problem.augment
    whole = augment is not None or needs_whole_batches(init, loss, few)
    return Task(init, fast_on_cpu(loss), augment, problem.metric.key, whole)


def needs_whole_batches(init: Init, loss: Loss, few: Batch) -> bool:
    """Whether there is a model state, or training draws random numbers."""
    params, model_state = jax.eval_shape(init, random_key(0), few)
    return bool(jax.tree.leaves(model_state)) or _reads_key(loss, params, few)


def _reads_key(loss: Loss, params: PyTree, batch: Batch) -> bool:
    """Whether training draws random numbers."""

    def losses(key: RandomKey, params: PyTree, batch: Batch) -> LossResult:
        return loss(params, (), batch, key, training=True)

    jaxpr = jax.make_jaxpr(losses)(random_key(0), params, batch).jaxpr
    live = {*filter(_is_variable, jaxpr.outvars)}
    for equation in reversed(jaxpr.eqns):  # a module draws parameters that are replaced
        if not live.isdisjoint(equation.outvars):
            live |= {*filter(_is_variable, equation.invars)}
    return jaxpr.invars[0] in live


def _is_variable(atom: Any) -> bool:
    return not isinstance(atom, jax.extend.core.Literal)


def examples_in(batch: Batch) -> int:
    """The number of examples."""
    return len(jax.tree.leaves(batch)[0])


def some_examples(batch: Batch, count: int = 8) -> Batch:
    """The first examples, which show what shapes and dtypes all have."""
    return in_memory(jax.tree.map(lambda x: x[:count], batch))


def in_memory(batch: Batch) -> Batch:
    """The examples, read if they are streamed."""
    return jax.tree.map(
        lambda x: np.asarray(x) if isinstance(x, StreamedImages) else x, batch
    )


def take(batch: Batch, indices: Any) -> Batch:
    """The examples with these indices."""
    return jax.tree.map(lambda x: x[indices], batch)


def concatenated(*parts: Batch) -> Batch:
    """The examples of all parts in turn: NumPy arrays, or images still streamed."""

    def joined(first: Any, *rest: Any) -> Any:
        if isinstance(first, StreamedImages):
            return first.followed_by(*rest)
        return np.concatenate([first, *rest])

    return jax.tree.map(joined, *parts)


def digest(problem: Problem) -> str:
    """Sixteen hex digits that differ when any array, or its place in a tree, does."""
    sha256 = hashlib.sha256()
    splits = problem.train, problem.validation, problem.test
    for path, leaf in jax.tree.leaves_with_path(splits):
        name = jax.tree_util.keystr(path)
        sha256.update(f"{name}{leaf.dtype.str}{leaf.shape}".encode())
        sha256.update(np.ascontiguousarray(leaf).data)
    return sha256.hexdigest()[:16]


def value_of(metric: str, losses: Losses, metrics: dict[str, Losses]) -> Losses:
    """The deciding figure of each example."""
    return losses if metric == "loss" else jnp.asarray(metrics[metric])
