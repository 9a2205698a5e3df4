"""Linear methods and what each claims to compute, for the tests of the public kit."""

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
    """A whole optimizer, learning rate included, and its claim."""

    build: Callable[[Any, Any], optax.GradientTransformation]  # of rate and β
    claim: Callable[[Any], Claim]  # of β


def _outside(build: Callable[..., Any], **options: Any) -> Callable[[Any, Any], Any]:
    """The learning rate follows the method."""

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


def _but(claim: Callable[[Any], Claim], **fields: Any) -> Callable[[Any], Claim]:
    return lambda beta: claim(beta)._replace(**fields)


LINEAR = {
    "ema": Linear(_outside(ema), average_claim),
    "ema, debiased": Linear(
        _outside(ema, debias=True), _but(average_claim, debiased=True)
    ),
    "heavy_ball": Linear(_outside(heavy_ball), heavy_ball_claim),
    "heavy_ball, dampened": Linear(
        _outside(heavy_ball, dampening=0.3),
        lambda beta: Claim((Coefficients(beta, 0.7),), first_gain=1.0),
    ),
    "heavy_ball, nesterov": Linear(_outside(heavy_ball, nesterov=True), nesterov_claim),
    "qhm": Linear(
        _outside(qhm, nu=0.35),
        lambda beta: Claim((Coefficients(beta, 1 - beta, 0.35, 0.65),)),
    ),
    "aggmo": Linear(
        _outside(lambda beta: aggmo((0.6, beta, 0.6))),
        lambda beta: Claim(
            tuple(Coefficients(each, 1.0, 1 / 3) for each in (0.6, beta, 0.6))
        ),
    ),
    "aggmo of one": Linear(_outside(lambda beta: aggmo([beta])), heavy_ball_claim),
    "keras": Linear(keras, _but(heavy_ball_claim, rate_inside=True)),
    "keras, nesterov": Linear(
        partial(keras, nesterov=True), _but(nesterov_claim, rate_inside=True)
    ),
    "nesterov": Linear(nesterov, _but(nesterov_claim, rate_inside=True)),
    "sgd": Linear(sgd, heavy_ball_claim),
    "sgd, nesterov": Linear(partial(sgd, nesterov=True), nesterov_claim),
    "sgd, coupled": Linear(
        partial(sgd, weight_decay=0.07), _but(heavy_ball_claim, coupled_decay=0.07)
    ),
    "sgd, decoupled": Linear(
        partial(sgd, weight_decay=0.07, decay="decoupled"),
        _but(heavy_ball_claim, decoupled_decay=0.07),
    ),
}
