"""Bad arguments are refused by an error that names call, value, bound and remedy."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_momentum import (
    adaptive_restart,
    aggmo,
    as_qhm,
    ema,
    heavy_ball,
    keras,
    linear_momentum,
    nesterov,
    qhm,
    schedules,
    srsgd,
)

NAN, INF = float("nan"), float("inf")
BETA = "share of the buffer that a step keeps; `linear_momentum` takes coefficients"
DAMPENING = "share of each gradient that is kept out of the buffer; 0 lets all of it in"
RATE = "To climb instead of descend, negate the gradients before this call."
SCALAR = "For several values at once, `jax.vmap` over the function that builds"


BAD_ARGUMENTS: dict[str, tuple[Callable, str, str]] = {
    f"{name} {value}": (build, message, remedy)
    for name, build_with, bound, remedy, values in [
        ("ema: beta", lambda v: ema(v), "[0, 1)", BETA, [1, 1.5, -0.1, NAN, INF]),
        (
            "heavy_ball: beta",
            lambda v: heavy_ball(v),
            "[0, 1)",
            BETA,
            [1.0, 2, -0.5, NAN, np.float64(1.5), jnp.asarray(1.5)],
        ),
        ("keras: beta", lambda v: keras(0.1, v), "[0, 1)", BETA, [1.0, -0.5, NAN]),
        (
            "heavy_ball: dampening",
            lambda v: heavy_ball(0.9, dampening=v),
            "[0, 1]",
            DAMPENING,
            [-0.1, 1.1, NAN, jnp.asarray(1.5)],
        ),
        (
            "keras: learning_rate",
            lambda v: keras(v, 0.9),
            "[0, inf)",
            RATE,
            [-0.1, NAN, INF, jnp.asarray(-1.5)],
        ),
    ]
    for value in values
    for build, message in [
        (
            lambda build_with=build_with, value=value: build_with(value),
            f"{name} must lie in {bound}, got {value!s}.",
        )
    ]
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_value_out_of_range_is_refused_at_construction(case):
    build, message, remedy = BAD_ARGUMENTS[case]
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        build()
    assert remedy in str(raised.value)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda v: ema(v), "ema: beta"),
        (lambda v: ema(0.9, debias=v), "ema: debias"),
        (lambda v: heavy_ball(v), "heavy_ball: beta"),
        (lambda v: heavy_ball(0.9, dampening=v), "heavy_ball: dampening"),
        (lambda v: heavy_ball(0.9, nesterov=v), "heavy_ball: nesterov"),
        (lambda v: keras(v, 0.9), "keras: learning_rate"),
        (lambda v: keras(0.1, v), "keras: beta"),
        (lambda v: keras(0.1, 0.9, nesterov=v), "keras: nesterov"),
        (lambda v: linear_momentum(lambda _: v, debias=v), "linear_momentum: debias"),
        (
            lambda v: keras(0.1, 0.9, momentum_correction=v),
            "keras: momentum_correction",
        ),
        (lambda v: qhm(v, 0.7), "qhm: beta"),
        (lambda v: qhm(0.9, v), "qhm: nu"),
        (lambda v: aggmo([0.5, v]), "aggmo: betas[1]: beta"),
        (lambda v: nesterov(v, 0.9), "nesterov: learning_rate"),
        (lambda v: nesterov(0.1, v), "nesterov: beta"),
        (lambda v: srsgd(0.1, v), "srsgd: restart_every"),
        (
            lambda v: adaptive_restart(ema(0.9), min_steps=v),
            "adaptive_restart: min_steps",
        ),
        (lambda v: schedules.demon(v, 9), "demon: beta"),
        (lambda v: as_qhm.accsgd(0.1, kappa=v), "accsgd: kappa"),
    ],
)
def test_what_is_no_real_scalar_is_refused_by_name(build, name):
    for wrong, message in [
        ("0.9", "must be a number or a traced scalar, got '0.9' of type str."),
        (None, "must be a number or a traced scalar, got None of type NoneType."),
        (0.5j, "must be real, got 0.5j."),
    ]:
        with pytest.raises(TypeError, match=re.escape(f"{name} {message}")):
            build(wrong)
    with pytest.raises(ValueError, match=re.escape(f"{name} must be a scalar")) as e:
        build(np.ones(2))
    assert "got shape (2,)" in str(e.value) and SCALAR in str(e.value)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: ema(0.9, debias=2), "ema: debias"),
        (lambda: heavy_ball(0.9, nesterov=0.5), "heavy_ball: nesterov"),
        (lambda: keras(0.1, 0.9, nesterov=NAN), "keras: nesterov"),
    ],
)
def test_switches_are_on_or_off(build, name):
    with pytest.raises(ValueError, match=f"{name} must be True or False, got"):
        build()


def test_nesterov_with_dampening_is_refused():
    message = "heavy_ball: nesterov=True needs dampening=0, got 0.3; PyTorch defines "
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        heavy_ball(0.9, dampening=0.3, nesterov=True)
    assert "Drop one of the two." in str(raised.value)
    heavy_ball(0.9, dampening=0.0, nesterov=True)


@pytest.mark.parametrize(
    ("transformation", "name"),
    [
        (ema(lambda step: 1.5), "ema: beta"),
        (heavy_ball(lambda step: jnp.asarray(-0.5)), "heavy_ball: beta"),
        (keras(lambda step: NAN, 0.9), "keras: learning_rate"),
    ],
)
def test_a_schedule_out_of_range_is_refused_at_the_first_update(transformation, name):
    state = transformation.init(jnp.zeros(2))
    with pytest.raises(ValueError, match=f"{name} must lie in"):
        transformation.update(jnp.zeros(2), state)


def test_tracers_are_trusted():
    def first(beta):
        tx = ema(beta)
        return tx.update(1.0, tx.init(1.0))[0]

    assert jax.jit(first)(1.5) == -0.5
    np.testing.assert_array_equal(jax.vmap(first)(jnp.asarray([0.5, 1.5])), [0.5, -0.5])
