"""Conversion between the state of `torch.optim.SGD` and a state of `heavy_ball`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum._base.boxes import unboxed
from optax_momentum._base.placement import conform_to
from optax_momentum._methods.conventions import heavy_ball
from optax_momentum._methods.momentum import MomentumState
from optax_momentum.convert._arrays import (
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
    """Converts a `torch.optim.SGD` state to one of `heavy_ball`, or of `sgd`.

    The conversion is exact: the next step is PyTorch's next step, provided that the
    optimizer has the options of the run and that `from_arrays` read its weights with
    the same `layout`. In PyTorch, a parameter that never had a gradient has no buffer;
    here its buffer is zero.

    Args:
      state_dict: the result of `torch.optim.SGD.state_dict()`, with its tensors on the
        CPU and bfloat16 tensors converted with `tensor.float()`.
      params: the parameters in JAX, or their `jax.ShapeDtypeStruct`s. The buffer gets
        their structure, shapes, dtypes and shardings.
      names: maps PyTorch's index of every parameter to the path of its leaf, such as
        "conv/kernel" or ("conv", "kernel"), or to None if `params` lacks it.
      layout: maps the path of every leaf with two or more axes to its `Layout`.
      step: number of updates made so far, at least 1. PyTorch does not store it; only
        schedules and debiasing read it.

    Returns:
      A state at `step`, or at step 0 if no parameter has a buffer yet.

    Raises:
      ValueError: as for `from_arrays`; parameter groups differ in momentum or
        dampening; there is dampening and only some parameters have a buffer; step is
        below 1; state_dict is from another optimizer.
      TypeError: NumPy cannot read a tensor.

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
            f"from_torch: step must be 1 or more, got {step}. Step 0 would repeat "
            "PyTorch's undampened first step."
        )
    buffers = _buffers(state_dict)
    named = [index for index in buffers if names.get(index) is not None]
    beta = _shared(state_dict, named, "momentum")
    dampening = _shared(state_dict, named, "dampening")
    missing = [index for index in named if buffers[index] is None]
    if len(missing) == len(named):
        step = 0
    elif missing and dampening:
        raise ValueError(
            f"from_torch: {missing[0]!r} ({names[missing[0]]!r}) has no buffer yet and "
            f"dampening is {dampening}: PyTorch would not dampen its first gradient, "
            "but one step count serves all parameters here. Map it to None in names."
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
    as_tensor: Callable[[np.ndarray], object] = np.asarray,
) -> dict[str, Any]:
    """Converts a state for `torch.optim.SGD.load_state_dict`; inverse of `from_torch`.

    Args:
      state: a state of `heavy_ball` or `sgd`; convert that of another convention with
        `momentum_state`.
      state_dict: the state_dict of the PyTorch optimizer that will load the result. Its
        parameter groups, which hold the options, are returned unchanged.
      names: as for `from_torch`; parameters mapped to None are returned unchanged.
      layout: as for `from_torch`.
      as_tensor: converts a NumPy array to a tensor; pass `torch.from_numpy`.

    Returns:
      A copy of `state_dict` with the buffers of `state`, or without buffers at step 0,
      when PyTorch has not created them yet.

    Raises:
      ValueError: as for `from_arrays`; or state_dict is from another optimizer.
    """
    check_keys(names, _buffers(state_dict))
    buffers = to_arrays(state.buffer, names, layout)
    entries = {
        index: entry
        for index, entry in state_dict["state"].items()
        if index not in buffers
    }
    if unboxed(state.step) > 0:
        for index, buffer in buffers.items():
            entries[index] = {"momentum_buffer": as_tensor(buffer)}
    return {**state_dict, "state": entries}


def _buffers(state_dict: Mapping[str, Any]) -> dict[int, object]:
    """Maps every index to its buffer, or to None if PyTorch has not created it."""
    groups = state_dict.get("param_groups", ())
    if "state" not in state_dict or not all("momentum" in group for group in groups):
        raise ValueError(
            "state_dict must be the result of torch.optim.SGD.state_dict(): 'state', "
            f"and 'param_groups' with 'momentum'. Got {sorted(state_dict)}."
        )
    for index, entry in state_dict["state"].items():
        if entry and "momentum_buffer" not in entry:
            raise ValueError(
                f"state_dict['state'][{index!r}] holds {sorted(entry)} but no "
                "'momentum_buffer': it is not a state of torch.optim.SGD."
            )
    return {
        index: state_dict["state"].get(index, {}).get("momentum_buffer")
        for group in groups
        for index in group["params"]
    }


def _shared(state_dict: Mapping[str, Any], named: list[int], option: str) -> float:
    """The value of an option that must be equal in all groups of named parameters."""
    values = {
        float(group[option]): None
        for group in state_dict["param_groups"]
        if any(index in named for index in group["params"])
    }
    if len(values) > 1:
        raise ValueError(
            f"from_torch: the groups have {option} {' and '.join(map(str, values))}, "
            "but a MomentumState has one for all. Convert one group at a time, with "
            "the others' parameters mapped to None in names, and join them with "
            "optax.partition."
        )
    return next(iter(values), 0.0)


def _weight(beta: float, dampening: float, step: int) -> float:
    """The buffer of `heavy_ball` after `step` gradients of 1."""
    if step == 0:
        return 0.0
    first = beta ** (step - 1)
    return first + (1 - dampening) * (1 - first) / (1 - beta)
