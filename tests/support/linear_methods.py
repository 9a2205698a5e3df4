"""Linear methods and the claim of each, for tests of `optax_momentum.testing`."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import optax

from optax_momentum import (
    Coefficients,
    aggmo,
    ema,
    heavy_ball,
    keras,
    nesterov,
    qhm,
    sgd,
)
from optax_momentum.testing import Claim


class Linear(NamedTuple):
    """A complete optimizer, including the learning rate, and its claim."""

    build: Callable[[Any, Any], optax.GradientTransformation]  # rate, β → optimizer
    claim: Callable[[Any], Claim]  # β → claim


def _then_rate(build: Callable[..., Any], **options: Any) -> Callable[[Any, Any], Any]:
    """Returns a builder of the method followed by a learning rate."""

    def optimizer(rate: Any, beta: Any) -> optax.GradientTransformation:
        method = build(beta, **options)
        return optax.chain(method, optax.scale_by_learning_rate(rate))

    return optimizer


def average_claim(beta: Any) -> Claim:
    return Claim((Coefficients(beta, 1 - beta),))


def heavy_ball_claim(beta: Any) -> Claim:
    return Claim((Coefficients(beta, 1.0),))


def nesterov_claim(beta: Any) -> Claim:
    return Claim((Coefficients(beta, 1.0, beta, 1.0),))


def _with(claim: Callable[[Any], Claim], **fields: Any) -> Callable[[Any], Claim]:
    """Returns the claim with other values of these fields."""
    return lambda beta: claim(beta)._replace(**fields)


LINEAR = {
    "ema": Linear(_then_rate(ema), average_claim),
    "ema, debiased": Linear(
        _then_rate(ema, debias=True), _with(average_claim, debiased=True)
    ),
    "heavy_ball": Linear(_then_rate(heavy_ball), heavy_ball_claim),
    "heavy_ball, dampened": Linear(
        _then_rate(heavy_ball, dampening=0.3),
        lambda beta: Claim((Coefficients(beta, 0.7),), first_gain=1.0),
    ),
    "heavy_ball, nesterov": Linear(
        _then_rate(heavy_ball, nesterov=True), nesterov_claim
    ),
    "qhm": Linear(
        _then_rate(qhm, nu=0.35),
        lambda beta: Claim((Coefficients(beta, 1 - beta, 0.35, 0.65),)),
    ),
    "aggmo": Linear(
        _then_rate(lambda beta: aggmo((0.6, beta, 0.6))),
        lambda beta: Claim(
            tuple(Coefficients(b, 1.0, 1 / 3) for b in (0.6, beta, 0.6))
        ),
    ),
    "aggmo, one beta": Linear(_then_rate(lambda beta: aggmo([beta])), heavy_ball_claim),
    "keras": Linear(keras, _with(heavy_ball_claim, rate_inside=True)),
    "keras, nesterov": Linear(
        partial(keras, nesterov=True), _with(nesterov_claim, rate_inside=True)
    ),
    "nesterov": Linear(nesterov, _with(nesterov_claim, rate_inside=True)),
    "sgd": Linear(sgd, heavy_ball_claim),
    "sgd, nesterov": Linear(partial(sgd, nesterov=True), nesterov_claim),
    "sgd, coupled": Linear(
        partial(sgd, weight_decay=0.07), _with(heavy_ball_claim, coupled_decay=0.07)
    ),
    "sgd, decoupled": Linear(
        partial(sgd, weight_decay=0.07, decay="decoupled"),
        _with(heavy_ball_claim, decoupled_decay=0.07),
    ),
}
