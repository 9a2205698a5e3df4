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
    Absent,
    check_beta,
    check_buffer,
    check_dampening,
    check_learning_rate,
    check_params,
    check_scalar,
    check_switch,
    is_absent,
    one_beta,
    pair_leaves,
    wrong_state,
)
from optax_momentum._base.parameters import check_given
from optax_momentum._base.placement import zero_beside
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
    momentum: optax.ScalarOrSchedule | None = None,
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
        without a buffer, whose init takes leaves of any type, as `optax.sgd` does.
      momentum: another name of beta, that of PyTorch, Keras and `optax.sgd`.
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
        if weight decay is on and params is None, or the state has a buffer and there
        is no beta, or the reverse.
      TypeError: an argument is not a real number, storage is not a `Storage`, or both
        beta and momentum are given.

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
    beta = one_beta("sgd", beta, momentum)
    rate_at = checked_schedule(partial(check_learning_rate, "sgd"), learning_rate)
    beta_at = checked_schedule(
        partial(check_beta, "sgd"), 0.0 if beta is None else beta
    )
    decay_at = checked_schedule(_check_weight_decay, weight_decay)
    _check_options(beta, nesterov, dampening, decay, maximize)
    if beta is None and storage is not None:
        raise ValueError(
            "sgd: storage needs a beta, got None, which keeps no buffer. Pass beta=0.9."
        )
    accumulator: Any = heavy_ball(
        beta_at, dampening=dampening, nesterov=nesterov, storage=storage
    )
    no_decay = isinstance(weight_decay, int | float) and weight_decay == 0
    place = None if no_decay else decay

    def init(params: optax.Params) -> MomentumState:
        if beta is None:  # There is no buffer, so a leaf may be of any type.
            step, weight = (zero_beside(params, t) for t in (jnp.int32, jnp.float32))
            no_buffer: Any = None
            return MomentumState(step, no_buffer, weight)
        check_params(params)
        return accumulator.init(params)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, MomentumState]:
        if not isinstance(state, MomentumState):
            raise wrong_state(state, MomentumState)
        if beta is None and state.buffer is not None:
            raise ValueError(
                "sgd: the state has a momentum buffer, which this optimizer would drop "
                "because it has no beta. Build it with the beta that the state was "
                "made with, or call init for a state without a buffer."
            )
        if place is not None:
            check_given("sgd with weight_decay", params)
        if beta is not None:
            check_buffer("sgd", state.buffer, updates)
            expected = state.buffer
        else:
            expected = updates if params is None else params
        # Only for its checks: raises unless the gradients fit.
        pair_leaves(updates, jax.tree.map(_as_array, expected))
        step = state.step
        u = _multiply(select(maximize, -1.0, 1.0), updates)
        if place == "coupled":
            u = _add_multiple(u, decay_at(step), params)
        momentum_update, new_state = accumulator.update(
            None if beta is None else u, state
        )
        u = u if beta is None else momentum_update
        if place == "decoupled":
            u = _add_multiple(u, decay_at(step), params)
        u = _multiply(-rate_at(step), u)
        if place == "independent":
            u = _add_multiple(u, -decay_at(step), params)
        return _cast_like(u, updates), new_state

    return on_plain_trees(optax.GradientTransformation(init, update))


def _as_array(leaf: object) -> jax.Array | optax.MaskedNode:
    """Converts numbers to arrays, and leaves without a dtype to absent ones."""
    is_array = hasattr(leaf, "dtype") or isinstance(leaf, int | float | complex)
    return jnp.asarray(leaf) if is_array else optax.MaskedNode()


def _multiply(factor: ArrayLike, tree: optax.Updates) -> optax.Updates:
    """Returns factor·x for every leaf x, in float32 or wider."""

    def multiply(x: ArrayLike) -> jax.Array:
        x = jnp.asarray(x)
        return scale(factor, x.astype(common_dtype(x.dtype, jnp.float32)))

    return _map_present(multiply, tree)


def _add_multiple(
    tree: optax.Updates, factor: ArrayLike, params: optax.Params | None
) -> optax.Updates:
    """Returns x + factor·θ for every leaf x, in the wider of both dtypes."""

    def add(x: jax.Array, parameter: jax.Array) -> jax.Array:
        dtype = common_dtype(x.dtype, jnp.result_type(parameter))
        theta = jnp.asarray(parameter).astype(dtype)
        return x.astype(dtype) + unfusable(scale(factor, theta))

    return _map_present(add, tree, params)


def _cast_like(tree: optax.Updates, updates: optax.Updates) -> optax.Updates:
    return _map_present(lambda x, g: x.astype(jnp.result_type(g)), tree, updates)


def _map_present(
    function: Callable[..., jax.Array], tree: optax.Updates, *rest: optax.Updates | None
) -> optax.Updates:
    """Maps the leaves that take part in a step; absent ones are returned unchanged."""

    def apply(leaf: jax.Array, *others: jax.Array) -> jax.Array | Absent:
        return leaf if is_absent(leaf) else function(leaf, *others)

    return jax.tree.map(apply, tree, *rest, is_leaf=is_absent)


def _check_weight_decay(weight_decay: object) -> None:
    check_scalar(
        "sgd: weight_decay",
        weight_decay,
        lambda known: 0 <= known < math.inf,
        "lie in [0, inf)",
        "It shrinks the parameters; 0 turns it off.",
    )


def _check_options(
    beta: object,
    nesterov: object,
    dampening: object,
    decay: object,
    maximize: object,
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
