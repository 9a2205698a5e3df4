"""The settings of each library that `conformance` examines, with their claims."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

import optax_momentum as om
from experiments.peers.optimizer import PeerLibrary
from optax_momentum.testing import Claim, DoesNotApply, Optimizer, stepping

BETA = 0.83
DECAY = 0.07

HEAVY_BALL = Claim((om.Coefficients(BETA, 1.0),))
NESTEROV = Claim((om.Coefficients(BETA, 1.0, BETA, 1.0),))
AVERAGE = Claim((om.Coefficients(BETA, 1 - BETA),))
DEBIASED = AVERAGE._replace(debiased=True)
DAMPENED = Claim((om.Coefficients(BETA, 0.7),), first_gain=1.0)
INSIDE = HEAVY_BALL._replace(rate_inside=True)
NESTEROV_INSIDE = NESTEROV._replace(rate_inside=True)
COUPLED = HEAVY_BALL._replace(coupled_decay=DECAY)
DECOUPLED = HEAVY_BALL._replace(decoupled_decay=DECAY)


class Subject(NamedTuple):
    """One setting of one library; None marks what it doesn't have."""

    name: str
    claim: Claim | None = None
    optimizer: Optimizer | None = None  # checked against the claim's equations
    transformation: optax.GradientTransformation | None = None  # for the contract
    linear: bool = True  # see `check_contract`
    build: Callable[[ArrayLike], object] | None = None  # makes the method from β


def optax_momentum_() -> list[Subject]:
    """All public methods, with the options that change what they compute."""
    k_betas = (0.6, BETA, 0.6)
    mean = Claim(tuple(om.Coefficients(beta, 1.0, 1 / 3) for beta in k_betas))
    quasi = Claim((om.Coefficients(BETA, 1 - BETA, 0.35, 0.65),))
    steps = [
        _outside("ema", AVERAGE, om.ema),
        _outside("ema, debiased", DEBIASED, om.ema, debias=True),
        _outside("heavy_ball", HEAVY_BALL, om.heavy_ball),
        _outside("heavy_ball, dampened", DAMPENED, om.heavy_ball, dampening=0.3),
        _outside("heavy_ball, nesterov", NESTEROV, om.heavy_ball, nesterov=True),
        _outside("qhm", quasi, om.qhm, nu=0.35),
        _outside("aggmo", mean, lambda beta: om.aggmo((0.6, beta, 0.6))),
        _inside("keras", INSIDE, om.keras),
        _inside("keras, nesterov", NESTEROV_INSIDE, om.keras, nesterov=True),
        _inside("nesterov", NESTEROV_INSIDE, om.nesterov),
        _inside("sgd", HEAVY_BALL, om.sgd),
        _inside("sgd, nesterov", NESTEROV, om.sgd, nesterov=True),
    ]
    apart = {"weight_decay": DECAY, "decay": "decoupled"}
    decays = [
        _inside("sgd, coupled weight decay", COUPLED, om.sgd, weight_decay=DECAY),
        _inside("sgd, decoupled weight decay", DECOUPLED, om.sgd, **apart),
    ]
    guarded = _outside("guard", HEAVY_BALL, lambda beta: om.guard(om.heavy_ball(beta)))
    accumulated = om.linear_momentum(om.accumulate(om.heavy_ball_coefficients(BETA), 2))
    inner = om.keras(0.1, BETA)
    wrappers = {
        "accumulate": accumulated,
        "srsgd": om.srsgd(0.1, restart_every=3),
        "adaptive_restart": om.adaptive_restart(om.heavy_ball(BETA)),
        "outer_loop": om.outer_loop(inner, om.sgd(0.7, 0.6, nesterov=True), 3),
        "parameter_ema": optax.chain(inner, om.parameter_ema(0.9)),
        "polyak_average": optax.chain(inner, om.polyak_average()),
        "lawa": optax.chain(inner, om.lawa(2)),
    }
    return [
        *steps,
        *(subject._replace(linear=False) for subject in decays),
        guarded._replace(linear=False, build=None),
        *(Subject(n, transformation=t, linear=False) for n, t in wrappers.items()),
    ]


def optax_() -> list[Subject]:
    """Optax's momentum."""
    return [
        _outside("trace", HEAVY_BALL, optax.trace),
        _outside("trace, nesterov", NESTEROV, optax.trace, nesterov=True),
        _outside("ema", DEBIASED, optax.ema),
        _outside("ema, not debiased", AVERAGE, optax.ema, debias=False),
        _inside("sgd", HEAVY_BALL, lambda rate, beta: optax.sgd(rate, momentum=beta)),
    ]


def pytorch(peer: PeerLibrary) -> list[Subject]:
    """`torch.optim.SGD`."""
    return [
        _peer("SGD", HEAVY_BALL, peer),
        _peer("SGD, dampened", DAMPENED, peer, dampening=0.3),
        _peer("SGD, nesterov", NESTEROV, peer, nesterov=True),
        _peer("SGD, weight decay", COUPLED, peer, weight_decay=DECAY),
    ]


def keras_(peer: PeerLibrary) -> list[Subject]:
    """`keras.optimizers.SGD`."""
    decayed = INSIDE._replace(decoupled_decay=DECAY)
    return [
        _peer("SGD", INSIDE, peer),
        _peer("SGD, nesterov", NESTEROV_INSIDE, peer, nesterov=True),
        _peer("SGD, weight decay", decayed, peer, weight_decay=DECAY),
    ]


def _outside(
    name: str,
    claim: Claim,
    method: Callable[..., optax.GradientTransformation],
    **options: float | bool | str,
) -> Subject:
    """Examines a transformation without a learning rate, which the optimizer adds."""
    build = partial(method, **options)
    transformation = build(BETA)
    whole = stepping(
        lambda rate: optax.chain(transformation, optax.scale_by_learning_rate(rate))
    )
    return Subject(name, claim, whole, transformation, build=build)


def _inside(
    name: str,
    claim: Claim,
    method: Callable[..., optax.GradientTransformation],
    **options: float | bool | str,
) -> Subject:
    """Examines a transformation that has its own learning rate."""
    build = partial(method, **options)
    optimizer = stepping(lambda rate: build(rate, BETA))
    transformation = build(0.25, BETA)
    return Subject(name, claim, optimizer, transformation, build=partial(build, 0.25))


def _peer(
    name: str, claim: Claim, peer: PeerLibrary, **options: float | bool | str
) -> Subject:
    """Examines a library that has none of JAX's trees, dtypes and tracers."""

    def build(beta: ArrayLike) -> Optimizer:
        if jnp.ndim(beta) > 0:
            raise DoesNotApply("its options are plain numbers")
        return peer.build(momentum=beta, **options)

    optimizer = peer.build(momentum=BETA, **options)
    return Subject(name, claim, optimizer, build=build)
