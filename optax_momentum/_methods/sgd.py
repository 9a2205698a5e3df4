"""A complete SGD optimizer: momentum, weight decay and the learning rate."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import on_plain_trees
from optax_momentum._base.checks import (
    check_beta,
    check_dampening,
    check_learning_rate,
    check_params,
    check_scalar,
    check_switch,
    is_absent,
    pair_leaves,
    wrong_state,
)
from optax_momentum._base.parameters import check_given
from optax_momentum._base.scalars import (
    checked_schedule,
    common_dtype,
    is_concrete,
    select,
)
from optax_momentum._methods.conventions import heavy_ball
from optax_momentum._methods.momentum import MomentumState, scale, unfusable
from optax_momentum.storage import Storage

Decay = Literal["coupled", "decoupled", "independent"]


def sgd(
    learning_rate: optax.ScalarOrSchedule,
    beta: optax.ScalarOrSchedule | None = None,
    *,
    nesterov: ArrayLike = False,
    dampening: ArrayLike = 0.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    decay: Decay = "coupled",
    maximize: ArrayLike = False,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """SGD with momentum; each argument means what it means in `torch.optim.SGD`.

        gₜ = ∇f(θₜ₋₁), or −∇f(θₜ₋₁) with maximize
        gₜ ← gₜ + λ·θₜ₋₁                                                 if coupled
        m₁ = g₁,   mₜ = β·mₜ₋₁ + (1 − τ)·gₜ
        uₜ = mₜ,   or with nesterov gₜ + β·mₜ,   or without beta gₜ
        θₜ = θₜ₋₁ − αₜ·uₜ                                                if coupled
        θₜ = θₜ₋₁ − αₜ·uₜ − αₜ·λ·θₜ₋₁                                    if decoupled
        θₜ = θₜ₋₁ − αₜ·uₜ − λ·θₜ₋₁                                       if independent

    with α = learning_rate, β = beta, τ = dampening, λ = weight_decay.

    Units: α is in parameters per gradient. Once the momentum has settled, weight decay
    shrinks a parameter at each step by the fraction α·λ·(1 − τ)/(1 − β) if coupled
    (10·α·λ at β = 0.9), α·λ if decoupled, and λ if independent. So λ is in gradients
    per parameter in the first two, and a dimensionless fraction in the third.

    Args:
      learning_rate: α ≥ 0: a number, a traced scalar, or a schedule of the step (0 at
        the first update).
      beta: β in [0, 1): a number, a traced scalar or a schedule. None is plain SGD
        without a buffer.
      nesterov: whether to look one step ahead; needs beta and `dampening=0`. A bool or
        a traced scalar.
      dampening: τ in [0, 1], the fraction of each gradient kept out of m after the
        first step; needs beta > 0. A number or a traced scalar.
      weight_decay: λ ≥ 0: a number, a traced scalar or a schedule. Unless it is 0.0,
        update needs the parameters.
      decay: where λ enters: "coupled" as in PyTorch, "decoupled" as in Keras and
        AdamW, or "independent" of the learning rate. SGDW's decay follows its schedule
        multiplier ηₜ only: use "independent" with
        `weight_decay=lambda t: decay * eta(t)`.
      maximize: whether to ascend instead of descend. The weights still decay. A bool or
        a traced scalar.
      storage: how to store m between steps; see `optax_momentum.storage`. Needs beta.

    Returns:
      A transformation with a `MomentumState` whose buffer is PyTorch's
      `momentum_buffer`. Its updates are already negated and scaled, ready for
      `optax.apply_updates`.

    Raises:
      ValueError: an argument is out of range, NaN or not a scalar; nesterov, dampening
        or storage come without the arguments they need; decay is unknown; at update,
        if weight decay is on and params is None.
      TypeError: an argument is not a real number, or storage is not a `Storage`.

    Differs from `optax.sgd`: adds weight decay, dampening and maximize; see
    `heavy_ball` for the momentum. Differs from `torch.optim.SGD`, which ignores
    dampening without momentum; see `heavy_ball` for parameters whose first gradients
    are missing. Differs from `keras.optimizers.SGD` even with "decoupled", which is
    Keras's weight decay but not its momentum: that is `keras`.

    >>> import jax.numpy as jnp
    >>> params = jnp.array([2.0])
    >>> for decay in "coupled", "decoupled", "independent":
    ...     optimizer = sgd(0.5, 0.75, weight_decay=0.125, decay=decay)
    ...     updates, state = optimizer.update(params, optimizer.init(params), params)
    ...     optimizer.update(params, state, params)[0]
    Array([-1.96875], dtype=float32)
    Array([-1.875], dtype=float32)
    Array([-2.], dtype=float32)

    References:
      PyTorch `torch/optim/sgd.py`, `_single_tensor_sgd`.
      Loshchilov and Hutter 2019, arXiv:1711.05101, SGDW, algorithm 1.
    """
    rate_at = checked_schedule(partial(check_learning_rate, "sgd"), learning_rate)
    beta_at: Any = checked_schedule(
        partial(check_beta, "sgd"), 0.0 if beta is None else beta
    )
    decay_at = checked_schedule(_check_weight_decay, weight_decay)
    _check_options(beta, nesterov, dampening, decay, maximize)
    if beta is None and storage is not None:
        raise ValueError(
            "sgd: storage needs a beta, got None, which keeps no buffer. Pass beta=0.9."
        )
    momentum: Any = heavy_ball(
        beta_at, dampening=dampening, nesterov=nesterov, storage=storage
    )
    no_decay = isinstance(weight_decay, int | float) and weight_decay == 0
    place = None if no_decay else decay

    def init(params: optax.Params) -> MomentumState:
        check_params(params)
        state = momentum.init(params)
        return state if beta is not None else state._replace(buffer=None)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, MomentumState]:
        if not isinstance(state, MomentumState):
            raise wrong_state(state, MomentumState)
        if place is not None:
            check_given("sgd with weight_decay", params)
        if beta is not None:
            expected = state.buffer
        else:
            expected = updates if params is None else params
        # Only for its checks: raises unless the gradients fit.
        pair_leaves(updates, jax.tree.map(jnp.asarray, expected))
        step = state.step
        u = _multiply(select(maximize, -1.0, 1.0), updates)
        if place == "coupled":
            u = _add_multiple(u, decay_at(step), params)
        momentum_update, new_state = momentum.update(None if beta is None else u, state)
        u = u if beta is None else momentum_update
        if place == "decoupled":
            u = _add_multiple(u, decay_at(step), params)
        u = _multiply(-rate_at(step), u)
        if place == "independent":
            u = _add_multiple(u, -decay_at(step), params)
        return _cast_like(u, updates), new_state

    return on_plain_trees(optax.GradientTransformation(init, update))


def _multiply(factor: ArrayLike, tree: Any) -> Any:
    """Returns factor·x for every leaf x, in float32 or wider."""

    def multiply(x: Any) -> Any:
        x = jnp.asarray(x)
        return scale(factor, x.astype(common_dtype(x.dtype, jnp.float32)))

    return _map_present(multiply, tree)


def _add_multiple(tree: Any, factor: ArrayLike, params: Any) -> Any:
    """Returns x + factor·θ for every leaf x, in the wider of both dtypes."""

    def add(x: jax.Array, parameter: Any) -> jax.Array:
        dtype = common_dtype(x.dtype, jnp.result_type(parameter))
        theta = jnp.asarray(parameter).astype(dtype)
        return x.astype(dtype) + unfusable(scale(factor, theta))

    return _map_present(add, tree, params)


def _cast_like(tree: Any, updates: Any) -> Any:
    return _map_present(lambda x, g: x.astype(jnp.result_type(g)), tree, updates)


def _map_present(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Maps the leaves that take part in a step; absent ones are returned unchanged."""

    def apply(leaf: Any, *others: Any) -> Any:
        return leaf if is_absent(leaf) else function(leaf, *others)

    return jax.tree.map(apply, tree, *rest, is_leaf=is_absent)


