"""Aggregated momentum: the mean of several heavy balls, each with its own beta."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_beta, check_scalar, is_absent
from optax_momentum._base.scalars import checked, common_dtype
from optax_momentum._methods.momentum import Coefficients, linear_momentum
from optax_momentum.storage import Storage


def aggmo(
    betas: Sequence[optax.ScalarOrSchedule] | ArrayLike = (0.0, 0.9, 0.99),
    *,
    storage: Storage | None = None,
) -> optax.GradientTransformation:
    """Aggregated momentum, AggMo: K heavy balls that share every gradient.

        bᵢ,₀ = 0,   bᵢ,ₜ = βᵢ·bᵢ,ₜ₋₁ + gₜ,   uₜ = (b₁,ₜ + … + b_K,ₜ)/K

    The large β speed up where the small ones stop the oscillation, so that a β as near
    to 1 as 0.999 does no harm.

    Units: b and u are gradients (loss per unit of parameter); the learning rate stays
    outside. A constant g settles at u = g·(1/(1 − β₁) + … + 1/(1 − β_K))/K: 37·g at the
    defaults. A schedule of β changes that settled step.

    Args:
      betas: β₁ … β_K in [0, 1): a sequence of numbers, traced scalars and schedules of
        the step (0 at the first update), or an array of shape [K]. Equal ones have
        buffers of their own. The Python number 0 needs none: that b is g. A 0 in an
        array has one, for at run time it may become another number.
      storage: how each b is kept between steps; see `optax_momentum.storage`.

    Returns:
      A transformation whose state is a tuple of `MomentumState`, one for each b that is
      kept, in order. It emits uₜ, *not* negated: chain it with
      `optax.scale_by_learning_rate`.

    Raises:
      ValueError: no betas, or one that is outside [0, 1), NaN, or not a scalar.
      TypeError: betas is not a sequence, one of them is not a real number, or storage
        no `Storage`; at update, a state of another type or for another number of betas.

    Differs from `heavy_ball`, which is K = 1. Differs from the authors' `AggMo`, whose
    buffers are filed under their β: there equal betas share one, updated twice a step.

    >>> import jax.numpy as jnp
    >>> tx = optax.chain(aggmo([0.0, 0.5]), optax.scale_by_learning_rate(1.0))
    >>> _, state = tx.update(jnp.ones(2), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.ones(2), state)[0]  # −(1 + 1.5)/2
    Array([-1.25, -1.25], dtype=float32)

    References:
      Lucas, Sun, Zemel and Grosse 2019, arXiv:1804.00325, section 3.
      AtheMathmo/AggMo `src/aggmo.py`.
    """
    each = _sequence(betas)
    kernels = [_kernel(i, b, storage) for i, b in enumerate(each) if not _never_kept(b)]

    def init(params: optax.Params) -> optax.OptState:
        return tuple(kernel.init(params) for kernel in kernels)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, optax.OptState]:
        del params  # a linear method never looks at the parameters
        if type(state) is not tuple or len(state) != len(kernels):
            raise TypeError(
                f"update: the state must be a tuple of {len(kernels)} MomentumStates, "
                f"one for each kept beta, got {state!r:.60}. Pass what init or the "
                "last update returned, of the same betas."
            )
        wide = jax.tree.map(_widened, updates)  # sums must not round to bfloat16
        stepped = [k.update(wide, s) for k, s in zip(kernels, state, strict=True)]
        terms = [wide] * (len(each) - len(kernels)) + [
            emitted for emitted, _ in stepped
        ]

        def mean(g: Any, *read: Any) -> Any:
            if is_absent(g):
                return g
            return jnp.asarray(sum(read[1:], read[0]) / len(each), jnp.result_type(g))

        return jax.tree.map(mean, updates, *terms), tuple(state for _, state in stepped)

    return optax.GradientTransformation(init, update)


def aggmo_betas(count: int = 3, base: float = 0.1) -> tuple[float, ...]:
    """The betas 1 − baseⁱ, for i = 0 … count − 1: 0, 0.9, 0.99 by default.

    Args:
      count: K ≥ 1, how many.
      base: in (0, 1), what 1 − β shrinks by from one to the next.

    Returns:
      A tuple of `count` numbers for `aggmo`; the first is 0.

    Raises:
      ValueError: count is not a whole number of at least 1, base outside (0, 1).
      TypeError: an argument that is not a real number.

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
        "It is the number of betas; the paper takes 2, 3 or 4.",
    )
    check_scalar(
        "aggmo_betas: base",
        base,
        lambda known: 0 < known < 1,
        "lie in (0, 1)",
        "1 − beta shrinks by it from one beta to the next; the paper takes 0.1.",
    )
    return tuple(1 - base**i for i in range(int(count)))


def _sequence(betas: Any) -> list[Any]:
    """The betas; raises where there is none."""
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
) -> optax.GradientTransformation:
    beta_at = checked(partial(check_beta, f"aggmo: betas[{i}]"), beta)
    return linear_momentum(
        lambda step: Coefficients(beta_at(step), 1.0), storage=storage
    )


def _never_kept(beta: Any) -> bool:
    """True for the number 0, whose b is the gradient; it stays 0, as no array does."""
    return type(beta) in (int, float) and beta == 0


def _widened(gradient: Any) -> Any:
    """The gradient in float32 or wider; what is none is for the kernels to refuse."""
    if not hasattr(gradient, "dtype") or not jnp.issubdtype(
        gradient.dtype, jnp.inexact
    ):
        return gradient
    return gradient.astype(common_dtype(gradient.dtype, jnp.float32))
