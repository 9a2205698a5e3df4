"""Nesterov's momentum, exact under schedules of beta. `heavy_ball` has PyTorch's."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from optax_momentum._base.boxes import boxed_like, unboxed
from optax_momentum._base.checks import (
    check_beta,
    check_learning_rate,
    is_absent,
    one_beta,
)
from optax_momentum._base.scalars import checked_schedule, common_dtype
from optax_momentum._methods.conventions import keras
from optax_momentum._methods.momentum import (
    Coefficients,
    linear_momentum,
    momentum_states,
)
from optax_momentum.storage import Storage


def nesterov(
    learning_rate: optax.ScalarOrSchedule,
    beta: optax.ScalarOrSchedule | None = None,
    *,
    momentum: optax.ScalarOrSchedule | None = None,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Nesterov's momentum with its gradients taken at the parameters themselves.

        v₀ = 0,   vₜ = βₜ·vₜ₋₁ − αₜ·gₜ,   Δθₜ = βₜ₊₁·vₜ − αₜ·gₜ        α = learning_rate

    The parameters follow the look-ahead points of `two_point_nesterov` exactly, under
    every schedule of β. That is why each step needs the β of the next step.

    Units: v and Δθ are in units of the parameters, so the update is ready for
    `optax.apply_updates`. A constant g and α settle at Δθ = −α·g/(1 − β), which a
    schedule of β changes. When α changes, the earlier steps in v keep the α they were
    taken with.

    Args:
      learning_rate: α ≥ 0, in parameters per gradient: a number, a traced scalar, or a
        schedule of the step (0 at the first update).
      beta: β in [0, 1), the fraction of v kept at each step: a number, a traced scalar
        or a schedule, which is read at the step and at the next one.
      momentum: another name of beta, that of PyTorch, Keras and `optax.sgd`.
      storage: how to store v between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is the velocity v. Its update
      is Δθₜ, already negated and scaled: don't apply a learning rate afterwards.

    Raises:
      ValueError: learning_rate is negative, infinite or NaN, beta is outside [0, 1) or
        NaN, or either is not a scalar.
      TypeError: beta is missing, an argument is not a real number, storage is not a
        `Storage`, or both beta and momentum are given.

    Differs from `keras(nesterov=True)` and `heavy_ball(nesterov=True)` under a schedule
    of β only: they look ahead with the current β instead of the next step's.

    >>> import jax.numpy as jnp
    >>> from optax_momentum.schedules import linear
    >>> tx = nesterov(learning_rate=1.0, beta=linear(0.0, 0.5, steps=2))
    >>> tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))[0]  # 0.25·(−1) − 1
    Array([-1.25, -1.25], dtype=float32)

    References:
      Nesterov 1983, Soviet Mathematics Doklady 27(2), 372-376.
      Bengio, Boulanger-Lewandowski and Pascanu 2013, arXiv:1212.0901, section 3.5.
    """
    coefficients = nesterov_coefficients(
        learning_rate, one_beta("nesterov", beta, momentum)
    )
    return linear_momentum(coefficients, storage=storage)


def nesterov_coefficients(
    learning_rate: optax.ScalarOrSchedule, beta: optax.ScalarOrSchedule
) -> Callable[[jax.Array], Coefficients]:
    """Returns the coefficients of `nesterov`: βₜ, gain −αₜ, Δθ = βₜ₊₁·m − αₜ·g."""
    rate_at = checked_schedule(partial(check_learning_rate, "nesterov"), learning_rate)
    beta_at = checked_schedule(partial(check_beta, "nesterov"), beta)

    def coefficients(step: jax.Array) -> Coefficients:
        rate = rate_at(step)
        next_beta = beta_at(jnp.asarray(optax.safe_increment(step)))
        return Coefficients(
            beta_at(step), gain=-rate, from_buffer=next_beta, from_gradient=-rate
        )

    return coefficients


