"""The state of `torch.optim.SGD` as a state of `heavy_ball`, and back."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum._base.placement import conform_to
from optax_momentum._methods.conventions import heavy_ball
from optax_momentum._methods.momentum import MomentumState
from optax_momentum.convert.arrays import (
    Layouts,
    Names,
    check_keys,
    from_arrays,
    to_arrays,
)


def from_torch(
    state_dict: Mapping[str, Any],
    params: optax.Params,
    names: Names,
    layout: Layouts,
    *,
    step: int = 1,
) -> MomentumState:
    """The state in which `heavy_ball` or `sgd` continues a run of `torch.optim.SGD`.

    Exact: the next step is PyTorch's next step, if the options are those of the run and
    its weights come through `from_arrays` with the same `layout`. A parameter that
    never had a gradient has no buffer in PyTorch; here it has zeros.

    Args:
      state_dict: what `torch.optim.SGD.state_dict()` returns; its tensors on the CPU,
        bfloat16 ones as `tensor.float()`.
      params: the parameters in JAX, or their `jax.ShapeDtypeStruct`s; the buffer gets
        their structure, shapes, dtypes and shardings.
      names: maps PyTorch's index of every parameter to the path of its leaf, such as
        "conv/kernel" or ("conv", "kernel"); to None what `params` does not hold.
      layout: maps the path of every leaf of two axes or more to its `Layout`.
      step: updates that the run has made, 1 or more. PyTorch does not store it, and
        only schedules and debiasing read it.

    Returns:
      A state at `step`; at 0 if no parameter has a buffer yet.

    Raises:
      ValueError: as `from_arrays`; groups of unequal momentum or dampening; dampening
        where some parameters have a buffer and some do not; a step below 1; the
        state_dict of another optimizer.
      TypeError: a tensor that NumPy cannot read.

    >>> import jax.numpy as jnp
    >>> from optax_momentum.convert import LINEAR
    >>> group = {"momentum": 0.9, "dampening": 0, "params": [0]}
    >>> buffers = {0: {"momentum_buffer": [[1.0, 2.0]]}}
    >>> state_dict = {"state": buffers, "param_groups": [group]}
    >>> params = {"dense": jnp.zeros((2, 1))}
    >>> from_torch(state_dict, params, {0: "dense"}, {"dense": LINEAR}).buffer
    {'dense': Array([[1.],
           [2.]], dtype=float32)}
    """
    if step < 1:
        raise ValueError(
            f"from_torch: step must be 1 or more, got {step}. At step 0, PyTorch's "
            "undampened first step would be made again."
        )
    buffers = _buffers(state_dict)
    named = [index for index in buffers if names.get(index) is not None]
    beta = _shared(state_dict, named, "momentum")
    dampening = _shared(state_dict, named, "dampening")
    unseen = [index for index in named if buffers[index] is None]
    if len(unseen) == len(named):
        step = 0
    elif unseen and dampening:
        raise ValueError(
            f"from_torch: {unseen[0]!r} ({names[unseen[0]]!r}) has no buffer yet and "
            f"dampening is {dampening}: PyTorch would take its first gradient whole, "
            "which a state that others share cannot. Map it to None in names."
        )
    state: Any = heavy_ball(beta).init(params)
    weight = jnp.asarray(_weight(beta, dampening, step), jnp.float32)
    return MomentumState(
        step=conform_to(state.step, jnp.asarray(step)),
        buffer=from_arrays(buffers, state.buffer, names, layout),
        weight=conform_to(state.weight, weight),
    )


def to_torch(
    state: MomentumState,
    state_dict: Mapping[str, Any],
    names: Names,
    layout: Layouts,
    *,
    as_tensor: Callable[[np.ndarray], Any] = np.asarray,
) -> dict[str, Any]:
    """The inverse of `from_torch`, for `torch.optim.SGD.load_state_dict`.

    Args:
      state: of `heavy_ball` or `sgd`; of another convention, by way of
        `momentum_state`.
      state_dict: of the PyTorch optimizer that will load the result; its groups, which
        hold the options, stay as they are.
      names: as for `from_torch`; what it maps to None stays as it is.
      layout: as for `from_torch`.
      as_tensor: makes a tensor of an array: `torch.from_numpy`, for PyTorch to load it.

    Returns:
      A copy of `state_dict` with the buffers of `state`; with none of them at step 0,
      where PyTorch has not made them yet.

    Raises:
      ValueError: as `from_arrays`; or the state_dict of another optimizer.
    """
    check_keys(names, _buffers(state_dict))
    buffers = to_arrays(state.buffer, names, layout)
    entries = {
        index: entry
        for index, entry in state_dict["state"].items()
        if index not in buffers
    }
    if state.step > 0:
        for index, buffer in buffers.items():
            entries[index] = {"momentum_buffer": as_tensor(buffer)}
    return {**state_dict, "state": entries}


def _buffers(state_dict: Mapping[str, Any]) -> dict[Any, Any]:
    """The buffer of every index, None where PyTorch has not made it."""
    groups = state_dict.get("param_groups", ())
    if "state" not in state_dict or not all("momentum" in group for group in groups):
        raise ValueError(
            "state_dict must be what torch.optim.SGD.state_dict() returns: 'state' and "
            f"'param_groups', these with 'momentum'. Got {sorted(state_dict)}."
        )
    for index, entry in state_dict["state"].items():
        if entry and "momentum_buffer" not in entry:
            raise ValueError(
                f"state_dict['state'][{index!r}] holds {sorted(entry)} and no "
                "'momentum_buffer': it is the state of another optimizer than SGD."
            )
    return {
        index: state_dict["state"].get(index, {}).get("momentum_buffer")
        for group in groups
        for index in group["params"]
    }


def _shared(state_dict: Mapping[str, Any], named: list[Any], option: str) -> float:
    """The option that all groups of the named parameters have in common."""
    values = {
        float(group[option]): None
        for group in state_dict["param_groups"]
        if any(index in named for index in group["params"])
    }
    if len(values) > 1:
        raise ValueError(
            f"from_torch: the groups have {option} {' and '.join(map(str, values))}, a "
            "MomentumState one for all. Convert one group at a time, the others' "
            "parameters None in names, and join them by optax.partition."
        )
    return next(iter(values), 0.0)


def _weight(beta: float, dampening: float, step: int) -> float:
    """What `heavy_ball` makes of gradients of 1 in `step` steps."""
    if step == 0:
        return 0.0
    first = beta ** (step - 1)
    return first + (1 - dampening) * (1 - first) / (1 - beta)
