"""Aggregated momentum: the mean of several heavy-ball buffers of different betas."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from optax_momentum._base.boxes import on_plain_trees
from optax_momentum._base.checks import Absent, check_beta, check_scalar, is_absent
from optax_momentum._base.scalars import checked_schedule, common_dtype
from optax_momentum._methods.momentum import Coefficients, linear_momentum
from optax_momentum.storage import Storage


def aggmo(
    betas: Sequence[optax.ScalarOrSchedule] | ArrayLike = (0.0, 0.9, 0.99),
    *,
    storage: Storage | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Aggregated momentum (AggMo): the mean of K heavy-ball buffers.

        bᵢ,₀ = 0,   bᵢ,ₜ = βᵢ·bᵢ,ₜ₋₁ + gₜ,   uₜ = (b₁,ₜ + … + b_K,ₜ)/K

    The buffers of large β accelerate, those of small β damp oscillations, so that a β
    as close to 1 as 0.999 does no harm.

    Units: b and u are gradients (loss per unit of parameter). Apply the learning rate
    afterwards. A constant g settles at u = g·(1/(1 − β₁) + … + 1/(1 − β_K))/K, which is
    37·g at the defaults. Scheduling a β changes that settled update.

    Args:
      betas: β₁ … β_K in [0, 1): a sequence of numbers, traced scalars and schedules of
        the step (0 at the first update), or an array of shape [K]. Equal betas get
        separate buffers. The Python number 0 gets none, because its b is g itself. A 0
        in an array does get one, because its value may change at run time.
      storage: how to store each b between steps; see `optax_momentum.storage`.

    Returns:
      A transformation whose state is a tuple of `MomentumState`, one for each buffer,
      in the order of the betas. Its update is uₜ, *not* negated: chain it with
      `optax.scale_by_learning_rate`.

    Raises:
      ValueError: betas is empty, or a beta is outside [0, 1), NaN, or not a scalar.
      TypeError: betas is not a sequence, a beta is not a real number, or storage is
        not a `Storage`; at update, if the state has another type or another number of
        buffers.

    Differs from `heavy_ball`, which is the case K = 1. Differs from the authors'
    `AggMo`, which keys the buffers by their β: there, equal betas share one buffer and
    update it twice a step.

    >>> import jax.numpy as jnp
    >>> tx = optax.chain(aggmo([0.0, 0.5]), optax.scale_by_learning_rate(1.0))
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.ones(2), state)[0]  # −(1 + 1.5)/2
    Array([-1.25, -1.25], dtype=float32)

    References:
      Lucas, Sun, Zemel and Grosse 2019, arXiv:1804.00325, section 3.
      AtheMathmo/AggMo `src/aggmo.py`.
    """
    betas = _as_list(betas)
    kernels = [
        _kernel(i, beta, storage)
        for i, beta in enumerate(betas)
        if not _is_constant_zero(beta)
    ]

    def init(params: optax.Params) -> optax.OptState:
        return tuple(kernel.init(params) for kernel in kernels)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, optax.OptState]:
        del params  # A linear method doesn't depend on the parameters.
        if type(state) is not tuple or len(state) != len(kernels):
            raise TypeError(
                f"update: the state must be a tuple of {len(kernels)} MomentumStates, "
                f"one for each beta with a buffer, got {state!r:.60}. Pass the state "
                "returned by init or by the previous update, for the same betas."
            )
        # The terms of the mean must not be rounded to bfloat16 one by one.
        gradients = jax.tree.map(_promote_gradient, updates)
        stepped = [k.update(gradients, s) for k, s in zip(kernels, state, strict=True)]
        terms = [gradients] * (len(betas) - len(kernels)) + [
            emitted for emitted, _ in stepped
        ]

        def mean(g: jax.Array, *terms: jax.Array) -> jax.Array | Absent:
            if is_absent(g):
                return g
            total = sum(terms[1:], terms[0])
            return jnp.asarray(total / len(betas), jnp.result_type(g))

        return jax.tree.map(mean, updates, *terms), tuple(state for _, state in stepped)

    return on_plain_trees(optax.GradientTransformation(init, update))


def aggmo_betas(count: int = 3, base: float = 0.1) -> tuple[float, ...]:
    """Returns the betas 1 − baseⁱ for i = 0 … count − 1: 0, 0.9, 0.99 by default.

    Args:
      count: K ≥ 1, the number of betas.
      base: in (0, 1), the factor from each 1 − β to the next.

    Returns:
      A tuple of `count` numbers for `aggmo`; the first is 0.

    Raises:
      ValueError: count is not a whole number of at least 1, or base is outside (0, 1).
      TypeError: an argument is not a real number.

    >>> aggmo_betas(count=3, base=0.5)
    (0.0, 0.5, 0.75)

    References:
      Lucas, Sun, Zemel and Grosse 2019, arXiv:1804.00325, section 3.1.
    """
    check_scalar(
        "aggmo_betas: count",
        count,
        lambda known: known >= 1 and known % 1 == 0,
        "be a whole number of at least 1",
        "It is the number of betas; the paper uses 2, 3 or 4.",
    )
    check_scalar(
        "aggmo_betas: base",
        base,
        lambda known: 0 < known < 1,
        "lie in (0, 1)",
        "It is the factor from each 1 − beta to the next; the paper uses 0.1.",
    )
    return tuple(1 - base**i for i in range(int(count)))


def _as_list(betas: object) -> list[optax.ScalarOrSchedule]:
    """Returns the betas as a list; raises if they are no sequence, or an empty one."""
    is_sequence = isinstance(betas, Sequence | np.ndarray | jax.Array)
    if not is_sequence or getattr(betas, "ndim", 1) == 0:
        raise TypeError(
            f"aggmo: betas must be a sequence, got {betas!r} of type "
            f"{type(betas).__name__}. For one beta, use `heavy_ball`."
        )
    if len(betas) == 0:
        raise ValueError(
            f"aggmo: betas must hold at least one beta, got {betas!r}. (0.0,) is SGD."
        )
    return list(betas)


def _kernel(
    i: int, beta: optax.ScalarOrSchedule, storage: Storage | None
) -> optax.GradientTransformationExtraArgs:
    beta_at = checked_schedule(partial(check_beta, f"aggmo: betas[{i}]"), beta)
    return linear_momentum(
        lambda step: Coefficients(beta_at(step), 1.0), storage=storage
    )


def _is_constant_zero(beta: object) -> bool:
    """True for the Python number 0, whose b is always the gradient itself."""
    return type(beta) in (int, float) and beta == 0


def _promote_gradient(gradient: jax.Array) -> jax.Array:
    """Casts a gradient to float32 or wider; the kernels raise for anything else."""
    if not hasattr(gradient, "dtype") or not jnp.issubdtype(
        gradient.dtype, jnp.inexact
    ):
        return gradient
    return gradient.astype(common_dtype(gradient.dtype, jnp.float32))