def _check_weight_decay(weight_decay: Any) -> None:
    check_scalar(
        "sgd: weight_decay",
        weight_decay,
        lambda known: 0 <= known < math.inf,
        "lie in [0, inf)",
        "It shrinks the parameters; 0 turns it off.",
    )


def _check_options(
    beta: Any, nesterov: Any, dampening: Any, decay: Any, maximize: Any
) -> None:
    """Raises for an unknown decay, and for momentum options without momentum."""
    check_switch("sgd: nesterov", nesterov)
    check_switch("sgd: maximize", maximize)
    check_dampening("sgd", dampening, nesterov)
    if decay not in get_args(Decay):
        raise ValueError(
            "sgd: decay must be 'coupled' (PyTorch's), 'decoupled' (Keras's, AdamW's) "
            f"or 'independent' (of the learning rate), got {decay!r}."
        )
    if beta is None and is_concrete(nesterov) and nesterov:
        raise ValueError("sgd: nesterov=True needs a beta, got None. Pass beta=0.9.")
    known_beta = is_concrete(beta) and not callable(beta)
    no_momentum = known_beta and (beta is None or beta == 0)
    if no_momentum and is_concrete(dampening) and dampening != 0:
        raise ValueError(
            f"sgd: dampening={dampening!s} needs beta > 0, got {beta!s}; PyTorch "
            "ignores it without momentum. Drop it, or lower the learning rate instead."
        )
