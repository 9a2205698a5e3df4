"""Every transformation takes extra arguments of `update`; wrappers hand them on."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType

import optax_momentum as om
from optax_momentum import diagnostics, testing

PARAMS = jnp.asarray([0.5, -1.0])
GRADIENT = jnp.asarray([0.3, 0.7])
METHOD = om.sgd(0.1, 0.8)


def shard(inner: Any) -> Any:
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    plan = om.sharding_plan(inner, PARAMS, mesh, "data")
    return om.sharded(inner, plan)


WRAPPERS = {
    "guard": om.guard,
    "adaptive_restart": om.adaptive_restart,
    "outer_loop": lambda inner: om.outer_loop(inner, METHOD, 2),
    "sharded": shard,
    "telemetry": diagnostics.telemetry,
}
TRANSFORMATIONS = {
    "linear_momentum": om.linear_momentum(lambda step: om.Coefficients(0.8, 1.0)),
    "accumulate": om.linear_momentum(om.accumulate(om.ema_coefficients(0.8), 2)),
    "ema": om.ema(0.8),
    "heavy_ball": om.heavy_ball(0.8),
    "keras": om.keras(0.1, 0.8),
    "nesterov": om.nesterov(0.1, 0.8),
    "two_point_nesterov": om.two_point_nesterov(0.1, 0.8),
    "qhm": om.qhm(0.8),
    "aggmo": om.aggmo(),
    "srsgd": om.srsgd(0.1),
    "sgd": METHOD,
    "sgd, without beta": om.sgd(0.1),
    "parameter_ema": om.parameter_ema(),
    "polyak_average": om.polyak_average(),
    "lawa": om.lawa(2),
}


@pytest.mark.parametrize("name", [*TRANSFORMATIONS, *WRAPPERS])
def test_extra_arguments_are_accepted_and_change_nothing(name):
    wrapper = WRAPPERS.get(name, lambda inner: TRANSFORMATIONS[name])
    transformation: Any = wrapper(METHOD)
    assert isinstance(transformation, optax.GradientTransformationExtraArgs)
    state = transformation.init(PARAMS)
    want = transformation.update(GRADIENT, state, PARAMS)
    got = transformation.update(GRADIENT, state, PARAMS, value=3.0, anything="else")
    testing.expect_same_bits(name, got, want)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("given", [{}, {"value": 3.0, "other": "text"}])
def test_a_wrapper_hands_on_what_it_is_given(wrap, given):
    received = []

    def update(updates, state, params=None, **extra_args):
        received.append(extra_args)
        return METHOD.update(updates, state, params)

    inner = optax.GradientTransformationExtraArgs(METHOD.init, update)
    wrapped = wrap(inner)
    wrapped.update(GRADIENT, wrapped.init(PARAMS), PARAMS, **given)
    assert received and all(extra_args == given for extra_args in received)
