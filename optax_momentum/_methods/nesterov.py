"""Nesterov's momentum, exact while beta varies; PyTorch's form is in `heavy_ball`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_momentum._base.checks import check_beta, check_learning_rate, is_absent
from optax_momentum._base.scalars import checked, common_dtype
from optax_momentum._methods.conventions import keras
from optax_momentum._methods.momentum import Coefficients, linear_momentum, momenta
from optax_momentum.storage import Storage


def nesterov(
    learning_rate: optax.ScalarOrSchedule,
    beta: optax.ScalarOrSchedule,
    *,
    storage: Storage | None = None,
) -> optax.GradientTransformation:
    """Nesterov's momentum in one gradient at the parameters: the next-β form.

        v₀ = 0,   vₜ = βₜ·vₜ₋₁ − αₜ·gₜ,   Δθₜ = βₜ₊₁·vₜ − αₜ·gₜ        α = learning_rate

    The parameters are the look-ahead points of `two_point_nesterov`, step for step,
    for every schedule of β: so each step needs the β of the step after it.

    Units: v and Δθ are parameters: the update is ready for `optax.apply_updates` as it
    is. A constant g and α settle at Δθ = −α·g/(1 − β), and a schedule of β changes that
    settled step. Where α changes, the steps that v holds keep their size.

    Args:
      learning_rate: α ≥ 0, in parameters per gradient: a number, a traced scalar, or a
        schedule of the step (0 at the first update).
      beta: β in [0, 1), the share of v that a step keeps: likewise. A schedule is read
        at the step and at the next one.
      storage: how v is kept between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is the velocity v. It emits
      Δθₜ, negated and scaled: no learning rate follows it.

    Raises:
      ValueError: learning_rate negative, infinite or NaN, beta outside [0, 1) or NaN,
        either not a scalar.
      TypeError: an argument that is not a real number, or storage no `Storage`.

    Differs from `keras(nesterov=True)` and `heavy_ball(nesterov=True)` under a schedule
    of β only: they read ahead by the present β, which is not where the next step goes.

    >>> import jax.numpy as jnp
    >>> from optax_momentum.schedules import linear
    >>> tx = nesterov(learning_rate=1.0, beta=linear(0.0, 0.5, steps=2))
    >>> tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))[0]  # 0.25·(−1) − 1
    Array([-1.25, -1.25], dtype=float32)

    References:
      Nesterov 1983, Soviet Mathematics Doklady 27(2), 372-376.
      Bengio, Boulanger-Lewandowski and Pascanu 2013, arXiv:1212.0901, section 3.5.
    """
    return linear_momentum(nesterov_coefficients(learning_rate, beta), storage=storage)


def nesterov_coefficients(
    learning_rate: optax.ScalarOrSchedule, beta: optax.ScalarOrSchedule
) -> Callable[[jax.Array], Coefficients]:
    """The coefficients of `nesterov`: βₜ, gain −αₜ, Δθ = βₜ₊₁·m − αₜ·g."""
    rate_at = checked(partial(check_learning_rate, "nesterov"), learning_rate)
    beta_at = checked(partial(check_beta, "nesterov"), beta)

    def coefficients(step: jax.Array) -> Coefficients:
        rate, ahead = rate_at(step), beta_at(jnp.asarray(optax.safe_increment(step)))
        return Coefficients(
            beta_at(step), gain=-rate, from_buffer=ahead, from_gradient=-rate
        )

    return coefficients


def two_point_nesterov(
    learning_rate: optax.ScalarOrSchedule,
    beta: optax.ScalarOrSchedule,
    *,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Nesterov's momentum as first written: the gradient is taken at another point.

        v₀ = 0,   vₜ = βₜ·vₜ₋₁ − αₜ·g(θₜ₋₁ + βₜ·vₜ₋₁),   Δθₜ = vₜ      α = learning_rate

    Take the gradient at `lookahead_params(params, state, beta)` and pass it to update;
    or hand update the function, `update(None, state, params, grad_fn=jax.grad(loss))`,
    and the gradient is taken there. The arithmetic after it is that of `keras`.

    Units: v and Δθ are parameters: the update is ready for `optax.apply_updates` as it
    is. A constant g and α settle at Δθ = −α·g/(1 − β).

    Args:
      learning_rate: α ≥ 0, in parameters per gradient: a number, a traced scalar, or a
        schedule of the step (0 at the first update).
      beta: β in [0, 1), the share of v that a step keeps: likewise.
      storage: how v is kept between steps; see `optax_momentum.storage`.

    Returns:
      A transformation with a `MomentumState` whose buffer is the velocity v. Its update
      takes one extra argument, grad_fn, a function of the parameters that returns their
      gradients. It emits Δθₜ, negated and scaled: no learning rate follows it.

    Raises:
      ValueError: learning_rate negative, infinite or NaN, beta outside [0, 1) or NaN,
        either not a scalar; at update, grad_fn without params or beside gradients.
      TypeError: an argument that is not a real number, or storage no `Storage`.

    Differs from `nesterov`, whose parameters are the look-ahead points of this one: the
    same method, evaluated and saved at other points.

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
    inner = keras(learning_rate, beta, storage=storage)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        grad_fn: Callable[[optax.Params], optax.Updates] | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        del extra_args  # of the other transformations in a chain
        if grad_fn is not None:
            if params is None:
                raise ValueError("update: grad_fn needs params, got None. Pass both.")
            if jax.tree.leaves(updates):
                raise ValueError(
                    "update: got gradients and grad_fn, which would replace them. "
                    "Pass None for the gradients, or leave grad_fn out."
                )
            updates = grad_fn(lookahead_params(params, state, beta))
        return inner.update(updates, state)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def lookahead_params(
    params: optax.Params, state: optax.OptState, beta: optax.ScalarOrSchedule
) -> optax.Params:
    """Where `two_point_nesterov` takes its next gradient: θ + β·v.

    Args:
      params: θ, before the step.
      state: of `two_point_nesterov`, or of a chain or wrapper that holds it.
      beta: the same β as there; a schedule is read at the state's step.

    Returns:
      A tree like params, in their dtypes. A leaf that the state masks stays as it is.

    Raises:
      ValueError: beta outside [0, 1), not one `MomentumState` in the state, or a leaf
        of another shape than its velocity.
      TypeError: beta is not a real number.
    """
    beta_at = checked(partial(check_beta, "lookahead_params"), beta)
    states = momenta(state)
    if len(states) != 1:
        raise ValueError(
            f"lookahead_params: state must hold one MomentumState, got {len(states)}. "
            "Pass the state of `two_point_nesterov`, or of a chain around it."
        )
    now = beta_at(states[0].step)

    def ahead(path: Any, v: Any, theta: Any) -> Any:
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
        moved = theta.astype(dtype) + jnp.asarray(now, dtype) * v.astype(dtype)
        return moved.astype(theta.dtype)

    buffer = states[0].buffer
    return jax.tree.map_with_path(ahead, buffer, params, is_leaf=is_absent)
