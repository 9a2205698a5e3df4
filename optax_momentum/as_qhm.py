"""The `qhm` that another method is: its (learning_rate, beta, nu).

Each function takes a method's own parameters. SGD at the learning rate it returns,
behind `qhm` at the β and ν it returns, makes the iterates of that method, at the points
where it asks for gradients. Every argument is a number or a traced scalar.
"""

import math
from typing import Any, NamedTuple

from jax.typing import ArrayLike

from optax_momentum._base.checks import check_beta, check_learning_rate, check_scalar
from optax_momentum._base.scalars import is_concrete, widen


class Qhm(NamedTuple):
    """`qhm`, then the rate: as facebookresearch/qhoptim's."""

    learning_rate: Any  # parameters per gradient; each a number or a traced scalar
    beta: Any
    nu: Any


def nesterov(learning_rate: ArrayLike, beta: ArrayLike) -> Qhm:
    """Nesterov's momentum as in `heavy_ball(beta, nesterov=True)`: ν = β.

    Args:
      learning_rate: α ≥ 0, the rate behind `heavy_ball`.
      beta: β in [0, 1).

    Returns:
      (α/(1 − β), β, β).

    Raises:
      ValueError: learning_rate or beta out of range.

    >>> nesterov(learning_rate=0.25, beta=0.5)
    Qhm(learning_rate=0.5, beta=0.5, nu=0.5)

    References:
      Ma and Yarats 2019, arXiv:1810.06801, section 4.
    """
    check_learning_rate("nesterov", learning_rate)
    check_beta("nesterov", beta)
    learning_rate, beta = widen(learning_rate), widen(beta)
    return Qhm(learning_rate / (1 - beta), beta, beta)


