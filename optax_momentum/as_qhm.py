"""Convert other methods to quasi-hyperbolic momentum: find their settings of `qhm`.

Each function takes the hyperparameters of another method and returns a learning rate, β
and ν. `qhm(beta, nu)` followed by that learning rate then visits the same points as the
other method: those at which it takes gradients. All arguments are numbers or traced
scalars.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_beta, check_learning_rate, check_scalar
from optax_momentum._base.scalars import is_concrete, promote_scalar


class Qhm(NamedTuple):
    """Settings of `qhm` and its learning rate, as numbers or traced scalars."""

    learning_rate: float | jax.Array  # α, in parameters per gradient
    beta: float | jax.Array  # β in [0, 1)
    nu: float | jax.Array  # ν in [0, 1]


def nesterov(learning_rate: ArrayLike, beta: ArrayLike) -> Qhm:
    """Nesterov's momentum, as in `heavy_ball(beta, nesterov=True)`.

    Args:
      learning_rate: α ≥ 0, the learning rate that follows `heavy_ball`.
      beta: β in [0, 1).

    Returns:
      `Qhm(α/(1 − β), β, β)`.

    Raises:
      ValueError: learning_rate or beta is out of range.

    >>> nesterov(learning_rate=0.25, beta=0.5)
    Qhm(learning_rate=0.5, beta=0.5, nu=0.5)

    References:
      Ma and Yarats 2019, arXiv:1810.06801, section 4.
    """
    check_learning_rate("nesterov", learning_rate)
    check_beta("nesterov", beta)
    learning_rate, beta = promote_scalar(learning_rate), promote_scalar(beta)
    return Qhm(learning_rate / (1 - beta), beta, beta)


def pid(proportional: ArrayLike, integral: ArrayLike, derivative: ArrayLike) -> Qhm:
    """A PID controller that acts on the gradient, with a smoothed derivative term.

        eₜ = −gₜ,   vₜ = β·vₜ₋₁ + (1 − β)·(eₜ − eₜ₋₁),   wₜ = wₜ₋₁ + eₜ
        θₜ = θ₀ + k_p·eₜ + k_i·wₜ + k_d·vₜ          with β = k_d/(k_d − k_p)

    Args:
      proportional: k_p < 0, in parameters per gradient, as the other two.
      integral: k_i > 0, which becomes the learning rate.
      derivative: k_d ≥ k_p²/k_i.

    Returns:
      `Qhm(k_i, k_d/(k_d − k_p), k_p²/(k_i·k_d))`.

    Raises:
      ValueError: an argument is out of range, so that β or ν would be.

    >>> pid(proportional=-0.5, integral=1.0, derivative=0.5)
    Qhm(learning_rate=1.0, beta=0.5, nu=0.5)

    References:
      Ma and Yarats 2019, arXiv:1810.06801, section 4, on Recht 2018's controller.
    """
    _check("pid: proportional", proportional, "(-inf, 0)", lambda k: -math.inf < k < 0)
    _check("pid: integral", integral, "(0, inf)", lambda k: 0 < k < math.inf)
    k_p, k_i, k_d = map(promote_scalar, (proportional, integral, derivative))
    least, bound = k_p * k_p / k_i, "[proportional²/integral, inf)"
    _check("pid: derivative", derivative, bound, lambda k: least <= k < math.inf, least)
    return Qhm(k_i, k_d / (k_d - k_p), k_p * k_p / (k_i * k_d))


def synthesized_nesterov(
    learning_rate: ArrayLike, beta: ArrayLike, extrapolation: ArrayLike
) -> Qhm:
    """Nesterov's method with two independent momenta.

        yₜ = ξₜ + β₂·(ξₜ − ξₜ₋₁),   ξₜ₊₁ = ξₜ + β₁·(ξₜ − ξₜ₋₁) − α·g(yₜ)

    Args:
      learning_rate: α ≥ 0.
      beta: β₁ in (0, 1), the momentum of the iterates ξ.
      extrapolation: β₂ in [0, β₁/(1 − β₁)], the momentum of the points y at which
        gradients are taken. These points are the parameters of `qhm`.

    Returns:
      `Qhm(α/(1 − β₁), β₁, 1 − β₂·(1 − β₁)/β₁)`.

    Raises:
      ValueError: an argument is out of range, so that β or ν would be.

    >>> synthesized_nesterov(learning_rate=0.25, beta=0.5, extrapolation=0.25)
    Qhm(learning_rate=0.5, beta=0.5, nu=0.75)

    References:
      Lessard, Recht and Packard 2016, arXiv:1408.3595, the two momenta.
      Ma and Yarats 2019, arXiv:1810.06801, section 4.
    """
    call = "synthesized_nesterov"
    check_learning_rate(call, learning_rate)
    _check(f"{call}: beta", beta, "(0, 1)", lambda b: 0 < b < 1)
    alpha, beta_1, beta_2 = map(promote_scalar, (learning_rate, beta, extrapolation))
    most, bound = beta_1 / (1 - beta_1), "[0, beta/(1 − beta)]"
    _check(
        f"{call}: extrapolation", extrapolation, bound, lambda b: 0 <= b <= most, most
    )
    return Qhm(alpha / (1 - beta_1), beta_1, 1 - beta_2 * (1 - beta_1) / beta_1)


def triple_momentum(largest_curvature: ArrayLike, condition_number: ArrayLike) -> Qhm:
    """Triple momentum, with the best known rate on smooth, strongly convex losses.

    It is `synthesized_nesterov` with

        α = (1 + ρ)/L,   β₁ = ρ²/(2 − ρ),   β₂ = ρ²/((1 + ρ)·(2 − ρ)),   ρ = 1 − 1/√κ

    and `robust_momentum` at its fastest ρ. The third momentum of the paper only changes
    the final output, ξ + ρ²/(1 − ρ²)·(ξ − ξ_last), and is omitted here.

    Args:
      largest_curvature: L > 0, the largest curvature of the loss, in gradients per
        parameter.
      condition_number: κ > 1, L divided by the smallest curvature.

    Returns:
      The `Qhm` of `synthesized_nesterov` at these α, β₁ and β₂.

    Raises:
      ValueError: an argument is out of range.

    >>> triple_momentum(largest_curvature=0.5, condition_number=4).nu
    0.4444444444444444

    References:
      Van Scoy, Freeman and Lynch 2018, doi:10.1109/LCSYS.2017.2722406.
    """
    call = "triple_momentum"
    _check_loss(call, largest_curvature, condition_number)
    rho = 1 - promote_scalar(condition_number) ** -0.5
    return _from_rate(largest_curvature, condition_number, rho)


def robust_momentum(
    largest_curvature: ArrayLike, condition_number: ArrayLike, rho: float | jax.Array
) -> Qhm:
    """The robust momentum method, which trades speed for robustness to gradient noise.

    It is `synthesized_nesterov` with

        α = κ(1 − ρ)²(1 + ρ)/L,   β₁ = κρ³/(κ − 1),   β₂ = ρ³/((κ − 1)(1 − ρ)²(1 + ρ))

    Args:
      largest_curvature: L > 0, the largest curvature of the loss, in gradients per
        parameter.
      condition_number: κ > 1, L divided by the smallest curvature.
      rho: ρ in (1 − 1/√κ, 1 − 1/κ), the factor by which the error shrinks at each step.
        The lower end is `triple_momentum`, the fastest; the upper end is gradient
        descent at α = 1/L, the most robust.

    Returns:
      The `Qhm` of `synthesized_nesterov` at these α, β₁ and β₂.

    Raises:
      ValueError: an argument is out of range.

    >>> robust_momentum(largest_curvature=0.5, condition_number=4, rho=0.625).beta
    0.3255208333333333

    References:
      Cyrus, Hu, Van Scoy and Lessard 2018, arXiv:1710.04753.
    """
    call = "robust_momentum"
    _check_loss(call, largest_curvature, condition_number)
    kappa = promote_scalar(condition_number)
    low, high = 1 - kappa**-0.5, 1 - 1 / kappa
    bound = "(1 − condition_number^−½, 1 − 1/condition_number)"
    _check(f"{call}: rho", rho, bound, lambda known: low < known < high, low)
    return _from_rate(largest_curvature, condition_number, promote_scalar(rho))


def accsgd(
    learning_rate: ArrayLike,
    kappa: ArrayLike = 1000.0,
    xi: ArrayLike = 10.0,
    epsilon: ArrayLike = 0.7,
) -> Qhm:
    """Accelerated SGD (AccSGD): a mix of a short step and an average of long ones.

        ȳₜ = a·ȳₜ₋₁ + (1 − a)·(θₜ₋₁ − (κδ/ε)·gₜ),          a = 1 − ε²ξ/κ
        θₜ = c·(θₜ₋₁ − δ·gₜ) + (1 − c)·ȳₜ,   ȳ₀ = θ₀,      c = ε/(ε + 1 − a)

    Args:
      learning_rate: δ ≥ 0, the learning rate of the short step.
      kappa: κ ≥ ε²ξ, the ratio of the long step to the short one.
      xi: ξ ≥ 1/ε, the statistical advantage parameter.
      epsilon: ε in (0, 1].

    Returns:
      `Qhm(δε(1 + ξ)/(1 + ε), (κ − ε²ξ)/(κ + εξ), (εξ − 1)/(ε(1 + ξ)))`.

    Raises:
      ValueError: an argument is out of range, so that β or ν would be.

    >>> accsgd(learning_rate=0.5, kappa=8, xi=3, epsilon=1)
    Qhm(learning_rate=1.0, beta=0.45454545454545453, nu=0.5)

    References:
      Jain et al. 2018, arXiv:1704.08227.
      Kidambi et al. 2018, arXiv:1803.05591, algorithm 3, where ε is 0.7.
      rahulkidambi/AccSGD `AccSGD.py`, the defaults.
    """
    check_learning_rate("accsgd", learning_rate)
    _check("accsgd: epsilon", epsilon, "(0, 1]", lambda e: 0 < e <= 1)
    delta, e = promote_scalar(learning_rate), promote_scalar(epsilon)
    bound, least = "[1/epsilon, inf)", 1 / e
    _check("accsgd: xi", xi, bound, lambda x: least <= x < math.inf, least)
    bound, shortest = "[epsilon²·xi, inf)", e * e * promote_scalar(xi)
    _check("accsgd: kappa", kappa, bound, lambda k: shortest <= k < math.inf, shortest)
    k, x = promote_scalar(kappa), promote_scalar(xi)
    nu = (e * x - 1) / (e * (1 + x))
    return Qhm(delta * e * (1 + x) / (1 + e), (k - e * e * x) / (k + e * x), nu)


def _from_rate(
    largest_curvature: ArrayLike, condition_number: ArrayLike, rho: float | jax.Array
) -> Qhm:
    """Returns the `Qhm` of `robust_momentum`, without checking its arguments."""
    kappa = promote_scalar(condition_number)
    step = kappa * ((1 - rho) ** 2 * (1 + rho))  # α·L
    beta = kappa * rho**3 / (kappa - 1)
    # ν = 1 − β₂(1 − β₁)/β₁, after canceling the factors that β₂ and β₁ share.
    nu = 1 - (1 - beta) / step
    return Qhm(step / promote_scalar(largest_curvature) / (1 - beta), beta, nu)


def _check_loss(call: str, curvature: object, condition_number: object) -> None:
    name = f"{call}: largest_curvature"
    _check(name, curvature, "(0, inf)", lambda known: 0 < known < math.inf)
    name = f"{call}: condition_number"
    _check(name, condition_number, "(1, inf)", lambda known: 1 < known < math.inf)


def _check(
    name: str,
    value: object,
    bound: str,
    holds: Callable[[float], ArrayLike],
    limit: object = None,
) -> None:
    """Raises unless `holds(value)`; trusts it if the limit it compares with is traced.

    Args:
      name: what the value is, as "call: argument".
      value: the value to check.
      bound: the interval that it must lie in.
      holds: the condition.
      limit: the end of the interval, if that depends on other arguments.
    """
    remedy = "Outside, `qhm` can't reproduce it: beta or nu would be out of range."
    trusted = not is_concrete(limit)
    check_scalar(name, value, lambda x: trusted or holds(x), f"lie in {bound}", remedy)
