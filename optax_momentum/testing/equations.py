"""The equations of linear momentum, for any optimizer that takes one step at a time.

Each function raises AssertionError if the optimizer breaks the equation, and
`DoesNotApply` if its claim implies no such equation. None depends on JAX, so optimizers
of PyTorch and Keras can be checked too.
"""

from collections.abc import Callable

import numpy as np

from optax_momentum.testing import _claims as claims
from optax_momentum.testing._claims import Claim
from optax_momentum.testing._optimizer import Optimizer
from optax_momentum.testing._verdicts import (
    DoesNotApply,
    Result,
    expect,
    expect_close,
    judge,
)

STEPS = 40
RATE = 0.37


def check_equations(optimizer: Optimizer, claim: Claim) -> tuple[Result, ...]:
    """Checks an optimizer against all equations that its claim implies.

    Args:
      optimizer: the optimizer; `stepping` adapts one of Optax.
      claim: what the optimizer says it computes.

    Returns:
      One `Result` per equation.

    >>> import optax
    >>> from optax_momentum import Coefficients
    >>> from optax_momentum.testing import stepping
    >>> heavy_ball = stepping(lambda rate: optax.sgd(rate, momentum=0.9))
    >>> results = check_equations(heavy_ball, Claim((Coefficients(0.9, 1.0),)))
    >>> all(result.passed for result in results)
    True
    """
    return judge(EQUATIONS, optimizer, claim)


def an_impulse_fades_by_beta_a_step(optimizer: Optimizer, claim: Claim) -> None:
    """One gradient contributes a·b + c, then a·b·βᵏ, at whatever step it occurs."""
    for when in (0, 3):
        gradients = np.zeros((STEPS, 1))
        gradients[when] = 1.7
        _follow(f"impulse at step {when + 1}", optimizer, claim, gradients)


def a_constant_gradient_settles_at_the_gain(optimizer: Optimizer, claim: Claim) -> None:
    """u converges to g·(Σ a·b/(1 − β) + c)."""
    _needs_no_decay(claim)
    slowest = max(float(np.asarray(kernel.beta)) for kernel in claim.kernels)
    steps = int(np.ceil(np.log(1e-10) / np.log(max(slowest, 0.1))))
    gradient = np.asarray([1.3, -0.2])
    visited = _run(optimizer, np.zeros(2), [gradient] * steps, [RATE] * steps)
    settled = (visited[-2] - visited[-1]) / RATE
    expect_close("settled update", settled, claim.gain * gradient, _tolerance(claim))


def every_update_is_its_sum_of_gradients(optimizer: Optimizer, claim: Claim) -> None:
    """Every update is the claimed weighted sum of random past gradients."""
    _follow("θ", optimizer, claim, _noise(1, 3))


def a_changing_rate_acts_as_claimed(optimizer: Optimizer, claim: Claim) -> None:
    """The rate acts where claimed.

    Inside the buffer, old gradients keep their old rate; outside, they take the new
    one. The rate warms up from zero, is 0 for one step, and drops.
    """
    step = np.arange(STEPS)
    rates = 0.5 * np.minimum(step / 7, 1) * np.where(step < 25, 1, 0.1) * (step != 18)
    gradients = _noise(2, 2)
    want = claims.path(claim, _given(gradients), np.zeros(2), rates)
    other = claim._replace(rate_inside=not claim.rate_inside)
    contrary = claims.path(other, _given(gradients), np.zeros(2), rates)
    got = _run(optimizer, np.zeros(2), gradients, rates)
    if np.allclose(got, contrary, _tolerance(claim), _tolerance(claim)):
        found = "outside" if claim.rate_inside else "inside"
        raise AssertionError(f"the learning rate is {found}, against the claim")
    expect_close("θ under a changing rate", got, want, _tolerance(claim))


def a_quadratic_follows_its_closed_form(optimizer: Optimizer, claim: Claim) -> None:
    """Iterates follow z ← M·z, in the oscillating and in the overdamped regime."""
    _needs_constant_coefficients(claim)
    for share in (0.003, 0.11, 0.61):
        rate = share * claims.stability_limit(claim, 2.3)
        matrix = claims.step_matrix(claim, rate, 2.3)
        first = _first_step(claim, rate, 2.3)
        want = [(np.linalg.matrix_power(matrix, t) @ first)[0] for t in range(STEPS)]
        got = _descend(optimizer, -1.9, 2.3, rate, STEPS)[1:]
        expect_close("x", got, -1.9 * np.asarray(want), _tolerance(claim))


def the_quadratic_invariant_shrinks_by_q(optimizer: Optimizer, claim: Claim) -> None:
    """Every step turns I = x² − p·x·x₋₁ + q·x₋₁² into q·I, in any regime."""
    _needs_constant_coefficients(claim)
    if len(claim.kernels) != 1:
        raise DoesNotApply("it has several buffers, the invariant is of one")
    beta, gain, from_buffer, from_gradient = np.asarray(claim.kernels[0], np.float64)
    for share, start, curvature in ((0.02, 3e-4, 1.7), (0.4, 1.0, 0.6), (0.9, 7e3, 5)):
        rate = share * claims.stability_limit(claim, curvature)
        h = rate * (curvature + claim.coupled_decay)
        decay = 1 - rate * claim.decoupled_decay
        p = decay + beta - h * (gain * from_buffer + from_gradient)
        q = beta * (decay - h * from_gradient)
        x = _descend(optimizer, start, curvature, rate, STEPS)[1:]
        invariant = x[1:] ** 2 - p * x[1:] * x[:-1] + q * x[:-1] ** 2
        error = invariant[1:] - q * invariant[:-1]
        scale = x[2:] ** 2 + x[1:-1] ** 2 + x[:-2] ** 2
        worst = float(np.max(np.abs(error) / scale))
        expect(worst < 1e-9, f"off by {worst:.1e} of x² at h = {h:.3g}")