def pid(proportional: ArrayLike, integral: ArrayLike, derivative: ArrayLike) -> Qhm:
    """A PID controller of the gradient whose derivative is smoothed.

        eₜ = −gₜ,   vₜ = β·vₜ₋₁ + (1 − β)·(eₜ − eₜ₋₁),   wₜ = wₜ₋₁ + eₜ
        θₜ = θ₀ + k_p·eₜ + k_i·wₜ + k_d·vₜ          with β = k_d/(k_d − k_p)

    Args:
      proportional: k_p < 0, in parameters per gradient, as the other two.
      integral: k_i > 0, the learning rate.
      derivative: k_d ≥ k_p²/k_i.

    Returns:
      (k_i, k_d/(k_d − k_p), k_p²/(k_i·k_d)).

    Raises:
      ValueError: a gain out of range: ν or β would be.

    >>> pid(proportional=-0.5, integral=1.0, derivative=0.5)
    Qhm(learning_rate=1.0, beta=0.5, nu=0.5)

    References:
      Ma and Yarats 2019, arXiv:1810.06801, section 4, on Recht 2018's controller.
    """
    _check("pid: proportional", proportional, "(-inf, 0)", lambda k: -math.inf < k < 0)
    _check("pid: integral", integral, "(0, inf)", lambda k: 0 < k < math.inf)
    k_p, k_i, k_d = widen(proportional), widen(integral), widen(derivative)
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
      beta: β₁ in (0, 1), of the iterates ξ.
      extrapolation: β₂ in [0, β₁/(1 − β₁)], of the points y of the gradients, which are
        the parameters of `qhm`.

    Returns:
      (α/(1 − β₁), β₁, 1 − β₂·(1 − β₁)/β₁).

    Raises:
      ValueError: an argument out of range: ν or β would be.

    >>> synthesized_nesterov(learning_rate=0.25, beta=0.5, extrapolation=0.25)
    Qhm(learning_rate=0.5, beta=0.5, nu=0.75)

    References:
      Lessard, Recht and Packard 2016, arXiv:1408.3595, the two momenta.
      Ma and Yarats 2019, arXiv:1810.06801, section 4.
    """
    call = "synthesized_nesterov"
    check_learning_rate(call, learning_rate)
    _check(f"{call}: beta", beta, "(0, 1)", lambda b: 0 < b < 1)
    alpha, beta_1, beta_2 = widen(learning_rate), widen(beta), widen(extrapolation)
    most, bound = beta_1 / (1 - beta_1), "[0, beta/(1 − beta)]"
    _check(
        f"{call}: extrapolation", extrapolation, bound, lambda b: 0 <= b <= most, most
    )
    return Qhm(alpha / (1 - beta_1), beta_1, 1 - beta_2 * (1 - beta_1) / beta_1)


def triple_momentum(largest_curvature: ArrayLike, condition_number: ArrayLike) -> Qhm:
    """Triple momentum: the best known bound on smooth, strongly convex losses.

    It is `robust_momentum` at its fast end, ρ = 1 − 1/√κ:

        α = (1 + ρ)/L,   β₁ = ρ²/(2 − ρ),   β₂ = ρ²/((1 + ρ)·(2 − ρ))

    in `synthesized_nesterov`. Its third momentum only reads out the last iterate,
    ξ + ρ²/(1 − ρ²)·(ξ − ξ_last), and is left out here.

    Args:
      largest_curvature: L > 0, of the loss, in gradients per parameter.
      condition_number: κ > 1, L over the smallest curvature.

    Returns:
      The tuning at these α, β₁, β₂.

    Raises:
      ValueError: an argument out of range.

    >>> triple_momentum(largest_curvature=0.5, condition_number=4).nu
    0.4444444444444444

    References:
      Van Scoy, Freeman and Lynch 2018, doi:10.1109/LCSYS.2017.2722406.
    """
    call = "triple_momentum"
    _check_loss(call, largest_curvature, condition_number)
    rho = 1 - widen(condition_number) ** -0.5
    return _from_rate(largest_curvature, condition_number, rho)


def robust_momentum(
    largest_curvature: ArrayLike, condition_number: ArrayLike, rho: ArrayLike
) -> Qhm:
    """The robust momentum method: speed traded for tolerance of gradient noise.

        α = κ(1 − ρ)²(1 + ρ)/L,   β₁ = κρ³/(κ − 1),   β₂ = ρ³/((κ − 1)(1 − ρ)²(1 + ρ))

    in `synthesized_nesterov`.

    Args:
      largest_curvature: L > 0, of the loss, in gradients per parameter.
      condition_number: κ > 1, L over the smallest curvature.
      rho: ρ in (1 − 1/√κ, 1 − 1/κ), by what the error shrinks each step. Its ends are
        `triple_momentum`, the fastest, and gradient descent at α = 1/L, the safest.

    Returns:
      The tuning at these α, β₁, β₂.

    Raises:
      ValueError: an argument out of range.

    >>> robust_momentum(largest_curvature=0.5, condition_number=4, rho=0.625).beta
    0.3255208333333333

    References:
      Cyrus, Hu, Van Scoy and Lessard 2018, arXiv:1710.04753.
    """
    call = "robust_momentum"
    _check_loss(call, largest_curvature, condition_number)
    low, high = 1 - widen(condition_number) ** -0.5, 1 - 1 / widen(condition_number)
    bound = "(1 − condition_number^−½, 1 − 1/condition_number)"
    _check(f"{call}: rho", rho, bound, lambda known: low < known < high, low)
    return _from_rate(largest_curvature, condition_number, widen(rho))


def accsgd(
    learning_rate: ArrayLike,
    kappa: ArrayLike = 1000.0,
    xi: ArrayLike = 10.0,
    epsilon: ArrayLike = 0.7,
) -> Qhm:
    """Accelerated SGD, a short step and the average of long ones, mixed.

        ȳₜ = a·ȳₜ₋₁ + (1 − a)·(θₜ₋₁ − (κδ/ε)·gₜ),          a = 1 − ε²ξ/κ
        θₜ = c·(θₜ₋₁ − δ·gₜ) + (1 − c)·ȳₜ,   ȳ₀ = θ₀,      c = ε/(ε + 1 − a)

    Args:
      learning_rate: δ ≥ 0, of the short step.
      kappa: κ ≥ ε²ξ, the ratio of the long step to the short one.
      xi: ξ ≥ 1/ε, the statistical advantage.
      epsilon: ε in (0, 1].

    Returns:
      (δε(1 + ξ)/(1 + ε), (κ − ε²ξ)/(κ + εξ), (εξ − 1)/(ε(1 + ξ))).

    Raises:
      ValueError: an argument out of range: ν or β would be.

    >>> accsgd(learning_rate=0.5, kappa=8, xi=3, epsilon=1)
    Qhm(learning_rate=1.0, beta=0.45454545454545453, nu=0.5)

    References:
      Jain et al. 2018, arXiv:1704.08227.
      Kidambi et al. 2018, arXiv:1803.05591, algorithm 3: there ε is 0.7.
      rahulkidambi/AccSGD `AccSGD.py`, the defaults.
    """
    check_learning_rate("accsgd", learning_rate)
    _check("accsgd: epsilon", epsilon, "(0, 1]", lambda e: 0 < e <= 1)
    delta, e = widen(learning_rate), widen(epsilon)
    bound, least = "[1/epsilon, inf)", 1 / e
    _check("accsgd: xi", xi, bound, lambda x: least <= x < math.inf, least)
    bound, long = "[epsilon²·xi, inf)", e * e * widen(xi)
    _check("accsgd: kappa", kappa, bound, lambda k: long <= k < math.inf, long)
    k, x = widen(kappa), widen(xi)
    nu = (e * x - 1) / (e * (1 + x))
    return Qhm(delta * e * (1 + x) / (1 + e), (k - e * e * x) / (k + e * x), nu)


def _from_rate(largest_curvature: Any, condition_number: Any, rho: Any) -> Qhm:
    """`robust_momentum` at any ρ."""
    kappa, still = widen(condition_number), (1 - rho) ** 2 * (1 + rho)
    beta = kappa * rho**3 / (kappa - 1)
    # 1 − β₂(1 − β₁)/β₁, with what both have in common cancelled.
    nu = 1 - (1 - beta) / (kappa * still)
    return Qhm(kappa * still / widen(largest_curvature) / (1 - beta), beta, nu)


def _check_loss(call: str, curvature: Any, condition_number: Any) -> None:
    name = f"{call}: largest_curvature"
    _check(name, curvature, "(0, inf)", lambda known: 0 < known < math.inf)
    name = f"{call}: condition_number"
    _check(name, condition_number, "(1, inf)", lambda known: 1 < known < math.inf)


def _check(name: str, value: Any, bound: str, holds: Any, limit: Any = None) -> None:
    """Raises unless `holds(value)`; trusted where the limit it compares is traced."""
    remedy = "Outside, `qhm` is not this method: its ν or β would leave their ranges."
    trusted = not is_concrete(limit)
    check_scalar(name, value, lambda x: trusted or holds(x), f"lie in {bound}", remedy)