def two_point_nesterov(
    learning_rate: optax.ScalarOrSchedule,
    beta: optax.ScalarOrSchedule | None = None,
    *,
    momentum: optax.ScalarOrSchedule | None = None,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Nesterov's momentum in its original form, with gradients at a look-ahead point.

        v₀ = 0,   vₜ = βₜ·vₜ₋₁ − αₜ·g(θₜ₋₁ + βₜ·vₜ₋₁),   Δθₜ = vₜ      α = learning_rate

    Either compute the gradient at `lookahead_params(params, state, beta)` and pass it
    to update, or pass the gradient function and let update call it at that point:
    `update(None, state, params, grad_fn=jax.grad(loss))`. From there on, the arithmetic
    is that of `keras`.

    Units: v and Δθ are in units of the parameters, so the update is ready for
    `optax.apply_updates`. A constant g and α settle at Δθ = −α·g/(1 − β).

    Args:
      learning_rate: α ≥ 0, in parameters per gradient: a number, a traced scalar, or a
        schedule of the step (0 at the first update).
      beta: β in [0, 1), the fraction of v kept at each step: a number, a traced scalar
        or a schedule.
      momentum: another name of beta, that of PyTorch, Keras and `optax.sgd`.
      storage: how to store v between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is the velocity v. Its update
      function takes one extra argument, grad_fn, which maps parameters to gradients.
      Its update is Δθₜ, already negated and scaled: don't apply a learning rate
      afterwards.

    Raises:
      ValueError: learning_rate is negative, infinite or NaN, beta is outside [0, 1) or
        NaN, or either is not a scalar; at update, if grad_fn comes without params or
        together with gradients.
      TypeError: beta is missing, an argument is not a real number, storage is not a
        `Storage`, or both beta and momentum are given.

    Differs from `nesterov`, which is the same method with its parameters at the
    look-ahead points of this one, so that it evaluates and saves other points.

    >>> import jax, jax.numpy as jnp
    >>> theta, grad_fn = jnp.ones(2), jax.grad(lambda x: jnp.sum(x**2) / 2)
    >>> tx = two_point_nesterov(learning_rate=0.5, beta=0.5)
    >>> updates, state = tx.update(None, tx.init(theta), theta, grad_fn=grad_fn)
    >>> theta += updates
    >>> lookahead_params(theta, state, beta=0.5)  # 0.5 + 0.5·(−0.5)
    Array([0.25, 0.25], dtype=float32)

    References:
      Sutskever et al. 2013, proceedings.mlr.press/v28/sutskever13.html, equation 3.
    """
    given_beta = one_beta("two_point_nesterov", beta, momentum)
    inner = keras(learning_rate, given_beta, storage=storage)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        grad_fn: Callable[[optax.Params], optax.Updates] | None = None,
        **extra_args: object,
    ) -> tuple[optax.Updates, optax.OptState]:
        del extra_args  # They are meant for other transformations in a chain.
        if grad_fn is not None:
            if params is None:
                raise ValueError("update: grad_fn needs params, got None. Pass both.")
            if jax.tree.leaves(updates):
                raise ValueError(
                    "update: got gradients and grad_fn, which would replace them. "
                    "Pass None for the gradients, or leave grad_fn out."
                )
            updates = grad_fn(lookahead_params(params, state, given_beta))
        return inner.update(updates, state)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def lookahead_params(
    params: optax.Params, state: optax.OptState, beta: optax.ScalarOrSchedule
) -> optax.Params:
    """Returns the point where `two_point_nesterov` takes its next gradient: θ + β·v.

    Args:
      params: θ, the parameters before the step.
      state: the state of `two_point_nesterov`, or of a chain or wrapper around it.
      beta: the β passed to `two_point_nesterov`; a schedule is read at the state's
        step.

    Returns:
      A tree like params, of the same dtypes. Leaves masked in the state are returned
      unchanged.

    Raises:
      ValueError: beta is outside [0, 1), the state contains no `MomentumState` or
        several, or a parameter and its velocity differ in shape.
      TypeError: beta is not a real number.

    >>> tx = two_point_nesterov(learning_rate=0.5, beta=0.5)
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> lookahead_params(jnp.ones(2), state, beta=0.5)  # 1 + 0.5·(−0.5)
    Array([0.75, 0.75], dtype=float32)
    """
    beta_at = checked_schedule(partial(check_beta, "lookahead_params"), beta)
    states = momentum_states(state)
    if len(states) != 1:
        raise ValueError(
            f"lookahead_params: state must hold one MomentumState, got {len(states)}. "
            "Pass the state of `two_point_nesterov`, or of a chain around it."
        )
    current_beta = beta_at(states[0].step)

    def look_ahead(
        path: jax.tree_util.KeyPath, v: jax.Array, theta: jax.Array
    ) -> jax.Array:
        if is_absent(v):
            return theta
        theta = jnp.asarray(theta)
        if theta.shape != v.shape:
            where = f"params{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"lookahead_params: {where} has shape {theta.shape}, its velocity "
                f"{v.shape}. Call init on the same params you train."
            )
        dtype = common_dtype(theta.dtype, v.dtype, jnp.float32)
        moved = theta.astype(dtype) + jnp.asarray(current_beta, dtype) * v.astype(dtype)
        return moved.astype(theta.dtype)

    buffer = states[0].buffer
    thetas = unboxed(params)
    ahead = jax.tree.map_with_path(look_ahead, buffer, thetas, is_leaf=is_absent)
    return boxed_like(params, ahead)
