"""Flax modules as the two functions of a problem: `init` and `loss`.

A module is built anew wherever it is called, because JAX is tracing then: its initial
values cost nothing where they are replaced. So no state of a module outlives a call,
and its random numbers are a function of the step's key.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from flax import linen, nnx
from jaxtyping import PyTree

from experiments.networks.network import RandomKey
from experiments.problems.problem import (
    Batch,
    Init,
    Loss,
    Losses,
    LossResult,
    ModelState,
)

LossesOf: TypeAlias = Callable[[Any, Batch], tuple[Losses, dict[str, Losses]]]

# Arguments by which Linen modules are told whether they train, and their values then.
_SWITCHES = {
    "train": True,
    "training": True,
    "deterministic": False,
    "use_running_average": False,
}


def from_nnx(
    make: Callable[[nnx.Rngs], nnx.Module], losses: LossesOf
) -> tuple[Init, Loss]:
    """The functions `init` and `loss` of a Flax NNX module.

    Its `nnx.Param` are trained. All other variables, such as the running statistics of
    `nnx.BatchNorm`, are model state. Random streams start from the key of each step.

    Args:
      make: (rngs) -> module.
      losses: (module, batch) -> (losses, metrics), which calls the module. Before, the
        module was switched by `train()` or `eval()`.

    >>> import jax.numpy as jnp
    >>> def squared(module, batch):
    ...     errors = jnp.square(module(batch["x"])[:, 0] - batch["y"])
    ...     return errors, {"squared_error": errors}
    >>> init, loss = from_nnx(lambda rngs: nnx.Linear(3, 1, rngs=rngs), squared)
    >>> batch = {"x": jnp.ones((5, 3)), "y": jnp.zeros(5)}
    >>> params, model_state = init(random_key(0), batch)
    >>> sorted(params), model_state
    (['bias', 'kernel'], ())
    >>> loss(params, model_state, batch, random_key(1), training=True)[0].shape
    (5,)
    """

    def init(key: RandomKey, batch: Batch) -> tuple[PyTree, ModelState]:
        del batch
        params, model_state = _variables(make(nnx.Rngs(key)))
        return nnx.to_pure_dict(params), model_state

    def loss(
        params: PyTree,
        model_state: ModelState,
        batch: Batch,
        key: RandomKey,
        *,
        training: bool,
    ) -> LossResult:
        module = make(nnx.Rngs(key))
        nnx.update(module, params)
        if model_state:
            nnx.update(module, model_state)
        if training:
            module.train()
        else:
            module.eval()
        values, metrics = losses(module, batch)
        return values, metrics, _variables(module)[1] if training else model_state

    return init, loss


def _variables(module: nnx.Module) -> tuple[nnx.State, ModelState]:
    """The parameters, and what else a module keeps from step to step."""
    _, params, _, others, _ = nnx.split(
        module, nnx.Param, nnx.RngState, nnx.Variable, ...
    )
    return params, nnx.to_pure_dict(others) or ()


def from_linen(
    module: linen.Module,
    losses: LossesOf,
) -> tuple[Init, Loss]:
    """The functions `init` and `loss` of a Flax Linen module.

    The collection "params" is trained. All other collections, such as "batch_stats",
    are model state. An argument `train`, `training`, `deterministic` or
    `use_running_average` of `__call__` says whether the module trains. The key of each
    step starts all random streams.

    Args:
      module: is called through `losses`.
      losses: (call, batch) -> (losses, metrics); `call(x)` is the module's output.

    >>> import jax.numpy as jnp
    >>> def squared(call, batch):
    ...     errors = jnp.square(call(batch["x"])[:, 0] - batch["y"])
    ...     return errors, {"squared_error": errors}
    >>> init, loss = from_linen(linen.Dense(1), squared)
    >>> batch = {"x": jnp.ones((5, 3)), "y": jnp.zeros(5)}
    >>> params, model_state = init(random_key(0), batch)
    >>> sorted(params), model_state
    (['bias', 'kernel'], ())
    >>> loss(params, model_state, batch, random_key(1), training=True)[0].shape
    (5,)
    """
    taken = inspect.signature(type(module).__call__).parameters
    switches = {name: value for name, value in _SWITCHES.items() if name in taken}

    def switched(training: bool) -> dict[str, bool]:
        return {name: value == training for name, value in switches.items()}

    def init(key: RandomKey, batch: Batch) -> tuple[PyTree, ModelState]:
        variables: dict[str, PyTree] = {}

        def call(*inputs: Any, **named: Any) -> Any:
            named = switched(False) | named
            output, drawn = module.init_with_output(key, *inputs, **named)
            variables.update(drawn)
            return output

        losses(call, batch)
        return variables.pop("params", {}), variables or ()

    def loss(
        params: PyTree,
        model_state: ModelState,
        batch: Batch,
        key: RandomKey,
        *,
        training: bool,
    ) -> LossResult:
        kept = dict(model_state) if model_state else {}

        def call(*inputs: Any, **named: Any) -> Any:
            named = switched(training) | named
            changes = sorted(kept) if training and kept else False
            output = module.apply(
                {"params": params, **kept},
                *inputs,
                rngs={"params": key},
                mutable=changes,
                **named,
            )
            if changes:
                output, changed = output
                kept.update(changed)
            return output

        values, metrics = losses(call, batch)
        return values, metrics, kept or model_state

    return init, loss