def it_is_stable_up_to_its_limit_and_not_beyond(
    optimizer: Optimizer, claim: Claim
) -> None:
    """x shrinks at a rate 5% below the limit and grows 5% above, on curvature 1.9."""
    _needs_constant_coefficients(claim)
    limit = claims.stability_limit(claim, 1.9)
    below = np.abs(_descend(optimizer, 0.7, 1.9, 0.95 * limit, 80))
    above = np.abs(_descend(optimizer, 0.7, 1.9, 1.05 * limit, 80))
    expect(below[-9:].max() < below[:9].max(), f"it diverges below {limit:.4g}")
    expect(above[-9:].max() > above[:9].max(), f"it converges above {limit:.4g}")


def gradients_times_two_to_the_k_scale_updates_exactly(
    optimizer: Optimizer, claim: Claim
) -> None:
    """Scaling by a power of two is exact in floating point, so θ must scale exactly."""
    del claim
    gradients, start = _noise(3, 4), np.zeros(4)
    once = _run(optimizer, start, gradients, [RATE] * STEPS)
    scaled = _run(optimizer, start, 2.0**-7 * gradients, [RATE] * STEPS)
    expect(np.array_equal(2.0**-7 * once, scaled), "the scaled updates differ in bits")


def gradients_superpose(optimizer: Optimizer, claim: Claim) -> None:
    """The updates of a sum are the sum of the updates."""
    start, rates = np.zeros(4), [RATE] * STEPS
    first, second = _noise(4, 4), _noise(5, 4)
    apart = (_run(optimizer, start, g, rates) for g in (first, second))
    together = _run(optimizer, start, first + second, rates)
    expect_close("θ", together, sum(apart), _tolerance(claim))


def zero_gradients_move_nothing_but_what_is_in_motion(
    optimizer: Optimizer, claim: Claim
) -> None:
    """A fresh θ stays, bit for bit; after a gradient, the buffer keeps moving it."""
    _needs_no_decay(claim)
    start, zero = np.asarray([0.3, -1e-9]), np.zeros(2)
    step = optimizer(start)
    expect(np.array_equal(step(zero, RATE), start), "zero gradients moved a fresh θ")
    pushed = step(np.ones(2), RATE)
    moved_on = step(zero, RATE)
    expect((pushed != moved_on).all(), "a zero gradient stopped what was in motion")


EQUATIONS = (
    an_impulse_fades_by_beta_a_step,
    a_constant_gradient_settles_at_the_gain,
    every_update_is_its_sum_of_gradients,
    a_changing_rate_acts_as_claimed,
    a_quadratic_follows_its_closed_form,
    the_quadratic_invariant_shrinks_by_q,
    it_is_stable_up_to_its_limit_and_not_beyond,
    gradients_times_two_to_the_k_scale_updates_exactly,
    gradients_superpose,
    zero_gradients_move_nothing_but_what_is_in_motion,
)


def _run(optimizer: Optimizer, start, gradients, rates) -> np.ndarray:
    """θ after every step, of shape [steps, …]."""
    step = optimizer(start)
    return np.stack([step(g, float(r)) for g, r in zip(gradients, rates, strict=True)])


def _descend(
    optimizer: Optimizer, start: float, curvature: float, rate: float, steps: int
) -> np.ndarray:
    """x before and after every step on curvature·x²/2, of shape [1 + steps]."""
    visited = [np.asarray([start])]
    step = optimizer(visited[0])
    for _ in range(steps):
        visited.append(step(curvature * visited[-1], rate))
    return np.concatenate(visited)


def _first_step(claim: Claim, rate: float, curvature: float) -> np.ndarray:
    """z after the first step from x = 1 and empty buffers."""
    if claim.first_gain is not None:
        gain = claim.first_gain
        kernels = tuple(k._replace(gain=gain) for k in claim.kernels)
        claim = claim._replace(kernels=kernels)
    return claims.step_matrix(claim, rate, curvature)[:, 0]


def _follow(what: str, optimizer: Optimizer, claim: Claim, gradients) -> None:
    """Raises unless θ follows the claimed path under these gradients."""
    start, rates = np.full(gradients.shape[1:], 0.4), np.full(len(gradients), RATE)
    want = claims.path(claim, _given(gradients), start, rates)
    got = _run(optimizer, start, gradients, rates)
    expect_close(what, got, want, _tolerance(claim))


def _given(gradients: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    return lambda theta, step: gradients[step]


def _noise(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(STEPS, size))


def _tolerance(claim: Claim) -> float:
    """Looser for a debiased average, whose weight may be in float32."""
    return 2e-6 if claim.debiased else 1e-10


def _needs_no_decay(claim: Claim) -> None:
    if claim.coupled_decay or claim.decoupled_decay:
        raise DoesNotApply("its decay moves θ without a gradient")


def _needs_constant_coefficients(claim: Claim) -> None:
    if claim.debiased:
        raise DoesNotApply("its debiasing changes from step to step")
